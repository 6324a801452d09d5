//! The mesh at one moment, checked and indexed: what every decision is made against.
//!
//! Immutable once built; a change builds another. Never holds half a change, and never says which source it came from.

mod selection;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::{Mode, Model, Service, ServicePort, Workload, WorkloadKey};
use crate::policy::{
    Action, Call, Connection, Policy, PolicyId, PolicySet, Protocol, Selector, Verdict, evaluate_egress,
};

/// Why a model cannot be the state of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Two pods claim one address, so nobody could say who calls from it.
    #[error("pods {first} and {second} have the same address {address}")]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// The pod that came first.
        first: WorkloadKey,
        /// The other pod.
        second: WorkloadKey,
    },
    /// Two pods bear one name.
    #[error("pod {workload} is defined twice")]
    DuplicateWorkload {
        /// The name.
        workload: WorkloadKey,
    },
    /// Two services bear one name.
    #[error("service {namespace}/{name} is defined twice")]
    DuplicateService {
        /// The namespace.
        namespace: String,
        /// The name.
        name: String,
    },
    /// Two policies bear one name.
    #[error("{policy} is defined twice")]
    DuplicatePolicy {
        /// The name.
        policy: PolicyId,
    },
    /// A service's virtual address belongs to something else.
    #[error("service {namespace}/{name} has the address {address}, which is that of {other}")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The service's namespace.
        namespace: String,
        /// The service's name.
        name: String,
        /// What has the address, with its kind.
        other: String,
    },
}

/// An immutable, indexed model.
#[derive(Debug)]
pub struct Snapshot {
    version: u64,
    workloads: BTreeMap<WorkloadKey, Enrolled>,
    by_address: HashMap<IpAddr, Arc<Workload>>,
    services: Vec<Arc<Service>>,
    /// The service and the index of its port.
    by_vip: HashMap<(IpAddr, u16), (Arc<Service>, usize)>,
    policies: Vec<Arc<Policy>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Stands for the policies of a pod that the snapshot does not know: nobody may reach it.
    unknown_workload: PolicySet,
}

/// A workload and the policies that select it.
#[derive(Debug)]
struct Enrolled {
    workload: Arc<Workload>,
    policies: Arc<PolicySet>,
}

impl Snapshot {
    /// Returns the snapshot of nothing, version 0.
    pub fn empty() -> Self {
        Self {
            version: 0,
            workloads: BTreeMap::new(),
            by_address: HashMap::new(),
            services: Vec::new(),
            by_vip: HashMap::new(),
            policies: Vec::new(),
            namespaces: BTreeMap::new(),
            unknown_workload: PolicySet::new(vec![refuse_everything()]),
        }
    }

