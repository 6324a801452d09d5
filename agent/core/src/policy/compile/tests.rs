//! The compiled verdicts say what `evaluate` says, and the prefixes what the ranges say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::identity::SpiffeId;
use crate::model::{Egress, Mode};
use crate::policy::{Action, Destination, Peer, PolicyId, Rule, Selector, ServiceAccount, evaluate};

fn pod(name: &str, mode: Mode) -> Workload {
    Workload {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        identity: SpiffeId::new("cluster.local", "shop", name).unwrap(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        node: "node".to_owned(),
        mode,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: BTreeMap::new(),
        host_network: false,
        netns: None,
        owner_kind: "pod".to_owned(),
        owner_name: name.to_owned(),
    }
}

fn policy(
    name: usize,
    action: Action,
    (caller, cidr): (&str, Option<&str>),
    to: Destination,
    dry_run: bool,
) -> Arc<Policy> {
    let account = ServiceAccount { namespace: "shop".to_owned(), name: caller.to_owned() };
    let cidrs = cidr.iter().map(|cidr| cidr.parse().unwrap()).collect();
    let peer = Peer { service_accounts: vec![account], cidrs, ..Peer::default() };
    Arc::new(Policy {
        id: PolicyId { namespace: Some("shop".to_owned()), name: name.to_string() },
        action,
        dry_run,
        namespace_selector: None,
        selector: Selector::default(),
        rules: vec![Rule { from: Some(vec![peer]), to: Some(vec![to]) }],
        egress_only: false,
        egress: Vec::new(),
    })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn any_policies() -> impl Strategy<Value = Vec<Arc<Policy>>> {
    let range = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) });
    let to = (protocol(), prop::collection::vec(range, 0..4))
        .prop_map(|(protocol, ports)| Destination { protocol, ports });
    let cidr = prop::sample::select(vec![None, None, None, Some("10.0.0.0/8"), Some("fd00::/8")]);
    let caller = (prop::sample::select(vec!["web", "api"]), cidr);
    let one = (any::<bool>(), caller, to, prop::bool::weighted(0.1));
    prop::collection::vec(one, 0..5).prop_map(|list| {
        let action = |deny: bool| if deny { Action::Deny } else { Action::Allow };
        list.into_iter()
            .enumerate()
            .map(|(name, (deny, caller, to, dry_run))| policy(name, action(deny), caller, to, dry_run))
            .collect()
    })
}

proptest! {
    #[test]
    fn compiled_verdicts_are_those_of_evaluate(
        policies in any_policies(),
        (port, protocol) in (any::<u16>(), protocol()),
        (audit, v4) in (any::<bool>(), any::<bool>()),
    ) {
        let mode = if audit { Mode::Audit } else { Mode::Strict };
        let (web, db) = (pod("web", Mode::Strict), pod("db", mode));
        let set: PolicySet = policies.iter().cloned().collect();
        let compiled = compile(&set, &web, &db, protocol);
        prop_assert_eq!(compiled.first().unwrap().0.first, 0);
        prop_assert_eq!(compiled.last().unwrap().0.last, u16::MAX);
        let joined = compiled
            .windows(2)
            .all(|pair| u32::from(pair[0].0.last) + 1 == u32::from(pair[1].0.first) && pair[0].1 != pair[1].1);
        prop_assert!(joined);
        let found = compiled.iter().find(|(range, _)| (range.first..=range.last).contains(&port)).unwrap().1;
        let address = *web.addresses.iter().find(|address| address.is_ipv4() == v4).unwrap();
        let source = Source::Identity { id: &web.identity, address };
        let verdict = evaluate(&policies, &Connection { source, destination: &db, protocol, port });
        let remarks = verdict.would_refuse.is_some() || !verdict.dry_run.is_empty();
        match (protocol, found) {
            (_, KernelVerdict::Pass) => prop_assert!(verdict.allowed && !remarks),
            (Protocol::Tcp, KernelVerdict::Refuse) => prop_assert!(!verdict.allowed && !remarks),
            // The agent asks itself.
            (Protocol::Tcp, found) => prop_assert_eq!(found, KernelVerdict::Ask),
            (Protocol::Udp, KernelVerdict::Refuse) => prop_assert!(!verdict.allowed),
            (Protocol::Udp, KernelVerdict::Ask) => prop_assert!(verdict.allowed),
            (Protocol::Udp, KernelVerdict::PassV4) => prop_assert_eq!(verdict.allowed, v4),
            (Protocol::Udp, KernelVerdict::PassV6) => prop_assert_eq!(verdict.allowed, !v4),
        }
    }

    #[test]
    fn prefixes_cover_their_range_and_nothing_else(a in any::<u16>(), b in any::<u16>(), port in any::<u16>()) {
        let range = PortRange { first: a.min(b), last: a.max(b) };
        let covering = port_prefixes(range)
            .iter()
            .filter(|prefix| prefix.bits == 0 || port >> (16 - prefix.bits) == prefix.first >> (16 - prefix.bits))
            .count();
        prop_assert_eq!(covering, usize::from((range.first..=range.last).contains(&port)));
        prop_assert!(port_prefixes(range).len() <= 30);
    }
}

#[test]
fn every_port_is_one_prefix() {
    let all = port_prefixes(PortRange { first: 0, last: u16::MAX });
    assert_eq!(all, [PortPrefix { first: 0, bits: 0 }]);
    assert_eq!(port_prefixes(PortRange::single(80)), [PortPrefix { first: 80, bits: 16 }]);
}
