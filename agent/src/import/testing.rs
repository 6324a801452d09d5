//! What tests of imports share: objects as text, and calls that the imported policies decide about.
//!
//! Decides with the agent's own evaluation. Never looks at how a policy is written.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ambit_core::{Connection, Egress, Mode, Policy, Protocol, Source, SpiffeId, Workload, evaluate};

use super::{LineKind, Options, Outcome, Sources, import};
use crate::control::finding::{Finding, Findings};
use crate::control::objects::Objects;

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) id: Option<SpiffeId>,
    pub(crate) address: IpAddr,
}

/// A caller with the identity `namespace/account`, or `-` for none, and perhaps ` from ADDRESS`.
pub(crate) fn caller(text: &str) -> Caller {
    let (who, address) = text.split_once(" from ").unwrap_or((text, "10.0.0.9"));
    let id = (who != "-").then(|| {
        let (domain, account) = who.split_once("://").unwrap_or(("cluster.local", who));
        let (namespace, name) = account.split_once('/').unwrap();
        SpiffeId::new(domain, namespace, name).unwrap()
    });
    Caller { id, address: address.parse().unwrap() }
}

/// Reads and imports.
pub(crate) fn try_import(text: &str, options: &Options) -> Result<Outcome, Vec<Finding>> {
    let (mut sources, mut findings) = (Sources::default(), Findings::default());
    sources.read_file(Path::new("in.yaml"), text.as_bytes(), &mut findings);
    sources.finish(&mut findings);
    if !findings.errors.is_empty() {
        return Err(findings.errors);
    }
    import(&sources, options)
}

/// Reads and imports what is valid, and checks that what is written reads back as the same.
#[track_caller]
pub(crate) fn imported_with(text: &str, options: &Options) -> Outcome {
    let outcome = match try_import(text, options) {
        Ok(outcome) => outcome,
        Err(errors) => {
            panic!("{}\n{text}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    };
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    let yaml = outcome.yaml();
    objects.read_file(Path::new("out.yaml"), yaml.as_bytes(), &mut findings);
    assert_eq!(findings.errors, [], "{yaml}");
    let read: Vec<&Policy> = objects.policies.iter().map(|policy| &policy.value).collect();
    let written: Vec<&Policy> = outcome.objects.iter().filter_map(|object| object.policy.as_ref()).collect();
    assert_eq!(read, written, "{yaml}");
    outcome
}

#[track_caller]
pub(crate) fn imported(text: &str) -> Outcome {
    imported_with(text, &Options::default())
}

/// Decides about a call to a pod of this namespace with these labels, in mode permissive.
pub(crate) fn allows(outcome: &Outcome, pod: (&str, &[(&str, &str)]), caller: &Caller, port: u16) -> bool {
    decide(outcome, pod, caller, (Protocol::Tcp, port))
}

/// Decides about a call of a protocol.
pub(crate) fn decide(
    outcome: &Outcome,
    (namespace, labels): (&str, &[(&str, &str)]),
    caller: &Caller,
    (protocol, port): (Protocol, u16),
) -> bool {
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let selected = outcome.objects.iter().filter_map(|object| object.policy.clone()).filter(|policy| {
        policy.id.namespace.as_deref().is_none_or(|of| of == namespace) && policy.selector.matches(&labels)
    });
    let policies: Vec<Arc<Policy>> = selected.map(Arc::new).collect();
    let destination = Workload {
        namespace: namespace.to_owned(),
        name: "pod".to_owned(),
        uid: String::new(),
        identity: SpiffeId::new("cluster.local", namespace, "pod").unwrap(),
        addresses: Vec::new(),
        node: String::new(),
        mode: Mode::Permissive,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels,
        host_network: false,
        netns: None,
        owner_kind: String::new(),
        owner_name: String::new(),
    };
    let source = match &caller.id {
        Some(id) => Source::Identity { id, address: caller.address },
        None => Source::Unverified { address: caller.address },
    };
    evaluate(&policies, &Connection { source, destination: &destination, protocol, port }).allowed
}

/// Returns the lines of a kind, as they are printed.
pub(crate) fn lines(outcome: &Outcome, kind: LineKind) -> Vec<String> {
    outcome.report.iter().filter(|line| line.kind == kind).map(ToString::to_string).collect()
}

/// Tells whether a line of the report says this.
pub(crate) fn says(outcome: &Outcome, kind: LineKind, text: &str) -> bool {
    lines(outcome, kind).iter().any(|line| line.contains(text))
}

/// Returns how many policies are written.
pub(crate) fn policies(outcome: &Outcome) -> usize {
    outcome.objects.iter().filter(|object| object.policy.is_some()).count()
}
