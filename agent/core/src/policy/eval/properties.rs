//! Properties that hold for every set of policies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::Egress;
use crate::policy::{
    Destination, EgressRule, IdentityPattern, Peer, PolicyId, PolicySet, PortRange, Rule, Selector,
    ServiceAccount,
};

/// A caller as it is generated; `Source` borrows from it.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Caller {
    id: Option<SpiffeId>,
    host: bool,
    address: IpAddr,
    pub(in crate::policy) protocol: Protocol,
}

impl Caller {
    pub(in crate::policy) fn source(&self) -> Source<'_> {
        let address = self.address;
        match &self.id {
            Some(id) => Source::Identity { id, address },
            None if self.host => Source::Host { address },
            None => Source::Unverified { address },
        }
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a".to_owned()), Just("b".to_owned())]
}

fn address() -> impl Strategy<Value = IpAddr> {
    (0u8..3).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

pub(in crate::policy) fn caller() -> impl Strategy<Value = Caller> {
    let id = proptest::option::of(
        (name(), name())
            .prop_map(|(namespace, account)| SpiffeId::new("cluster.local", &namespace, &account).unwrap()),
    );
    (id, any::<bool>(), address(), protocol()).prop_map(|(id, host, address, protocol)| Caller {
        id,
        host,
        address,
        protocol,
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    let account = (name(), name()).prop_map(|(namespace, name)| ServiceAccount { namespace, name });
    let network = || (address(), 30u8..33).prop_map(|(ip, bits)| ipnet::IpNet::new(ip, bits).unwrap());
    let identity = (name(), any::<bool>()).prop_map(|(name, exact)| {
        let start = if exact { "spiffe://cluster.local/ns/a" } else { "*" };
        IdentityPattern::parse(&format!("{start}/sa/{name}")).unwrap()
    });
    let lists = (vec(account, 0..2), vec(name(), 0..2), vec(identity, 0..2));
    (lists, vec(network(), 0..2), vec(network(), 0..2), any::<bool>(), any::<bool>()).prop_map(
        |((service_accounts, namespaces, identities), cidrs, except_cidrs, host, anyone)| Peer {
            service_accounts,
            namespaces,
            identities,
            cidrs,
            except_cidrs,
            host,
            anyone,
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let ports = (1u16..4, 0u16..2).prop_map(|(first, more)| PortRange { first, last: first + more });
    let destination =
        (protocol(), vec(ports, 0..3)).prop_map(|(protocol, ports)| Destination { protocol, ports });
    (proptest::option::of(vec(peer(), 1..3)), proptest::option::of(vec(destination, 1..2)))
        .prop_map(|(from, to)| Rule { from, to })
}

fn policy_of(action: Action) -> impl Strategy<Value = Arc<Policy>> {
    (any::<u64>(), any::<bool>(), vec(rule(), 0..3)).prop_map(move |(number, dry_run, rules)| {
        Arc::new(Policy {
            id: PolicyId { namespace: Some("shop".to_owned()), name: format!("p{number}") },
            action,
            dry_run,
            namespace_selector: None,
            selector: Selector::default(),
            rules,
            egress_only: false,
            egress: Vec::new(),
        })
    })
}

pub(in crate::policy) fn policies() -> impl Strategy<Value = Vec<Arc<Policy>>> {
    vec(prop_oneof![policy_of(Action::Allow), policy_of(Action::Deny)], 0..6)
}

pub(in crate::policy) fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::None), Just(Mode::Audit), Just(Mode::Permissive), Just(Mode::Strict)]
}

fn destination(mode: Mode) -> Workload {
    Workload {
        namespace: "shop".into(),
        name: "web".into(),
        uid: String::new(),
        identity: SpiffeId::new("cluster.local", "shop", "web").unwrap(),
        addresses: Vec::new(),
        node: String::new(),
        mode,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: BTreeMap::new(),
        host_network: false,
        netns: None,
        owner_kind: String::new(),
        owner_name: String::new(),
    }
}

fn decide(mode: Mode, policies: &[Arc<Policy>], caller: &Caller, port: u16) -> Verdict {
    let destination = destination(mode);
    let protocol = caller.protocol;
    evaluate(policies, &Connection { source: caller.source(), destination: &destination, protocol, port })
}

proptest! {
    #[test]
    fn the_index_by_callers_changes_no_decision(
        policies in policies(),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        let (protocol, destination) = (caller.protocol, destination(mode));
        let connection = Connection { source: caller.source(), destination: &destination, protocol, port };
        let set: PolicySet = policies.iter().cloned().collect();
        prop_assert_eq!(set.evaluate(&connection), evaluate(&policies, &connection));
    }

    #[test]
    fn the_order_of_policies_never_matters(
        (policies, shuffled) in policies().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        prop_assert_eq!(decide(mode, &policies, &caller, port), decide(mode, &shuffled, &caller, port));
    }

    #[test]
    fn another_deny_never_widens(
        (mut policies, deny) in (policies(), policy_of(Action::Deny)),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        let before = decide(mode, &policies, &caller, port);
        policies.push(deny);
        prop_assert!(before.allowed || !decide(mode, &policies, &caller, port).allowed);
    }

    #[test]
    fn another_allow_never_narrows_once_one_stands(
        (mut policies, allow) in (policies(), policy_of(Action::Allow)),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        prop_assume!(policies.iter().any(|policy| policy.action == Action::Allow && !policy.dry_run));
        let before = decide(mode, &policies, &caller, port);
        policies.push(allow);
        prop_assert!(!before.allowed || decide(mode, &policies, &caller, port).allowed);
    }

    #[test]
    fn dry_run_policies_never_change_what_is_enforced(
        policies in policies(),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        let enforced: Vec<_> = policies.iter().filter(|policy| !policy.dry_run).cloned().collect();
        let (with, without) = (decide(mode, &policies, &caller, port), decide(mode, &enforced, &caller, port));
        prop_assert_eq!((with.allowed, with.reason, with.policy, with.rule),
            (without.allowed, without.reason, without.policy, without.rule));
    }

    #[test]
    fn permissive_never_refuses_what_strict_allows(
        policies in policies(),
        (caller, port) in (caller(), 1u16..5),
    ) {
        let strict = decide(Mode::Strict, &policies, &caller, port);
        prop_assert!(!strict.allowed || decide(Mode::Permissive, &policies, &caller, port).allowed);
        let audit = decide(Mode::Audit, &policies, &caller, port);
        prop_assert!(audit.allowed);
        prop_assert_eq!(audit.would_refuse.is_some(), !strict.allowed);
    }

    #[test]
    fn plaintext_is_admitted_only_where_a_rule_names_it(
        policies in policies(),
        (address, protocol, port) in (address(), protocol(), 1u16..5),
    ) {
        let caller = Caller { id: None, host: false, address, protocol };
        let verdict = decide(Mode::Permissive, &policies, &caller, port);
        if verdict.reason == Reason::AllowMatch {
            let policy = policies.iter().find(|policy| Some(&policy.id) == verdict.policy.as_ref()).unwrap();
            let rule = &policy.rules[verdict.rule.unwrap()];
            let peers = rule.from.as_ref().expect("a rule without `from` admits no plaintext");
            prop_assert!(peers.iter().any(|peer| peer.anyone || !peer.cidrs.is_empty()));
        }
    }

    #[test]
    fn strict_admits_a_datagram_without_identity_only_by_a_rule_that_names_udp(
        policies in policies(),
        (address, port) in (address(), 1u16..5),
    ) {
        let caller = Caller { id: None, host: false, address, protocol: Protocol::Udp };
        let verdict = decide(Mode::Strict, &policies, &caller, port);
        if verdict.allowed {
            let policy = policies.iter().find(|policy| Some(&policy.id) == verdict.policy.as_ref()).unwrap();
            let to = policy.rules[verdict.rule.unwrap()].to.as_ref().expect("a rule without `to` names nothing");
            prop_assert!(!policy.dry_run && policy.action == Action::Allow);
            prop_assert!(to.iter().any(|destination| destination.protocol == Protocol::Udp));
        }
    }

    #[test]
    fn policies_about_egress_alone_change_nothing_for_callers(
        mut policies in policies(),
        (mode, caller, port) in (mode(), caller(), 1u16..5),
    ) {
        let before = decide(mode, &policies, &caller, port);
        policies.push(Arc::new(Policy {
            id: PolicyId { namespace: None, name: "egress".to_owned() },
            action: Action::Allow,
            dry_run: false,
            namespace_selector: None,
            selector: Selector::default(),
            rules: Vec::new(),
            egress_only: true,
            egress: vec![EgressRule::default()],
        }));
        prop_assert_eq!(before, decide(mode, &policies, &caller, port));
    }
}
