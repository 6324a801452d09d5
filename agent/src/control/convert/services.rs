//! Services and endpoint slices become the model's services.
//!
//! Only TCP. Endpoints come from the slices; a service with a selector and without slices, as a hand-written directory has
//! them, gets the pods that it selects.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ambit_core::{Endpoint, Service, ServicePort, Workload};
use k8s_openapi::api::core::v1::{self, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods::is_usable;
use crate::control::finding::Findings;
use crate::control::objects::{Located, Objects, name_of, namespace_of};

/// The label by which a slice belongs to a service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The namespace and the name of an object.
type Name<'a> = (&'a str, &'a str);

/// What endpoints are found by.
struct Backends<'a> {
    slices: HashMap<Name<'a>, Vec<&'a Located<EndpointSlice>>>,
    /// The running pods of each namespace.
    pods: HashMap<&'a str, Vec<(&'a Pod, &'a Workload)>>,
}

/// Returns the services.
pub(super) fn services(objects: &Objects, workloads: &[Workload], findings: &mut Findings) -> Vec<Service> {
    let backends = Backends::index(objects, workloads, findings);
    let services = objects.services.iter();
    services.filter_map(|service| convert_service(service, &backends, findings)).collect()
}

fn convert_service(
    service: &Located<v1::Service>,
    backends: &Backends<'_>,
    findings: &mut Findings,
) -> Option<Service> {
    let metadata = &service.value.metadata;
    let spec = service.value.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let vips = virtual_addresses(service, spec, findings);
    let mut ports = Vec::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            continue;
        }
        let Some(number) = port_number(port.port) else {
            let steps = ["spec", "ports", &format!("[{index}]"), "port"];
            findings.error(service.finding(&steps, format!("{} is no port", port.port)));
            continue;
        };
        let name = port.name.clone().filter(|name| !name.is_empty());
        let endpoints = backends.endpoints(service, spec, port, name.as_deref());
        ports.push(ServicePort { name, port: number, endpoints });
    }
    let (namespace, name) = (namespace_of(metadata).to_owned(), name_of(metadata).to_owned());
    Some(Service { namespace, name, vips, ports })
}

/// Returns the virtual addresses; a headless service has none.
fn virtual_addresses(
    service: &Located<v1::Service>,
    spec: &v1::ServiceSpec,
    findings: &mut Findings,
) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for written in spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()) {
        if written.is_empty() || written == "None" {
            continue;
        }
        match written.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) if !is_usable(address) => {
                let message = format!("{address} cannot be the address of a service");
                findings.error(service.finding(&["spec", "clusterIP"], message));
            }
            Ok(address) if addresses.contains(&address) => {}
            Ok(address) => addresses.push(address),
            Err(_) => {
                let finding = service.finding(&["spec", "clusterIP"], format!("{written:?} is no address"));
                findings.error(finding.with_hint("write an address, or None for a headless service"));
            }
        }
    }
    addresses
}

impl<'a> Backends<'a> {
    fn index(objects: &'a Objects, workloads: &'a [Workload], findings: &mut Findings) -> Self {
        let mut slices: HashMap<Name<'a>, Vec<&'a Located<EndpointSlice>>> = HashMap::new();
        for slice in &objects.slices {
            check_slice(slice, findings);
            let metadata = &slice.value.metadata;
            if let Some(service) = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL))
            {
                slices.entry((namespace_of(metadata), service)).or_default().push(slice);
            }
        }
        let by_name: HashMap<Name<'_>, &Workload> = workloads
            .iter()
            .map(|workload| ((workload.namespace.as_str(), workload.name.as_str()), workload))
            .collect();
        let mut pods: HashMap<&str, Vec<(&Pod, &Workload)>> = HashMap::new();
        for pod in &objects.pods {
            let name = (namespace_of(&pod.value.metadata), name_of(&pod.value.metadata));
            if let Some(workload) = by_name.get(&name) {
                pods.entry(name.0).or_default().push((&pod.value, workload));
            }
        }
        Self { slices, pods }
    }

    /// Returns what stands behind a port of a service.
    fn endpoints(
        &self,
        service: &Located<v1::Service>,
        spec: &v1::ServiceSpec,
        port: &v1::ServicePort,
        name: Option<&str>,
    ) -> Vec<Endpoint> {
        let metadata = &service.value.metadata;
        let full_name = (namespace_of(metadata), name_of(metadata));
        let mut found: BTreeMap<(IpAddr, u16), bool> = BTreeMap::new();
        let mut add = |address: IpAddr, port: u16, ready: bool| {
            *found.entry((address.to_canonical(), port)).or_default() |= ready;
        };
        match (self.slices.get(&full_name), &spec.selector) {
            (Some(slices), _) => {
                for slice in slices {
                    slice_endpoints(&slice.value, name, &mut add);
                }
            }
            (None, Some(selector)) if !selector.is_empty() => {
                let pods = self.pods.get(full_name.0).into_iter().flatten();
                for (pod, workload) in pods.filter(|(_, workload)| selects(selector, &workload.labels)) {
                    let Some(target) = target_port(pod, port) else { continue };
                    let ready = spec.publish_not_ready_addresses == Some(true) || is_ready(pod);
                    workload.addresses.iter().for_each(|address| add(*address, target, ready));
                }
            }
            (None, _) => {}
        }
        found.into_iter().map(|((address, port), ready)| Endpoint { address, port, ready }).collect()
    }
}

/// Refuses addresses of a slice that are none.
fn check_slice(slice: &Located<EndpointSlice>, findings: &mut Findings) {
    if slice.value.address_type == "FQDN" {
        return;
    }
    let endpoints = slice.cursor().field("endpoints");
    for endpoint in endpoints.iter().flat_map(|list| list.items()) {
        let addresses = endpoint.field("addresses");
        for address in addresses.iter().flat_map(|list| list.items()) {
            if let crate::control::node::Value::Text(written) = &address.node.value
                && written.parse::<IpAddr>().is_err()
            {
                findings.error(address.finding(format!("{written:?} is no address")));
            }
        }
    }
}

/// Adds the endpoints of a slice for the port of this name.
fn slice_endpoints(slice: &EndpointSlice, name: Option<&str>, add: &mut impl FnMut(IpAddr, u16, bool)) {
    let ports = slice.ports.iter().flatten();
    let tcp = ports.filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"));
    let named = tcp.filter(|port| port.name.as_deref().filter(|name| !name.is_empty()) == name);
    for number in named.filter_map(|port| port_number(port.port?)) {
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            for address in endpoint.addresses.iter().filter_map(|address| address.parse().ok()) {
                add(address, number, ready);
            }
        }
    }
}

/// Tells whether a service's selector selects these labels.
fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Returns the port of the pod that a port of a service goes to.
fn target_port(pod: &Pod, port: &v1::ServicePort) -> Option<u16> {
    match &port.target_port {
        None => port_number(port.port),
        Some(IntOrString::Int(0)) => port_number(port.port),
        Some(IntOrString::Int(number)) => port_number(*number),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|candidate| {
                let tcp = candidate.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
                tcp && candidate.name.as_deref() == Some(name)
            });
            named.and_then(|port| port_number(port.container_port))
        }
    }
}

/// Tells whether a pod takes connections: it does unless its status denies it, or it is being deleted.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready =
        conditions.filter(|condition| condition.type_ == "Ready").all(|condition| condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Returns a number as a port.
fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}
