//! PeerAuthentication: who must prove an identity, as the mode of namespaces and pods.
//!
//! A workload's overrides its namespace's overrides the mesh's, the oldest within each. Only what one says is written: without
//! any, Istio is permissive, and a namespace that has a mode keeps it.

use std::collections::BTreeSet;

use ambit_core::{Mode, Selector};

use super::{is_written, read_selector};
use crate::control::convert::MODE_LABEL;
use crate::control::fields::{self, Fields};
use crate::control::finding::{Findings, did_you_mean};
use crate::control::node::Cursor;
use crate::import::Options;
use crate::import::ledger::{Ledger, ModeLabel};
use crate::import::ports;
use crate::import::report::refusal;
use crate::import::selection::Selection;
use crate::import::source::{Kind, Object, Sources};

const MODES: [&str; 4] = ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"];
/// Labels by which a namespace is in Istio's mesh.
const MEMBERS: [&str; 3] = ["istio-injection", "istio.io/rev", "istio.io/dataplane-mode"];

/// A PeerAuthentication, read.
struct Authentication<'a> {
    object: &'a Object,
    selector: Option<Selector>,
    /// Its mode; absent: that of what it overrides.
    mode: Option<Mode>,
    is_disabled: bool,
    /// The modes of single ports.
    ports: Vec<(Cursor<'a>, Option<Mode>)>,
}

/// Translates every PeerAuthentication.
pub(super) fn translate<'a>(
    sources: &'a Sources,
    options: &Options,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) {
    let read: Vec<Authentication<'a>> =
        sources.of(Kind::PeerAuthentication).filter_map(|object| read(object, findings)).collect();
    let is_root = |one: &&Authentication<'_>| one.object.namespace == options.root_namespace;
    for ignored in read.iter().filter(is_root).filter(|one| one.selector.is_some()) {
        let at = ignored.object.at(&["spec", "selector"]);
        let message = "Istio ignores a selector's modes in its root namespace, and so does this import";
        ledger.report.note(ignored.object, &at, message);
    }
    for one in read.iter().filter(|one| one.selector.is_none() && !one.ports.is_empty()) {
        let at = one.object.at(&["spec", "portLevelMtls"]);
        ledger.report.note(
            one.object,
            &at,
            "Istio ignores the modes of ports without a selector, and so does this import",
        );
    }
    let mesh =
        oldest(read.iter().filter(is_root).filter(|one| one.selector.is_none()).collect(), None, ledger);
    for namespace in members(sources, options, mesh.is_some()) {
        let of_namespace = |one: &&Authentication<'_>| one.object.namespace == namespace;
        let scope = read.iter().filter(of_namespace).filter(|one| one.selector.is_none()).collect();
        let own = oldest(scope, mesh.and_then(|mesh| mesh.mode), ledger);
        let decider = own.filter(|own| own.mode.is_some()).or(mesh.filter(|mesh| mesh.mode.is_some()));
        label_namespace(namespace, decider, sources, ledger);
        let inherited = decider.and_then(|decider| decider.mode);
        let workloads: Vec<&Authentication<'a>> =
            read.iter().filter(of_namespace).filter(|one| one.selector.is_some()).collect();
        label_pods(namespace, &workloads, inherited, sources, ledger);
    }
    if let Some(mesh) = mesh {
        let message =
            "written for the namespaces of the mesh that are in the input; others need the label too";
        ledger.report.note(mesh.object, &mesh.object.cursor(), message);
    }
}

/// Returns the namespaces whose mode is decided: those with policies, and those that say that they are in the mesh.
fn members<'a>(sources: &'a Sources, options: &Options, has_mesh_wide: bool) -> BTreeSet<&'a str> {
    let policies = sources
        .objects
        .iter()
        .filter(|object| matches!(object.kind, Kind::IstioAuthorization | Kind::PeerAuthentication))
        .map(|object| object.namespace.as_str());
    let labelled = sources
        .of(Kind::Namespace)
        .filter(|namespace| has_mesh_wide && is_member(namespace))
        .map(|namespace| namespace.name.as_str());
    policies.chain(labelled).filter(|namespace| *namespace != options.root_namespace).collect()
}

