//! A Kubernetes Service of the testbed: its addresses, and which pods stand behind it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::pod::PodRecord;

/// What a service is to be.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) ports: Vec<(u16, u16)>,
    pub(crate) number: Option<u8>,
}

impl ServiceSpec {
    /// Describes a service that selects the pods with the label `app: NAME`.
    pub fn new(namespace: &str, name: &str) -> Self {
        let selector = BTreeMap::from([("app".into(), name.into())]);
        Self { namespace: namespace.into(), name: name.into(), selector, ports: Vec::new(), number: None }
    }

    /// Selects the pods with this label instead of `app: NAME`.
    pub fn select(mut self, key: &str, value: &str) -> Self {
        self.selector = BTreeMap::from([(key.into(), value.into())]);
        self
    }

    /// Adds a port and the pods' port behind it.
    pub fn port(mut self, port: u16, target: u16) -> Self {
        self.ports.push((port, target));
        self
    }

    /// Sets the last byte of both cluster addresses; absent: the next free one.
    pub fn vip(mut self, number: u8) -> Self {
        self.number = Some(number);
        self
    }
}

/// A service of the testbed.
#[derive(Clone, Debug)]
pub struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) ip4: Ipv4Addr,
    pub(crate) ip6: Ipv6Addr,
}

impl Service {
    pub(crate) fn new(spec: ServiceSpec, next: u8) -> Self {
        let number = spec.number.unwrap_or(next);
        let ip6 = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, number.into());
        Self { spec, ip4: Ipv4Addr::new(10, 96, 0, number), ip6 }
    }

    /// Returns the IPv4 cluster address with the service's first port.
    pub fn addr(&self) -> SocketAddr {
        (self.ip4, self.first_port()).into()
    }

    /// Returns the IPv6 cluster address with the service's first port.
    pub fn addr6(&self) -> SocketAddr {
        (self.ip6, self.first_port()).into()
    }

    fn first_port(&self) -> u16 {
        self.spec.ports.first().map_or(0, |(port, _)| *port)
    }

    /// Returns the pods that the service selects, ready or not.
    pub(crate) fn endpoints<'a>(&self, pods: &'a [Arc<PodRecord>]) -> Vec<&'a PodRecord> {
        let selects = |pod: &&PodRecord| {
            let spec = pod.spec();
            spec.namespace == self.spec.namespace
                && self.spec.selector.iter().all(|(key, value)| spec.labels.get(key) == Some(value))
        };
        pods.iter().map(|pod| &**pod).filter(selects).collect()
    }
}
