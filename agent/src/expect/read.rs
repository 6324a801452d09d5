//! Reads a file of tests, strictly: a field that is not known, or a test that expects nothing, is an error.
//!
//! Never looks at the objects: whether what a test names is there, `callers` finds out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ambit_core::Protocol;

use crate::control::fields::{Fields, filled_list, flag, list, text};
use crate::control::finding::{Finding, Findings};
use crate::control::node::{Cursor, Node, Origin, Value, read_documents};

const TOP: [&str; 2] = ["objects", "tests"];
const TEST: [&str; 8] = ["name", "to", "port", "ports", "protocol", "allow", "refuse", "only"];

/// A file of tests.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Where it stands, as a finding without a message.
    pub at: Finding,
    /// The objects that it speaks of, as written: relative to the file.
    pub objects: Vec<PathBuf>,
    /// The tests.
    pub tests: Vec<Test>,
}

/// A test: who reaches one thing, and who does not.
#[derive(Clone, Debug)]
pub struct Test {
    /// Where it stands, as a finding without a message.
    pub at: Finding,
    /// Its name.
    pub name: String,
    /// What is called.
    pub to: Written,
    /// On which ports.
    pub ports: Vec<u16>,
    /// The protocol.
    pub protocol: Protocol,
    /// Who must reach it; absent: nothing is said.
    pub allow: Option<Vec<Written>>,
    /// Who must not.
    pub refuse: Vec<Written>,
    /// Whether nobody but `allow` may reach it.
    pub only: bool,
}

/// A name and where it stands, as a finding without a message.
#[derive(Clone, Debug)]
pub struct Written {
    /// The name.
    pub text: String,
    /// Where it stands.
    pub at: Finding,
}

/// Reads a file of tests; whatever is wrong with it goes into `findings`, and then there is none.
pub fn read(file: &Path, bytes: &[u8], findings: &mut Findings) -> Option<Sheet> {
    let errors = findings.errors.len();
    let file: Arc<Path> = Arc::from(file);
    let documents = read_documents(&file, bytes, &mut findings.errors);
    if findings.errors.len() > errors {
        return None;
    }
    let origin = Origin { file: Arc::clone(&file), prefix: String::new() };
    let documents: Vec<&Node> = documents.iter().filter(|node| node.value != Value::Null).collect();
    let [document] = documents.as_slice() else {
        findings.error(match documents.get(1) {
            Some(second) => Cursor::at_object(&origin, second)
                .finding("a second document: a file of tests has one")
                .with_hint("put its tests under `tests` of the first"),
            None => Finding::about_file(&*file, "the file holds no tests").with_hint("write `tests: [...]`"),
        });
        return None;
    };
    let cursor = Cursor::at_object(&origin, document);
    cursor.find_duplicate_keys(&mut findings.errors);
    if findings.errors.len() > errors {
        return None;
    }
    let sheet = read_sheet(&cursor, findings);
    sheet.filter(|_| findings.errors.len() == errors)
}

fn read_sheet(top: &Cursor<'_>, findings: &mut Findings) -> Option<Sheet> {
    let fields = Fields::of(top, &TOP, findings)?;
    let read_path = |item: &Cursor<'_>, findings: &mut Findings| text(item, findings).map(PathBuf::from);
    let objects = match fields.get("objects") {
        Some(objects) => filled_list(&objects, findings, read_path),
        None => Some(Vec::new()),
    };
    let Some(tests) = fields.get("tests") else {
        findings.error(top.finding("the file has no `tests`"));
        return None;
    };
    let tests = filled_list(&tests, findings, read_test);
    Some(Sheet { at: top.finding(""), objects: objects?, tests: tests? })
}

fn read_test(item: &Cursor<'_>, findings: &mut Findings) -> Option<Test> {
    let fields = Fields::of(item, &TEST, findings)?;
    let name = required(&fields, "name", findings).and_then(|name| written(&name, findings));
    let to = required(&fields, "to", findings).and_then(|to| written(&to, findings));
    let ports = read_ports(&fields, findings);
    let protocol = match fields.get("protocol") {
        Some(field) => read_protocol(&field, findings),
        None => Some(Protocol::default()),
    };
    let only = flag(fields.get("only"), findings);
    let allow = match fields.get("allow") {
        // Nobody is somebody to `only`.
        Some(field) if fields.get("only").is_some() => list(&field, findings, written).map(Some),
        Some(field) => filled_list(&field, findings, written).map(Some),
        None => Some(None),
    };
    let refuse = match fields.get("refuse") {
        Some(field) => filled_list(&field, findings, written),
        None => Some(Vec::new()),
    };
    if fields.has_unknown {
        return None;
    }
    if fields.get("allow").is_none() && fields.get("refuse").is_none() {
        let finding = item.finding("the test expects nothing");
        findings.error(finding.with_hint("name callers under `allow` or `refuse`"));
        return None;
    }
    if let (Some(field), None) = (fields.get("only"), fields.get("allow")) {
        let finding = field.finding("`only` speaks of those under `allow`, and there is no `allow`");
        findings.error(finding.with_hint("write `allow: []` if nobody may reach it"));
        return None;
    }
    Some(Test {
        at: item.finding(""),
        name: name?.text,
        to: to?,
        ports: ports?,
        protocol: protocol?,
        allow: allow?,
        refuse: refuse?,
        only: only?,
    })
}

/// Returns a field that every test has.
fn required<'a>(fields: &Fields<'a>, key: &str, findings: &mut Findings) -> Option<Cursor<'a>> {
    let field = fields.get(key);
    // A mistyped field has been reported already, and is more likely what is wrong.
    if field.is_none() && !fields.has_unknown {
        findings.error(fields.cursor.finding(format!("the test has no `{key}`")));
    }
    field
}

fn written(field: &Cursor<'_>, findings: &mut Findings) -> Option<Written> {
    let text = text(field, findings)?.trim();
    if text.is_empty() {
        findings.error(field.finding("the text is empty"));
        return None;
    }
    Some(Written { text: text.to_owned(), at: field.finding("") })
}

fn read_ports(fields: &Fields<'_>, findings: &mut Findings) -> Option<Vec<u16>> {
    match (fields.get("port"), fields.get("ports")) {
        (Some(port), None) => Some(vec![read_port(&port, findings)?]),
        (None, Some(ports)) => filled_list(&ports, findings, read_port),
        (Some(_), Some(ports)) => {
            findings.error(ports.finding("`port` and `ports`: write one of them"));
            None
        }
        (None, None) => {
            if !fields.has_unknown {
                findings.error(fields.cursor.finding("the test has neither `port` nor `ports`"));
            }
            None
        }
    }
}

fn read_port(field: &Cursor<'_>, findings: &mut Findings) -> Option<u16> {
    let port = match &field.node.value {
        Value::Integer(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
        _ => None,
    };
    if port.is_none() {
        findings.error(field.finding("expected a number from 1 to 65535"));
    }
    port
}

fn read_protocol(field: &Cursor<'_>, findings: &mut Findings) -> Option<Protocol> {
    let written = text(field, findings)?;
    let found = Protocol::ALL.into_iter().find(|protocol| protocol.as_str() == written);
    if found.is_none() {
        let finding = field.finding(format!("unknown protocol {written:?}"));
        findings.error(finding.with_hint("use TCP or UDP"));
    }
    found
}
