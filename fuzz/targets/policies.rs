//! Policies, and what is made of them for the kernel: whatever they say, the compiled verdicts and the index by callers say
//! what the plain evaluation says.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ambit_core::policy::{KernelVerdict, PolicySet, compile};
use ambit_core::{
    Action, Connection, Destination, Egress, IdentityPattern, Mode, Peer, Policy, PolicyId, PortRange, Protocol,
    Rule, Selector, ServiceAccount, Source, SpiffeId, Workload, evaluate,
};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;

/// Namespaces and service accounts: few, so that they meet.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// The input, a byte at a time; zeros after its end.
struct Bytes<'a>(std::slice::Iter<'a, u8>);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    /// Tells whether a bit of the next byte is set that is set in one byte of so many.
    fn one_of(&mut self, many: u8) -> bool {
        self.next() % many == 1
    }

    fn name(&mut self) -> String {
        NAMES[usize::from(self.next()) % NAMES.len()].to_owned()
    }

    fn port(&mut self) -> u16 {
        u16::from_be_bytes([self.next(), self.next()])
    }

    fn network(&mut self) -> IpNet {
        let address = Ipv4Addr::new(10, self.next(), 0, self.next());
        IpNet::new(IpAddr::V4(address), self.next() % 33).expect("no prefix is longer than 32")
    }

    fn list<T>(&mut self, item: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.next() % 3;
        (0..count).map(|_| item(self)).collect()
    }

    fn peer(&mut self) -> Peer {
        let fields = self.next();
        let mut peer = Peer { host: fields & 1 != 0, anyone: fields & 2 != 0, ..Peer::default() };
        if fields & 4 != 0 {
            let account = |bytes: &mut Self| ServiceAccount { namespace: bytes.name(), name: bytes.name() };
            peer.service_accounts = self.list(account);
        }
        if fields & 8 != 0 {
            peer.namespaces = self.list(Self::name);
        }
        if fields & 16 != 0 {
            peer.identities = self.list(|bytes| {
                let start = if bytes.one_of(2) { "*/ns/" } else { "spiffe://cluster.local/ns/" };
                let text = format!("{start}{}/sa/{}", bytes.name(), bytes.name());
                IdentityPattern::parse(&text).expect("it has the form of a pattern")
            });
        }
        if fields & 32 != 0 {
            peer.cidrs = self.list(Self::network);
        }
        if fields & 64 != 0 {
            peer.except_cidrs = self.list(Self::network);
        }
        peer
    }

    fn rule(&mut self) -> Rule {
        let destination = |bytes: &mut Self| {
            let protocol = if bytes.one_of(2) { Protocol::Udp } else { Protocol::Tcp };
            let range = |bytes: &mut Self| {
                let (one, other) = (bytes.port(), bytes.port());
                PortRange { first: one.min(other), last: one.max(other) }
            };
            Destination { protocol, ports: bytes.list(range) }
        };
        let fields = self.next();
        Rule {
            from: (fields & 1 != 0).then(|| self.list(Self::peer)),
            to: (fields & 2 != 0).then(|| self.list(destination)),
        }
    }

    fn policy(&mut self, number: usize) -> Arc<Policy> {
        let fields = self.next();
        Arc::new(Policy {
            id: PolicyId { namespace: Some("a".to_owned()), name: format!("{}-{number}", self.next()) },
            action: if fields & 1 != 0 { Action::Deny } else { Action::Allow },
            dry_run: fields & 2 != 0,
            namespace_selector: None,
            selector: Selector::default(),
            rules: self.list(Self::rule),
            egress_only: fields & 12 == 12,
            egress: Vec::new(),
        })
    }

    fn pod(&mut self, name: &str) -> Workload {
        let modes = [Mode::None, Mode::Audit, Mode::Permissive, Mode::Strict];
        Workload {
            namespace: "a".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            identity: SpiffeId::new("cluster.local", &self.name(), &self.name()).expect("the names are valid"),
            addresses: vec![IpAddr::V4(Ipv4Addr::new(10, self.next(), 0, self.next()))],
            node: "node".to_owned(),
            mode: modes[usize::from(self.next()) % modes.len()],
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
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input.iter());
    let (calling, called, port) = (bytes.pod("calling"), bytes.pod("called"), bytes.port());
    let count = usize::from(bytes.next() % 6);
    let policies: Vec<Arc<Policy>> = (0..count).map(|number| bytes.policy(number)).collect();
    let set: PolicySet = policies.iter().cloned().collect();
    let address = calling.addresses[0];
    let sources = [
        Source::Identity { id: &calling.identity, address },
        Source::Host { address },
        Source::Unverified { address },
    ];
    for protocol in Protocol::ALL {
        for source in sources {
            let connection = Connection { source, destination: &called, protocol, port };
            assert_eq!(set.evaluate(&connection), evaluate(&policies, &connection));
        }
        let connection = Connection { source: sources[0], destination: &called, protocol, port };
        let verdict = evaluate(&policies, &connection);
        let compiled = compile(&set, &calling, &called, protocol);
        let mut of_port = compiled.iter().filter(|(range, _)| (range.first..=range.last).contains(&port));
        let (_, kernel) = of_port.next().expect("every port has a verdict");
        assert!(of_port.next().is_none(), "port {port} has two verdicts");
        match kernel {
            KernelVerdict::Pass => assert!(verdict.allowed),
            KernelVerdict::Refuse => assert!(!verdict.allowed),
            // The agent evaluates it itself; no agent takes a datagram, which passes.
            KernelVerdict::Ask => assert!(protocol == Protocol::Tcp || verdict.allowed),
            KernelVerdict::PassV4 => assert!(verdict.allowed),
            KernelVerdict::PassV6 => assert!(!verdict.allowed),
        }
    }
});
