//! Istio's policies: which pods they speak of, and what becomes of each as a whole.
//!
//! The rules are read by `rules` and written by `express`; modes are the work of `modes`. Never looks at requests: a policy
//! that needs them is refused.

mod express;
mod modes;
mod rules;
mod values;

use ambit_core::{Policy, PolicyId, Selector};

use super::Options;
use super::ledger::{Draft, Ledger, Mesh};
use super::report::refusal;
use super::selection::{Selection, exactly};
use super::source::{Kind, Object, Sources, texts};
use crate::control::fields::{self, Fields};
use crate::control::finding::{Finding, Findings, did_you_mean};
use crate::control::node::{Cursor, Value};
use express::{Expressed, express};
use rules::{Reader, Rule};

const SPEC: [&str; 6] = ["selector", "targetRef", "targetRefs", "action", "provider", "rules"];
const ACTIONS: [(&str, Action); 4] =
    [("ALLOW", Action::Allow), ("DENY", Action::Deny), ("AUDIT", Action::Audit), ("CUSTOM", Action::Custom)];
/// The annotation under which a policy is evaluated and not enforced.
const DRY_RUN: &str = "istio.io/dry-run";

/// What an AuthorizationPolicy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Allow,
    Deny,
    Audit,
    Custom,
}

/// An AuthorizationPolicy, read.
struct Authorization<'a> {
    object: &'a Object,
    selection: Selection,
    action: Action,
    dry_run: bool,
    rules: Vec<Rule<'a>>,
    /// What of it no policy of ambit says.
    refusals: Vec<Finding>,
    /// Whether it is for a waypoint.
    has_target: bool,
}

impl Authorization<'_> {
    fn admits(&self) -> bool {
        self.action == Action::Allow && !self.dry_run
    }

    /// Tells whether it refuses everybody but those whom it names.
    fn refuses_others(&self) -> bool {
        self.action == Action::Deny
            && self.rules.iter().any(|rule| rule.sources.iter().any(|source| !source.nots.is_empty()))
    }
}

/// Translates everything of Istio's.
pub(crate) fn translate<'a>(
    sources: &'a Sources,
    options: &Options,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) {
    let objects = sources.of(Kind::IstioAuthorization);
    let policies: Vec<Authorization<'a>> =
        objects.filter_map(|object| read(object, options, ledger, findings)).collect();
    for (index, policy) in policies.iter().enumerate() {
        let rivals = policies
            .iter()
            .enumerate()
            .filter(|(other, rival)| *other != index && (rival.admits() || rival.refuses_others()));
        let alone = || rivals.clone().all(|(_, rival)| !rival.selection.may_overlap(&policy.selection));
        settle(policy, &alone, sources, options, ledger);
    }
    modes::translate(sources, options, ledger, findings);
}

/// Decides what becomes of a policy; `alone` tells whether no other one admits callers to any of its pods.
fn settle<'a>(
    policy: &Authorization<'a>,
    alone: &dyn Fn() -> bool,
    sources: &Sources,
    options: &Options,
    ledger: &mut Ledger<'a>,
) {
    let object = policy.object;
    let action_at = object.at(&["spec", "action"]);
    let mut refusals = policy.refusals.clone();
    match policy.action {
        Action::Audit => {
            let message = "AUDIT admits and refuses nobody: it only marks requests";
            let hint = "remove it: every decision of ambit is logged";
            return ledger.refuse(object, refusal(&action_at, message, hint));
        }
        Action::Custom => {
            let message =
                "CUSTOM asks an external authorizer about each request, which ambit has no way to do";
            let hint = "keep the authorizer in the application, and name its callers in an AccessPolicy";
            refusals = vec![refusal(&action_at, message, hint)];
        }
        Action::Allow | Action::Deny => {}
    }
    if policy.has_target {
        let message = "targetRefs belong to waypoints, which see requests; ambit decides at the pod";
        let at = if object.at(&["spec"]).field("targetRefs").is_some() { "targetRefs" } else { "targetRef" };
        let hint = "write a policy with a selector for the pods behind the waypoint";
        refusals = vec![refusal(&object.at(&["spec", at]), message, hint)];
    }
    if refusals.is_empty() {
        match express(policy, alone, options, &mut ledger.report) {
            Ok(expressed) => return write(policy, expressed, ledger),
            Err(found) => refusals = found,
        }
    }
    let selection = if policy.has_target { behind_target(policy, sources) } else { policy.selection.clone() };
    for finding in refusals {
        match policy.action {
            _ if policy.dry_run => ledger.refuse(object, finding),
            // A waypoint's policy is in force on a way of its own: no policy of the pods makes up for it.
            Action::Allow if !policy.has_target => {
                ledger.refuse_admission(object, finding, selection.clone(), Mesh::Istio);
            }
            _ => ledger.refuse_protection(object, finding, selection.clone()),
        }
    }
}

