//! Reads the `accessControl` of a Configuration.
//!
//! Says which applications are allowed, as Dapr decides it. Knows nothing of service accounts.

use crate::control::fields::{self, Fields};
use crate::control::finding::{Finding, Findings};
use crate::control::node::{Cursor, Value};
use crate::import::ledger::Ledger;
use crate::import::report::refusal;
use crate::import::selection::Selection;
use crate::import::source::Object;

const LIST: [&str; 3] = ["defaultAction", "trustDomain", "policies"];
const POLICY: [&str; 5] = ["appId", "defaultAction", "trustDomain", "namespace", "operations"];
const OPERATION: [&str; 3] = ["name", "httpVerb", "action"];

/// An access control list.
pub(super) struct List<'a> {
    pub(super) object: &'a Object,
    pub(super) at: Cursor<'a>,
    /// Whether a caller that no policy names is allowed.
    pub(super) allows_others: bool,
    pub(super) applications: Vec<Application<'a>>,
}

/// A calling application.
pub(super) struct Application<'a> {
    pub(super) at: Cursor<'a>,
    pub(super) id: &'a str,
    pub(super) namespace: &'a str,
    pub(super) trust_domain: &'a str,
    /// Whether it is allowed what no operation names.
    allowed: bool,
    /// Whether each operation is allowed.
    operations: Vec<(Cursor<'a>, bool)>,
}

impl Application<'_> {
    /// Tells whether it may call.
    ///
    /// # Errors
    /// When that depends on what it calls, and `by_port` does not say that it then may not.
    pub(super) fn verdict(&self, by_port: bool) -> Result<bool, Finding> {
        let differing = self.operations.iter().find(|(_, allowed)| *allowed != self.allowed);
        match differing {
            None => Ok(self.allowed),
            Some(_) if by_port => Ok(false),
            Some((at, _)) => {
                let message = "operations are about requests, and ambit decides about connections";
                let hint = "import with --deny-l7=port to refuse the application altogether, or decide in the application";
                Err(refusal(at, message, hint))
            }
        }
    }

    pub(super) fn has_denied_operation(&self) -> bool {
        self.operations.iter().any(|(_, allowed)| !allowed)
    }

    pub(super) fn has_allowed_operation(&self) -> bool {
        self.operations.iter().any(|(_, allowed)| *allowed)
    }
}

/// Reads the list of a Configuration; one without restricts nobody.
pub(super) fn read<'a>(
    object: &'a Object,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) -> Option<List<'a>> {
    let at = object.at(&["spec", "accessControl"]);
    let spec = object.at(&["spec"]);
    let Some(field) = spec.field("accessControl").filter(|field| field.node.value != Value::Null) else {
        ledger.report.note(object, &object.cursor(), "without accessControl it restricts no caller");
        return None;
    };
    let known = Fields::of(&field, &LIST, findings)?;
    let default = optional(&known, "defaultAction", findings)?;
    let trust_domain = optional(&known, "trustDomain", findings)?;
    let policies = known.get("policies").filter(|field| field.node.value != Value::Null);
    let items: Vec<Cursor<'a>> = match &policies {
        Some(list) => {
            fields::list(list, findings, |_, _| Some(()))?;
            list.items().collect()
        }
        None => Vec::new(),
    };
    if default.is_none() && items.is_empty() {
        if trust_domain.is_some() && policies.is_none() {
            let message = "neither defaultAction nor policies: Dapr's documentation lets everyone call, its code nobody";
            let finding = refusal(&at, message, "write `defaultAction: deny`, or `allow`");
            let selection = Selection { namespace: Some(object.namespace.clone()), ..Selection::default() };
            ledger.refuse_protection(object, finding, selection);
        } else {
            ledger.report.note(object, &at, "an empty list restricts no caller");
        }
        return None;
    }
    if default.is_none() {
        ledger.report.note(object, &at, "without defaultAction, Dapr denies a caller that no policy names");
    }
    let allows_others = default.is_some_and(is_allow);
    let mut applications: Vec<Application<'a>> = Vec::new();
    for item in items {
        let application = read_application(&item, allows_others, findings)?;
        let same =
            |other: &&Application<'_>| (other.id, other.namespace) == (application.id, application.namespace);
        if let Some(first) = applications.iter().find(same) {
            let message = format!("{} has two policies, first at {}", application.id, first.at.path);
            findings.error(item.finding(message).with_hint("remove one: Dapr takes the last"));
            return None;
        }
        applications.push(application);
    }
    Some(List { object, at, allows_others, applications })
}

fn read_application<'a>(
    item: &Cursor<'a>,
    allows_others: bool,
    findings: &mut Findings,
) -> Option<Application<'a>> {
    let known = Fields::of(item, &POLICY, findings).filter(|known| !known.has_unknown)?;
    let id = required(&known, "appId", findings)?;
    let namespace = required(&known, "namespace", findings)?;
    let trust_domain = required(&known, "trustDomain", findings)?;
    let allowed = optional(&known, "defaultAction", findings)?.map_or(allows_others, is_allow);
    let mut operations = Vec::new();
    if let Some(list) = known.get("operations").filter(|field| field.node.value != Value::Null) {
        fields::list(&list, findings, |_, _| Some(()))?;
        for item in list.items() {
            let known = Fields::of(&item, &OPERATION, findings)?;
            let action = optional(&known, "action", findings)?;
            operations.push((item, action.is_some_and(is_allow)));
        }
    }
    Some(Application { at: item.clone(), id, namespace, trust_domain, allowed, operations })
}

/// Tells whether an action allows: only this word does, however it is written.
fn is_allow(action: &str) -> bool {
    action.eq_ignore_ascii_case("allow")
}

/// Reads a text; an absent or empty one is `Some(None)`.
fn optional<'a>(known: &Fields<'a>, key: &str, findings: &mut Findings) -> Option<Option<&'a str>> {
    match known.get(key).filter(|field| field.node.value != Value::Null) {
        Some(field) => fields::text(&field, findings).map(|text| Some(text).filter(|text| !text.is_empty())),
        None => Some(None),
    }
}

/// Reads a text without which Dapr does not start.
fn required<'a>(known: &Fields<'a>, key: &str, findings: &mut Findings) -> Option<&'a str> {
    let text = optional(known, key, findings)?;
    if text.is_none() {
        let finding = known
            .cursor
            .follow(&[key])
            .finding(format!("a policy needs `{key}`: Dapr does not start without"));
        findings.error(finding);
    }
    text
}
