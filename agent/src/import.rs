//! Policies of other meshes in ambit's words: `ambit policy import`.
//!
//! Pure: objects in, objects and a report out. What cannot be expressed is refused, and what it protected is not written in
//! part; nothing is ever weakened. Never reads a file, and never talks to a cluster.

mod callers;
mod dapr;
mod istio;
mod ledger;
mod linkerd;
mod networks;
mod ports;
mod print;
mod report;
mod selection;
mod source;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, HashSet};

use ambit_core::{Policy, ServiceAccount};
use serde_json::Value;

use crate::control::finding::{Finding, Findings};
use ledger::{Draft, Ledger, Mesh};
use selection::Selection;
use source::Kind;

pub use linkerd::Access;
pub use report::{Kind as LineKind, Line};
pub use source::Sources;

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// What an import is told beside the objects.
#[derive(Clone, Debug)]
pub struct Options {
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// Further trust domains that agents trust.
    pub trust_aliases: Vec<String>,
    /// Istio's root namespace, whose policies are for every namespace.
    pub root_namespace: String,
    /// The namespace of Linkerd's control plane, which is part of its identities.
    pub linkerd_namespace: String,
    /// What Linkerd does on ports without a Server, where no annotation says it.
    pub default_inbound_policy: Access,
    /// Whether what refuses some requests is to refuse the whole port.
    pub deny_requests_by_port: bool,
    /// The service accounts of Dapr's applications.
    pub app_identities: BTreeMap<String, ServiceAccount>,
    /// The labels of the pods that have Dapr's Configuration.
    pub target: BTreeMap<String, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".to_owned(),
            trust_aliases: Vec::new(),
            root_namespace: "istio-system".to_owned(),
            linkerd_namespace: "linkerd".to_owned(),
            default_inbound_policy: Access::default(),
            deny_requests_by_port: false,
            app_identities: BTreeMap::new(),
            target: BTreeMap::new(),
        }
    }
}

/// An object that is written.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The object.
    pub object: Value,
    /// What it comes from.
    pub origins: Vec<String>,
    /// The policy, if it is one.
    pub policy: Option<Policy>,
}

/// The result of an import.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What is written: modes first, then policies.
    pub objects: Vec<Imported>,
    /// What differs and what is refused, ordered by place.
    pub report: Vec<Line>,
    /// How many objects are refused.
    pub refused: usize,
}

impl Outcome {
    /// Returns what is written, as YAML.
    pub fn yaml(&self) -> String {
        print::documents(&self.objects)
    }
}

/// Translates everything that was read.
///
/// # Errors
/// What is mistyped, with file, line and field; then nothing is translated.
pub fn import(sources: &Sources, options: &Options) -> Result<Outcome, Vec<Finding>> {
    let mut findings = Findings::default();
    let mut ledger = Ledger::default();
    istio::translate(sources, options, &mut ledger, &mut findings);
    linkerd::translate(sources, options, &mut ledger, &mut findings);
    dapr::translate(sources, options, &mut ledger, &mut findings);
    refuse_what_is_left(sources, &mut ledger);
    if !findings.errors.is_empty() {
        findings.arrange();
        return Err(findings.errors);
    }
    let mut settled = ledger.settle();
    note_what_holds_for_all(&settled.drafts, &mut settled.report);
    let mut objects: Vec<Imported> = settled
        .labels
        .iter()
        .map(|label| Imported {
            object: print::mode(label),
            origins: vec![label.from.titled_place()],
            policy: None,
        })
        .collect();
    let mut names = HashSet::new();
    for draft in settled.drafts {
        let mut policy = draft.policy;
        policy.id.name = free_name(&policy, &names);
        names.insert(policy.id.clone());
        let origins = draft.from.iter().map(|object| object.titled_place()).collect();
        objects.push(Imported { object: print::policy(&policy), origins, policy: Some(policy) });
    }
    let (report, refused) = settled.report.finish();
    Ok(Outcome { objects, report, refused })
}

/// Refuses policies of kinds that no module reads, and says what stays.
fn refuse_what_is_left<'a>(sources: &'a Sources, ledger: &mut Ledger<'a>) {
    for object in sources.of(Kind::RequestPolicy) {
        let message =
            "it acts on requests, and ambit decides about connections; who may connect does not depend on it";
        let hint = "keep what it does in the application or its gateway";
        ledger.refuse(object, object.cursor().finding(message).with_hint(hint));
    }
    for object in sources.of(Kind::NetworkPolicy) {
        let message = "it stays the network plugin's, in force beside ambit's policies";
        let hint = "let it leave port 15008 open between enrolled pods";
        ledger.report.add(LineKind::Note, object, object.cursor().finding(message).with_hint(hint));
    }
    for object in sources.of(Kind::UnknownPolicy) {
        let message = format!("policies of the kind {} are not known to this version", object.word);
        let selection = Selection { namespace: Some(object.namespace.clone()), ..Selection::default() };
        let finding = object.cursor().finding(message).with_hint("write an AccessPolicy that means the same");
        ledger.refuse_protection(object, finding, selection);
    }
}

/// Says once for each mesh what its policies and ambit's never have in common.
fn note_what_holds_for_all(drafts: &[Draft<'_>], report: &mut report::Report) {
    for mesh in [Mesh::Istio, Mesh::Linkerd, Mesh::Dapr] {
        let first =
            drafts.iter().find(|draft| draft.mesh == mesh).and_then(|draft| draft.from.first().copied());
        let Some(object) = first else { continue };
        let at = object.cursor();
        let message = "the policies are in force on enrolled pods, which their own node (the kubelet's probes) reaches unless a Deny \
                       policy refuses it";
        let finding =
            at.finding(message).with_hint("label the namespace ambit.dev/mode: strict, or permissive");
        report.add(LineKind::Note, object, finding);
        if mesh == Mesh::Istio {
            let message = "Istio lets UDP pass; ambit lets pass what a rule names, where an Allow policy selects the pod";
            let hint = "name the ports in a rule with `protocol: UDP`, if the pods serve any";
            report.differs(object, &at, message, hint);
        }
    }
}

/// Returns the name of a policy, or the first like it that no other one has.
fn free_name(policy: &Policy, taken: &HashSet<ambit_core::PolicyId>) -> String {
    let named = |name: &str| ambit_core::PolicyId { name: name.to_owned(), ..policy.id.clone() };
    let base = &policy.id.name;
    let mut name: String = base.chars().take(MAX_NAME).collect();
    let mut number = 2_usize;
    while taken.contains(&named(&name)) {
        let suffix = format!("-{number}");
        let kept: String = base.chars().take(MAX_NAME - suffix.len()).collect();
        name = format!("{}{suffix}", kept.trim_end_matches(['-', '.']));
        number += 1;
    }
    name.trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod hostile;
