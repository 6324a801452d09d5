//! The classes say of every address what `evaluate` and `evaluate_egress` say of it.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::{Egress, Mode};
use crate::policy::egress::tests::{pod, policy};
use crate::policy::evaluate;
use crate::policy::{Action, Destination, EgressRule, Peer, Rule};

/// Addresses that lie close to each other, so that networks overlap.
pub(in crate::policy) fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, any::<u8>()).prop_map(|(third, last)| IpAddr::from([10, 0, third, last])),
        (0u16..3, any::<u8>()).prop_map(|(group, last)| IpAddr::from([
            0xfd00,
            0,
            0,
            group,
            0,
            0,
            0,
            last.into()
        ])),
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u16; 8]>().prop_map(IpAddr::from),
        any::<u8>().prop_map(|last| IpAddr::from([0, 0, 0, 0, 0, 0, 0, u16::from(last)])),
    ]
}

fn network() -> impl Strategy<Value = IpNet> {
    (any_address(), 0u8..=128).prop_map(|(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        // Long ones more often: they are what differs between neighbours.
        let bits = if bits % 3 == 0 { bits % (most + 1) } else { most - bits % 12 };
        IpNet::new(address, bits).unwrap().trunc()
    })
}

fn ranges() -> impl Strategy<Value = Vec<PortRange>> {
    let range = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) });
    vec(range, 0..3)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

fn numbered(policies: Vec<Policy>) -> Vec<Arc<Policy>> {
    let number = |(number, policy): (usize, Policy)| {
        let mut policy = policy;
        policy.id.name = number.to_string();
        Arc::new(policy)
    };
    policies.into_iter().enumerate().map(number).collect()
}

pub(in crate::policy) fn egress_policies() -> impl Strategy<Value = Vec<Arc<Policy>>> {
    let rule = (vec(network(), 1..4), vec(network(), 0..3), ranges(), prop::option::of(protocol())).prop_map(
        |(cidrs, except_cidrs, ports, protocol)| EgressRule { cidrs, except_cidrs, ports, protocol },
    );
    let one = (vec(rule, 1..3), prop::bool::weighted(0.2))
        .prop_map(|(rules, dry_run)| Policy { dry_run, ..policy("", rules) });
    vec(one, 0..4).prop_map(numbered)
}

fn inbound_policies() -> impl Strategy<Value = Vec<Arc<Policy>>> {
    let peer = (vec(network(), 0..3), vec(network(), 0..3), any::<bool>())
        .prop_map(|(cidrs, except_cidrs, anyone)| Peer { cidrs, except_cidrs, anyone, ..Peer::default() });
    let to = (protocol(), ranges()).prop_map(|(protocol, ports)| Destination { protocol, ports });
    let rule = (prop::option::weighted(0.9, vec(peer, 1..3)), prop::option::weighted(0.8, vec(to, 1..3)))
        .prop_map(|(from, to)| Rule { from, to });
    let one =
        (any::<bool>(), prop::bool::weighted(0.2), vec(rule, 0..3)).prop_map(|(deny, dry_run, rules)| {
            let action = if deny { Action::Deny } else { Action::Allow };
            Policy { action, dry_run, rules, egress_only: false, ..policy("", Vec::new()) }
        });
    vec(one, 0..4).prop_map(numbered)
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Audit), Just(Mode::Permissive), Just(Mode::Strict)]
}

/// Looks an address up as a longest-prefix match over 16-byte addresses does.
fn looked_up(classes: &Classes, address: IpAddr, protocol: Protocol, port: u16) -> KernelVerdict {
    let block = Block::of(&IpNet::from(address)).unwrap();
    let holding = classes.networks.iter().filter_map(|(network, class)| {
        let network = Block::of(network).unwrap();
        (network.first <= block.first && block.last() <= network.last()).then_some((network.bits, *class))
    });
    let (_, class) = holding.max().expect("the default networks hold every address");
    let mut verdicts = classes.verdicts[class]
        .iter()
        .filter(|(of, range, _)| *of == protocol && (range.first..=range.last).contains(&port));
    let found = verdicts.next().expect("every port has a verdict").2;
    assert!(verdicts.next().is_none());
    found
}

/// An address that is tried: any, and every edge of every network.
fn tried(classes: &Classes, address: IpAddr) -> Vec<IpAddr> {
    let edges = classes.networks.iter().flat_map(|(network, _)| [network.network(), network.broadcast()]);
    edges.chain([address]).map(|address| address.to_canonical()).collect()
}

proptest! {
    #[test]
    fn egress_classes_are_evaluate_egress(
        policies in egress_policies(),
        (mode, address, port, protocol) in (mode(), any_address(), any::<u16>(), protocol()),
    ) {
        let source = pod(mode, Egress::Mesh);
        let classes = egress_classes(&policies, &source);
        for address in tried(&classes, address) {
            let call = Call { source: &source, address, port, protocol, in_mesh: false };
            let verdict = evaluate_egress(&policies, &call);
            let wanted = match (verdict.allowed, verdict.would_refuse) {
                (true, None) => KernelVerdict::Pass,
                (true, Some(_)) => KernelVerdict::Ask,
                (false, _) if protocol == Protocol::Tcp && !verdict.dry_run.is_empty() => KernelVerdict::Ask,
                (false, _) => KernelVerdict::Refuse,
            };
            prop_assert_eq!(looked_up(&classes, address, protocol, port), wanted, "{}", address);
        }
    }

    #[test]
    fn stranger_classes_are_evaluate(
        policies in inbound_policies(),
        (mode, address, port) in (mode(), any_address(), any::<u16>()),
    ) {
        let (destination, protocol) = (pod(mode, Egress::Any), Protocol::Udp);
        let set: PolicySet = policies.iter().cloned().collect();
        let classes = stranger_classes(&set, &destination);
        for address in tried(&classes, address) {
            let source = Source::Unverified { address };
            let verdict = evaluate(&policies, &Connection { source, destination: &destination, protocol, port });
            let passes = looked_up(&classes, address, protocol, port) != KernelVerdict::Refuse;
            prop_assert_eq!(passes, verdict.allowed, "{}", address);
        }
    }

    #[test]
    fn no_network_is_named_for_nothing(policies in egress_policies()) {
        let classes = egress_classes(&policies, &pod(Mode::Strict, Egress::Mesh));
        let mut names: Vec<_> = classes.networks.iter().map(|(network, _)| *network).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), classes.networks.len());
        let mut verdicts = classes.verdicts.clone();
        verdicts.sort();
        verdicts.dedup();
        prop_assert_eq!(verdicts.len(), classes.verdicts.len());
    }
}

#[test]
fn without_rules_all_addresses_are_one_class() {
    let classes = egress_classes(&[], &pod(Mode::Strict, Egress::Mesh));
    assert_eq!(classes.verdicts.len(), 1);
    assert_eq!(classes.networks, [("::/0".parse().unwrap(), 0)]);
}

#[test]
fn a_network_that_others_cover_is_left_out() {
    let cidrs = ["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/9"].map(|text| text.parse().unwrap()).to_vec();
    let rule = EgressRule { cidrs, ..EgressRule::default() };
    let classes = egress_classes(&[Arc::new(policy("", vec![rule]))], &pod(Mode::Strict, Egress::Mesh));
    let names: Vec<String> = classes.networks.iter().map(|(network, _)| network.to_string()).collect();
    assert_eq!(names, ["::/0", "10.0.0.0/9", "10.128.0.0/9"]);
}