fn is_member(namespace: &Object) -> bool {
    MEMBERS
        .iter()
        .any(|label| namespace.labels.get(*label).is_some_and(|value| value != "disabled" && value != "none"))
}

/// Returns the one that is in force of one scope: the oldest, or the strictest where that is not known.
fn oldest<'r, 'a>(
    mut scope: Vec<&'r Authentication<'a>>,
    inherited: Option<Mode>,
    ledger: &mut Ledger<'a>,
) -> Option<&'r Authentication<'a>> {
    scope.sort_by_key(|one| (one.object.created.clone(), one.object.name.clone()));
    let first = *scope.first()?;
    let known = scope.iter().all(|one| one.object.created.is_some())
        && scope.get(1).is_none_or(|second| second.object.created != first.object.created);
    let winner = if known {
        first
    } else {
        scope.iter().copied().max_by_key(|one| one.mode.or(inherited)).unwrap_or(first)
    };
    for loser in scope.iter().filter(|one| !std::ptr::eq(**one, winner)) {
        let why = if known { "older" } else { "not younger as far as is known, and at least as strict" };
        let message = format!("not in force: {} is {why}", winner.object.titled_place());
        let at = loser.object.cursor();
        let hint = if known {
            "remove it"
        } else {
            "import what `kubectl get -o yaml` prints: it has creationTimestamps"
        };
        if loser.mode == winner.mode {
            ledger.report.note(loser.object, &at, message);
        } else {
            ledger.report.differs(loser.object, &at, message, hint);
        }
    }
    Some(winner)
}

fn label_namespace<'a>(
    namespace: &str,
    decider: Option<&Authentication<'a>>,
    sources: &'a Sources,
    ledger: &mut Ledger<'a>,
) {
    let Some((decider, mode)) = decider.and_then(|decider| Some((decider, decider.mode?))) else {
        let of_it =
            |object: &&Object| object.kind == Kind::IstioAuthorization && object.namespace == namespace;
        if let Some(object) = sources.objects.iter().find(of_it) {
            let message = format!(
                "no PeerAuthentication of the input covers the namespace {namespace}, which Istio takes for PERMISSIVE; no mode is \
                 written"
            );
            let hint = "policies are enforced once the namespace has the label ambit.dev/mode: strict, or permissive";
            let finding = object.cursor().finding(message).with_hint(hint);
            ledger.report.add(crate::import::report::Kind::Note, object, finding);
        }
        return;
    };
    let at = decider.object.at(&["spec", "mtls", "mode"]);
    if decider.is_disabled {
        let message = "DISABLE becomes permissive: callers that prove an identity are served too";
        ledger.report.differs(decider.object, &at, message, "");
    }
    let existing = sources.of(Kind::Namespace).find(|object| object.name == namespace);
    let existing = existing.and_then(|object| object.labels.get(MODE_LABEL));
    if mode == Mode::Permissive && existing.is_some_and(|value| Mode::parse(Some(value)).0 == Mode::Strict) {
        let message = format!("the namespace {namespace} has {MODE_LABEL}: strict already, and keeps it");
        ledger.report.differs(
            decider.object,
            &at,
            message,
            "change the label by hand, if permissive is meant",
        );
        return;
    }
    ledger.label(ModeLabel { pod: None, namespace: namespace.to_owned(), mode, from: decider.object });
}