/// Returns the pods behind what a waypoint's policy is attached to, or all that may be.
fn behind_target(policy: &Authorization<'_>, sources: &Sources) -> Selection {
    let object = policy.object;
    let spec = object.at(&["spec"]);
    let listed = spec.field("targetRefs").into_iter().flat_map(|list| list.items());
    let targets: Vec<Cursor<'_>> = spec.field("targetRef").into_iter().chain(listed).collect();
    let [target] = targets.as_slice() else { return policy.selection.clone() };
    let text = |key: &str| match target.field(key).map(|field| &field.node.value) {
        Some(Value::Text(text)) => text.as_str(),
        _ => "",
    };
    let service = sources
        .find(Kind::Service, &object.namespace, text("name"))
        .filter(|_| text("kind") == "Service")
        .map(|service| texts(&service.at(&["spec"]), "selector", &mut Findings::default()));
    match service.filter(|labels| !labels.is_empty()) {
        Some(labels) => Selection { namespace: Some(object.namespace.clone()), selector: exactly(&labels) },
        None => policy.selection.clone(),
    }
}

fn write<'a>(policy: &Authorization<'a>, expressed: Expressed, ledger: &mut Ledger<'a>) {
    let parts = [(Some(expressed.action), expressed.rules, ""), (None, expressed.except, "-except")];
    for (action, rules, suffix) in parts {
        let (action, written) = match action {
            Some(action) => (action, expressed.written),
            None => (ambit_core::Action::Deny, !rules.is_empty()),
        };
        if !written {
            continue;
        }
        let id = PolicyId {
            namespace: policy.selection.namespace.clone(),
            name: format!("{}{suffix}", policy.object.name),
        };
        let policy_of_ours = Policy {
            id,
            action,
            dry_run: policy.dry_run,
            namespace_selector: None,
            selector: policy.selection.selector.clone(),
            rules,
            egress_only: false,
            egress: Vec::new(),
        };
        ledger.draft(Draft { policy: policy_of_ours, mesh: Mesh::Istio, from: vec![policy.object] });
    }
}

/// Reads a policy; what is mistyped goes into `findings`, and then there is none.
fn read<'a>(
    object: &'a Object,
    options: &Options,
    ledger: &mut Ledger<'a>,
    findings: &mut Findings,
) -> Option<Authorization<'a>> {
    let spec = object.at(&["spec"]);
    let absent = matches!(spec.node.value, Value::Null) || object.cursor().field("spec").is_none();
    let spec = (!absent).then_some(spec);
    if let Some(spec) = &spec {
        Fields::of(spec, &SPEC, findings)?;
    }
    let get = |key: &str| spec.as_ref().and_then(|spec| spec.field(key)).filter(is_written);
    let selector = read_selector(get("selector"), findings)?;
    let action = match get("action") {
        Some(field) => read_action(&field, findings)?,
        None => Action::Allow,
    };
    let namespace = Some(object.namespace.clone()).filter(|namespace| *namespace != options.root_namespace);
    let mut reader = Reader::new(object, options, findings, &mut ledger.report);
    let rules = match get("rules") {
        Some(field) => reader.rules(&field)?,
        None => Vec::new(),
    };
    let refusals = reader.refusals;
    let dry_run = object.annotations.get(DRY_RUN).is_some_and(|value| is_true(value));
    let has_target =
        get("targetRef").is_some() || get("targetRefs").is_some_and(|list| list.items().count() > 0);
    Some(Authorization {
        object,
        selection: Selection { namespace, selector },
        action,
        dry_run,
        rules,
        refusals,
        has_target,
    })
}

/// Tells whether a field says anything at all.
fn is_written(field: &Cursor<'_>) -> bool {
    field.node.value != Value::Null
}

fn read_action(field: &Cursor<'_>, findings: &mut Findings) -> Option<Action> {
    let text = fields::text(field, findings)?;
    let found = ACTIONS.iter().find(|(word, _)| *word == text).map(|(_, action)| *action);
    if found.is_none() {
        let words = ACTIONS.map(|(word, _)| word);
        let hint = did_you_mean(text, &words).unwrap_or_else(|| format!("use {}", words.join(", ")));
        findings.error(field.finding(format!("unknown action {text:?}")).with_hint(hint));
    }
    found
}

/// Reads a workload selector, which knows labels only; an absent or empty one selects every pod.
fn read_selector(field: Option<Cursor<'_>>, findings: &mut Findings) -> Option<Selector> {
    let Some(field) = field else { return Some(Selector::default()) };
    Fields::of(&field, &["matchLabels"], findings)?;
    let errors = findings.errors.len();
    let labels = texts(&field, "matchLabels", findings);
    (findings.errors.len() == errors).then(|| exactly(&labels))
}

/// Tells whether Go's `strconv.ParseBool` says true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "TRUE", "true", "True"].contains(&text)
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
