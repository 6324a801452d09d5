//! Small clusters made by chance, in which much overlaps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_core::{
    Action, Destination, Egress, EgressRule, Mode, Model, Peer, Policy, PolicyId, PortRange, Protocol, Rule,
    Selector, ServiceAccount, Snapshot, SpiffeId, Workload,
};

/// A stream of numbers that follows from its seed (splitmix64).
pub(super) struct Random(u64);

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn name(&mut self) -> String {
        NAMES[self.below(3) as usize].to_owned()
    }

    fn some<T>(&mut self, most: u64, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| one(self)).collect()
    }

    fn labels(&mut self) -> BTreeMap<String, String> {
        self.some(1, |random| ("app".to_owned(), random.name())).into_iter().collect()
    }

    fn mode(&mut self) -> Mode {
        [Mode::None, Mode::Audit, Mode::Permissive, Mode::Strict, Mode::Strict][self.below(5) as usize]
    }

    fn network(&mut self) -> ipnet::IpNet {
        let (third, last, bits) =
            (self.below(3) as u8, self.below(20) as u8, [16, 24, 28, 32][self.below(4) as usize]);
        ipnet::IpNet::new(IpAddr::from([10, 0, third, last]), bits).unwrap().trunc()
    }

    fn ports(&mut self) -> PortRange {
        [PortRange::single(80), PortRange { first: 80, last: 81 }, PortRange::single(443)]
            [self.below(3) as usize]
    }

    fn protocol(&mut self) -> Protocol {
        if self.chance(3) { Protocol::Udp } else { Protocol::Tcp }
    }

    fn peer(&mut self) -> Peer {
        Peer {
            service_accounts: self
                .some(1, |random| ServiceAccount { namespace: random.name(), name: random.name() }),
            namespaces: self.some(1, Self::name),
            identities: Vec::new(),
            cidrs: self.some(1, Self::network),
            except_cidrs: self.some(1, Self::network),
            host: self.chance(8),
            anyone: self.chance(6),
        }
    }

    fn policy(&mut self, number: u64) -> Policy {
        let cluster_wide = self.chance(4);
        let namespace = self.name();
        let egress_only = self.chance(4);
        let deny = !egress_only && self.chance(3);
        let rule = |random: &mut Self| Rule {
            from: (!random.chance(4)).then(|| vec![random.peer()]),
            to: (!random.chance(2)).then(|| {
                vec![Destination { protocol: random.protocol(), ports: random.some(1, Self::ports) }]
            }),
        };
        let egress = |random: &mut Self| EgressRule {
            cidrs: vec![random.network()],
            except_cidrs: random.some(1, Self::network),
            ports: random.some(1, Self::ports),
            protocol: random.chance(2).then(|| random.protocol()),
        };
        Policy {
            id: PolicyId { namespace: (!cluster_wide).then_some(namespace), name: format!("p{number}") },
            action: if deny { Action::Deny } else { Action::Allow },
            dry_run: self.chance(6),
            namespace_selector: None,
            selector: Selector { match_labels: self.labels(), match_expressions: Vec::new() },
            rules: if egress_only { Vec::new() } else { self.some(2, rule) },
            egress_only,
            egress: if egress_only || (!deny && self.chance(3)) { vec![egress(self)] } else { Vec::new() },
        }
    }

    fn workload(&mut self, number: u64) -> Workload {
        let namespace = self.name();
        let account = if self.chance(4) { "default".to_owned() } else { self.name() };
        let host_network = self.chance(8);
        let mode = if host_network { Mode::None } else { self.mode() };
        let last = 1 + (number % 20) as u8;
        Workload {
            identity: SpiffeId::new("cluster.local", &namespace, &account).unwrap(),
            namespace,
            name: format!("w{number}"),
            uid: number.to_string(),
            addresses: vec![IpAddr::from([10, 0, (number / 20) as u8, last])],
            node: format!("n{}", self.below(3)),
            mode,
            mode_problem: None,
            egress: if self.chance(3) { Egress::Mesh } else { Egress::Any },
            egress_problem: None,
            labels: self.labels(),
            host_network,
            netns: None,
            owner_kind: "deployment".to_owned(),
            owner_name: self.name(),
        }
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let workloads = (0..4 + self.below(14)).map(|number| self.workload(number)).collect();
        let policies = (0..self.below(9)).map(|number| self.policy(number)).collect();
        Snapshot::build(1, Model { workloads, policies, ..Model::default() }).unwrap()
    }

    /// Changes modes, labels, nodes and policies; pods come and go.
    pub(super) fn changed(&mut self, before: &Snapshot) -> Snapshot {
        let mut model = before.to_model();
        model.workloads.retain(|_| !self.chance(10));
        for pod in &mut model.workloads {
            if self.chance(3) && !pod.host_network {
                pod.mode = self.mode();
            }
            if self.chance(4) {
                pod.labels = self.labels();
            }
            if self.chance(6) {
                pod.node = format!("n{}", self.below(3));
            }
        }
        model.policies.retain(|_| !self.chance(3));
        model.policies.extend((20..20 + self.below(4)).map(|number| self.policy(number)));
        model.workloads.push(self.workload(50));
        Snapshot::build(2, model).unwrap()
    }
}