/// Labels the pods of a namespace that have a mode of their own.
fn label_pods<'a>(
    namespace: &str,
    workloads: &[&Authentication<'a>],
    inherited: Option<Mode>,
    sources: &'a Sources,
    ledger: &mut Ledger<'a>,
) {
    let pods = || sources.of(Kind::Pod).filter(|pod| pod.namespace == namespace);
    let mut refused = Vec::new();
    for one in workloads {
        let selector = one.selector.clone().unwrap_or_default();
        let selection = Selection { namespace: Some(namespace.to_owned()), selector };
        let mode = one.mode.or(inherited);
        let differing =
            one.ports.iter().find(|(_, port)| or_permissive(port.or(mode)) != or_permissive(mode));
        let strictest = one.ports.iter().filter_map(|(_, port)| *port).chain(mode).max();
        let protects = strictest == Some(Mode::Strict) && inherited != Some(Mode::Strict);
        let finding = if let Some((at, _)) = differing {
            let message = "a port has a mode of its own, and a pod of ambit has one mode";
            Some(refusal(at, message, "choose one mode for the pod: label its template ambit.dev/mode"))
        } else if or_permissive(mode) != or_permissive(inherited)
            && !pods().any(|pod| selection.selector.matches(&pod.labels))
        {
            let message =
                "the mode of a selector becomes a label of its pods, and none of them is in the input";
            let hint = format!("label the pods' template {MODE_LABEL}: {}", mode.unwrap_or_default());
            Some(refusal(&one.object.at(&["spec", "selector"]), message, &hint))
        } else {
            None
        };
        let Some(finding) = finding else { continue };
        refused.push(one.object.name.as_str());
        if protects {
            ledger.refuse_protection(one.object, finding, selection);
        } else {
            ledger.refuse(one.object, finding);
        }
    }
    let mut told = BTreeSet::new();
    for pod in pods() {
        let selects = |one: &&&Authentication<'_>| {
            one.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels))
        };
        let of_pod: Vec<&Authentication<'a>> = workloads.iter().filter(selects).copied().collect();
        let Some(one) = oldest(of_pod, inherited, ledger) else { continue };
        if refused.contains(&one.object.name.as_str()) {
            continue;
        }
        let Some(mode) = one.mode.filter(|mode| Some(*mode) != inherited) else { continue };
        ledger.label(ModeLabel {
            pod: Some(pod.name.clone()),
            namespace: namespace.to_owned(),
            mode,
            from: one.object,
        });
        if told.insert(one.object.name.as_str()) {
            let message = format!(
                "the label is written for the pods of the input; new ones have it from their template: {mode}"
            );
            let hint = "put it into the template of the Deployment too";
            ledger.report.differs(one.object, &one.object.at(&["spec", "selector"]), message, hint);
        }
    }
}

/// Returns what Istio takes for the mode where nothing says one.
fn or_permissive(mode: Option<Mode>) -> Mode {
    mode.unwrap_or(Mode::Permissive)
}

fn read<'a>(object: &'a Object, findings: &mut Findings) -> Option<Authentication<'a>> {
    let spec = object.at(&["spec"]);
    let written = object.cursor().field("spec").filter(is_written).is_some();
    if written {
        Fields::of(&spec, &["selector", "mtls", "portLevelMtls"], findings)?;
    }
    let get = |key: &str| spec.field(key).filter(|_| written).filter(is_written);
    let selector = match get("selector") {
        Some(field) => {
            Some(read_selector(Some(field), findings)?).filter(|read| *read != Selector::default())
        }
        None => None,
    };
    let (mode, is_disabled) = match get("mtls") {
        Some(field) => read_mode(&field, findings)?,
        None => (None, false),
    };
    let mut ports = Vec::new();
    let field = get("portLevelMtls");
    for (entry, field) in
        field.iter().flat_map(|field| field.entries().map(move |entry| (entry, field.enter(entry))))
    {
        if ports::parse(&entry.key).is_none() {
            findings.error(field.finding(format!("{:?} is no port", entry.key)));
        }
        let (mode, _) = read_mode(&field, findings)?;
        ports.push((field, mode));
    }
    Some(Authentication { object, selector, mode, is_disabled, ports })
}

/// Reads `mode` of a mapping: absent and UNSET inherit.
fn read_mode(field: &Cursor<'_>, findings: &mut Findings) -> Option<(Option<Mode>, bool)> {
    let known = Fields::of(field, &["mode"], findings)?;
    let Some(field) = known.get("mode").filter(is_written) else { return Some((None, false)) };
    match fields::text(&field, findings)? {
        "UNSET" => Some((None, false)),
        "STRICT" => Some((Some(Mode::Strict), false)),
        "PERMISSIVE" => Some((Some(Mode::Permissive), false)),
        "DISABLE" => Some((Some(Mode::Permissive), true)),
        other => {
            let hint = did_you_mean(other, &MODES).unwrap_or_else(|| format!("use {}", MODES.join(", ")));
            findings.error(field.finding(format!("unknown mode {other:?}")).with_hint(hint));
            None
        }
    }
}
