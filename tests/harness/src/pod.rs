//! A pod: a namespace with a point-to-point link to its node, a cgroup, and the facts its Pod object shows.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use crate::node::{Node, NodeRecord};
use crate::place::Place;
use crate::shell::script;
use crate::{cgroup, must, netns};

/// What a pod is to be. Labels of the pod's namespace are set with [`crate::Testbed::label_namespace`].
#[derive(Clone, Debug, Default)]
pub struct PodSpec {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The pod's name, unique in its namespace.
    pub name: String,
    /// The service account.
    pub service_account: String,
    /// Labels; a pod has `app: NAME` unless it says otherwise.
    pub labels: BTreeMap<String, String>,
    /// Annotations besides `ambit.dev/netns`, which the harness writes.
    pub annotations: BTreeMap<String, String>,
    /// Whether the pod's condition Ready is false.
    pub unready: bool,
    /// The last byte of both addresses; absent: the next free one of the node.
    pub host_number: Option<u8>,
}

impl PodSpec {
    /// Describes a pod with the service account `default` and the label `app: NAME`.
    pub fn new(namespace: &str, name: &str) -> Self {
        let labels = BTreeMap::from([("app".into(), name.into())]);
        let (namespace, name, service_account) = (namespace.into(), name.into(), "default".into());
        Self { namespace, name, service_account, labels, ..Self::default() }
    }

    /// Sets the service account.
    pub fn service_account(mut self, name: &str) -> Self {
        self.service_account = name.into();
        self
    }

    /// Sets a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Sets an annotation; `ambit.dev/netns` replaces the harness's own.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Sets the last byte of both addresses, such as that of a pod that was deleted.
    pub fn host_number(mut self, number: u8) -> Self {
        self.host_number = Some(number);
        self
    }
}

/// A running pod. It is a [`Place`]: commands run in it with `pod.command`, `pod.run`, `pod.spawn`.
#[derive(Clone)]
pub struct Pod {
    place: Place,
    pub(crate) record: Arc<PodRecord>,
}

/// What the testbed remembers of a pod.
pub(crate) struct PodRecord {
    pub(crate) spec: Mutex<PodSpec>,
    pub(crate) node: Arc<NodeRecord>,
    pub(crate) netns: String,
    pub(crate) ip4: Ipv4Addr,
    pub(crate) ip6: Ipv6Addr,
    /// Counts the pods of a testbed: the instance that tells two pods of one name apart.
    pub(crate) instance: u32,
    host_number: u8,
}

impl PodRecord {
    /// Returns a copy of what the pod is at this moment.
    pub(crate) fn spec(&self) -> PodSpec {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn link(&self) -> String {
        format!("pod{}", self.host_number)
    }
}

impl Deref for Pod {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Pod {
    pub(crate) fn create(node: &Node, spec: PodSpec, next: u8) -> Result<Self> {
        let (shared, host) = (node.shared.clone(), spec.host_number.unwrap_or(next));
        let name = format!("{}-{}-{}", node.record.name, spec.namespace, spec.name);
        let place = Place {
            name: format!("{}/{}", spec.namespace, spec.name),
            netns: shared.scoped(&name),
            cgroup: node.record.cgroup.join("pods").join(format!("{}-{}", spec.namespace, spec.name)),
            shared,
        };
        let mut state = place.shared.state();
        state.instances += 1;
        let record = Arc::new(PodRecord {
            netns: place.netns.clone(),
            node: node.record.clone(),
            ip4: node.record.pod_ip4(host),
            ip6: node.record.pod_ip6(host),
            instance: state.instances,
            host_number: host,
            spec: Mutex::new(spec),
        });
        cgroup::create(&place.cgroup)?;
        netns::create(&place.netns)?;
        link(&record)?;
        state.pods.push(record.clone());
        drop(state);
        Ok(Self { place, record })
    }

    /// Returns the pod's addresses, IPv4 first.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.record.ip4.into(), self.record.ip6.into()]
    }

    /// Returns the pod's IPv4 address with a port.
    pub fn addr(&self, port: u16) -> SocketAddr {
        (self.record.ip4, port).into()
    }

    /// Returns the pod's IPv6 address with a port.
    pub fn addr6(&self, port: u16) -> SocketAddr {
        (self.record.ip6, port).into()
    }

    /// Returns the last byte of the pod's addresses, to give them to another pod.
    pub fn host_number(&self) -> u8 {
        self.record.host_number
    }

    /// Returns the name of the node that the pod runs on.
    pub fn node_name(&self) -> &str {
        &self.record.node.name
    }

    /// Changes the pod's labels, annotations, service account or readiness, as its object shows them from the next publication on.
    pub fn update(&self, change: impl FnOnce(&mut PodSpec)) {
        change(&mut self.record.spec.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the pod: its processes, namespace and cgroup go at once, its object at the next publication.
    #[track_caller]
    pub fn delete(self) {
        self.shared.state().pods.retain(|pod| !Arc::ptr_eq(pod, &self.record));
        must(cgroup::remove(self.cgroup()));
        // The namespace outlives its name while a process elsewhere holds it: the link must go now.
        must(script(Some(&self.record.node.netns), &format!("ip link delete {}", self.record.link())));
        must(netns::delete(self.netns_name()));
    }
}

/// Joins the pod to its node as point-to-point networks do: one address, a gateway that exists on the link only.
fn link(pod: &PodRecord) -> Result<()> {
    let (node, netns, link, host) = (&pod.node.netns, &pod.netns, pod.link(), pod.host_number);
    let (ip4, ip6, index) = (pod.ip4, pod.ip6, pod.node.index);
    let gateway = "ee:ee:ee:ee:ee:ee";
    script(
        Some(netns),
        &format!(
            "for f in all default; do
               echo 0 > /proc/sys/net/ipv6/conf/$f/accept_dad
               echo 0 > /proc/sys/net/ipv6/conf/$f/accept_ra
             done
             ip link add eth0 mtu 1500 address 02:ab:{index:02x}:00:00:{host:02x} type veth \
               peer name {link} mtu 1500 address {gateway} netns {node}
             ip link set eth0 up
             ip addr add {ip4}/32 dev eth0
             ip addr add {ip6}/128 dev eth0 nodad
             ip neigh replace 169.254.1.1 lladdr {gateway} dev eth0 nud permanent
             ip neigh replace fe80::1 lladdr {gateway} dev eth0 nud permanent
             ip route add 169.254.1.1 dev eth0 scope link
             ip route add default via 169.254.1.1 dev eth0
             ip -6 route add default via fe80::1 dev eth0"
        ),
    )?;
    script(
        Some(node),
        &format!(
            "ip link set {link} up
             ip addr add fe80::1/64 dev {link} nodad
             ip neigh replace {ip4} lladdr 02:ab:{index:02x}:00:00:{host:02x} dev {link} nud permanent
             ip neigh replace {ip6} lladdr 02:ab:{index:02x}:00:00:{host:02x} dev {link} nud permanent
             ip route add {ip4}/32 dev {link}
             ip -6 route add {ip6}/128 dev {link}"
        ),
    )
    .map(drop)
}