    /// Checks and indexes a model.
    ///
    /// # Errors
    /// Every contradiction of the model: names and addresses that two objects claim.
    pub fn build(version: u64, model: Model) -> Result<Self, Vec<ModelError>> {
        let mut errors = Vec::new();
        let Model { workloads, services, mut policies, namespaces } = model;
        let workloads: Vec<Arc<Workload>> = workloads.into_iter().map(Arc::new).collect();
        let by_address = index_addresses(&workloads, &mut errors);
        let services: Vec<Arc<Service>> = services.into_iter().map(Arc::new).collect();
        let by_vip = index_services(&services, &by_address, &mut errors);

        policies.sort_by(|left, right| left.id.cmp(&right.id));
        let twice = policies.windows(2).filter(|pair| pair[0].id == pair[1].id);
        errors.extend(twice.map(|pair| ModelError::DuplicatePolicy { policy: pair[0].id.clone() }));
        let policies: Vec<Arc<Policy>> = policies.into_iter().map(Arc::new).collect();

        let mut selections = selection::select(&policies, &workloads, &namespaces).into_iter();
        let mut named = BTreeMap::new();
        for workload in workloads {
            let policies = selections.next().expect("one selection is made for each workload");
            let enrolled = Enrolled { workload, policies };
            let key = enrolled.workload.key();
            if named.insert(key.clone(), enrolled).is_some() {
                errors.push(ModelError::DuplicateWorkload { workload: key });
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let unknown_workload = PolicySet::new(vec![refuse_everything()]);
        let workloads = named;
        Ok(Self { version, workloads, by_address, services, by_vip, policies, namespaces, unknown_workload })
    }

    /// Returns the number of the snapshot, which grows with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Returns the pod with this address. Host-network pods share their node's and are not found by it.
    pub fn workload(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.by_address.get(&address.to_canonical())
    }

    /// Returns the pod with this name.
    pub fn workload_named(&self, namespace: &str, name: &str) -> Option<&Arc<Workload>> {
        let key = WorkloadKey { namespace: namespace.to_owned(), name: name.to_owned() };
        self.workloads.get(&key).map(|enrolled| &enrolled.workload)
    }

    /// Returns every pod, ordered by name.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values().map(|enrolled| &enrolled.workload)
    }

    /// Returns the service and the port behind a virtual address and port.
    pub fn service(&self, vip: IpAddr, port: u16) -> Option<(&Arc<Service>, &ServicePort)> {
        let (service, index) = self.by_vip.get(&(vip.to_canonical(), port))?;
        Some((service, service.ports.get(*index)?))
    }

    /// Returns every service.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter()
    }

    /// Returns every policy, ordered by name.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// Returns the labels of a namespace; `None` for one that the objects do not hold.
    pub fn namespace_labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(namespace)
    }

    /// Returns what the snapshot was built from.
    pub fn to_model(&self) -> Model {
        Model {
            workloads: self.workloads().map(|workload| workload.as_ref().clone()).collect(),
            services: self.services.iter().map(|service| service.as_ref().clone()).collect(),
            policies: self.policies.iter().map(|policy| policy.as_ref().clone()).collect(),
            namespaces: self.namespaces.clone(),
        }
    }

    /// Returns the policies that select a pod, found by its name.
    ///
    /// For a pod that the snapshot does not know this is one policy that admits nobody.
    pub fn policies_of(&self, workload: &Workload) -> &PolicySet {
        match self.workloads.get(&workload.key()) {
            Some(enrolled) => &enrolled.policies,
            None => &self.unknown_workload,
        }
    }

    /// Decides about a connection by the policies that select its destination.
    pub fn evaluate(&self, connection: &Connection<'_>) -> Verdict {
        self.policies_of(connection.destination).evaluate(connection)
    }

    /// Decides whether `source` may call what is at `address`, as a caller; the pod that is called decides for itself.
    ///
    /// In the mesh are the pod's own addresses, loopback, and enrolled pods; for UDP, which no tunnel carries, only those
    /// of the same node.
    pub fn evaluate_egress(&self, source: &Workload, address: SocketAddr, protocol: Protocol) -> Verdict {
        let ip = address.ip().to_canonical();
        let is_peer = |pod: &Arc<Workload>| {
            pod.mode.is_enrolled() && (protocol == Protocol::Tcp || pod.node == source.node)
        };
        let in_mesh =
            ip.is_loopback() || source.addresses.contains(&ip) || self.workload(ip).is_some_and(is_peer);
        let call = Call { source, address: ip, port: address.port(), protocol, in_mesh };
        evaluate_egress(self.policies_of(source), &call)
    }

    /// Returns the services with an enrolled pod behind them, by address and port, each with its ready endpoints of the
    /// same family, sorted.
    pub fn meshed_services(&self) -> BTreeMap<(IpAddr, u16), Vec<SocketAddr>> {
        let is_enrolled = |address: IpAddr| self.workload(address).is_some_and(|pod| pod.mode.is_enrolled());
        let mut meshed = BTreeMap::new();
        for ((vip, port), (service, index)) in &self.by_vip {
            let Some(service_port) = service.ports.get(*index) else { continue };
            if !service_port.endpoints.iter().any(|endpoint| is_enrolled(endpoint.address)) {
                continue;
            }
            let ready = service_port.endpoints.iter().filter(|endpoint| endpoint.ready);
            let mut endpoints: Vec<SocketAddr> = ready
                .filter(|endpoint| endpoint.address.is_ipv4() == vip.is_ipv4())
                .map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port))
                .collect();
            endpoints.sort_unstable();
            endpoints.dedup();
            meshed.insert((*vip, *port), endpoints);
        }
        meshed
    }

    /// Returns what the kernel must hand to the agent, sorted: each address of an enrolled pod with port 0, which
    /// means any, and each virtual address and port with an enrolled pod behind it.
    pub fn redirect_destinations(&self) -> Vec<(IpAddr, u16)> {
        let is_enrolled = |address: IpAddr| self.workload(address).is_some_and(|pod| pod.mode != Mode::None);
        let pods =
            self.by_address.keys().filter(|address| is_enrolled(**address)).map(|address| (*address, 0));
        let vips = self.by_vip.iter().filter_map(|(vip, (service, index))| {
            let endpoints = &service.ports.get(*index)?.endpoints;
            endpoints.iter().any(|endpoint| is_enrolled(endpoint.address)).then_some(*vip)
        });
        let mut destinations: Vec<_> = pods.chain(vips).collect();
        destinations.sort_unstable();
        destinations
    }
}

/// Indexes pods by their own addresses.
fn index_addresses(
    workloads: &[Arc<Workload>],
    errors: &mut Vec<ModelError>,
) -> HashMap<IpAddr, Arc<Workload>> {
    let mut index: HashMap<IpAddr, Arc<Workload>> = HashMap::new();
    for workload in workloads.iter().filter(|workload| !workload.host_network) {
        let addresses: BTreeSet<IpAddr> = workload.addresses.iter().map(IpAddr::to_canonical).collect();
        for address in addresses {
            if let Some(first) = index.insert(address, Arc::clone(workload)) {
                let (first, second) = (first.key(), workload.key());
                errors.push(ModelError::DuplicateAddress { address, first, second });
            }
        }
    }
    index
}

/// Indexes services by virtual address and port.
fn index_services(
    services: &[Arc<Service>],
    pods: &HashMap<IpAddr, Arc<Workload>>,
    errors: &mut Vec<ModelError>,
) -> HashMap<(IpAddr, u16), (Arc<Service>, usize)> {
    let mut index = HashMap::new();
    let mut names = BTreeSet::new();
    let mut owners: HashMap<IpAddr, &Arc<Service>> = HashMap::new();
    for service in services {
        let (namespace, name) = (&service.namespace, &service.name);
        if !names.insert((namespace, name)) {
            errors.push(ModelError::DuplicateService { namespace: namespace.clone(), name: name.clone() });
            continue;
        }
        let vips: BTreeSet<IpAddr> = service.vips.iter().map(IpAddr::to_canonical).collect();
        for address in vips {
            let other_service = owners
                .insert(address, service)
                .map(|other| format!("service {}/{}", other.namespace, other.name));
            let other = other_service.or_else(|| pods.get(&address).map(|pod| format!("pod {}", pod.key())));
            if let Some(other) = other {
                let (namespace, name) = (namespace.clone(), name.clone());
                errors.push(ModelError::AddressTaken { address, namespace, name, other });
            }
            for (position, port) in service.ports.iter().enumerate() {
                index.entry((address, port.port)).or_insert_with(|| (Arc::clone(service), position));
            }
        }
    }
    index
}

/// Returns the policy of pods that are not known.
fn refuse_everything() -> Arc<Policy> {
    Arc::new(Policy {
        id: PolicyId { namespace: None, name: "ambit:unknown-pod".to_owned() },
        action: Action::Allow,
        dry_run: false,
        namespace_selector: None,
        selector: Selector::default(),
        rules: Vec::new(),
        egress_only: false,
        egress: Vec::new(),
    })
}

#[cfg(test)]
mod tests;
