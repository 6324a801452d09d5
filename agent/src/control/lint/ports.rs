//! Finds ports of rules that no pod that the policy selects has.
//!
//! Speaks only where every such pod declares its ports, since those of the others may be any.

use std::collections::{BTreeMap, BTreeSet};

use ambit_core::{Policy, PortRange, Protocol, Snapshot};
use k8s_openapi::api::core::v1::Pod;

use crate::control::finding::{Findings, MAX_FINDINGS_PER_FILE};
use crate::control::objects::{Located, Objects, name_of, namespace_of};

/// The most ports that a message lists.
const LISTED: usize = 8;

type Ports = BTreeSet<(Protocol, u16)>;

/// What is known of the ports of the pods that a policy selects.
#[derive(Default)]
struct Known {
    /// Whether one of them declares none.
    silent: bool,
    /// What they declare, and where services send connections to them.
    ports: Ports,
    /// Ports of services in front of them, each with the service and the pods' own port.
    of_services: BTreeMap<u16, (String, u16)>,
}

/// Warns about ports that no selected pod has.
pub(super) fn warn(objects: &Objects, snapshot: &Snapshot, findings: &mut Findings) {
    let known = known(objects, snapshot);
    for policy in &objects.policies {
        let Some(known) = known.get(&policy.value.id).filter(|known| !known.silent) else { continue };
        warn_about(policy, known, findings);
    }
}

fn warn_about(policy: &Located<Policy>, known: &Known, findings: &mut Findings) {
    let before = findings.warnings.len();
    for (rule_index, rule) in policy.value.rules.iter().enumerate() {
        for (to_index, to) in rule.to.iter().flatten().enumerate() {
            for (index, range) in to.ports.iter().enumerate() {
                let has = |(protocol, port): &(Protocol, u16)| {
                    *protocol == to.protocol && (range.first..=range.last).contains(port)
                };
                if findings.warnings.len() - before > MAX_FINDINGS_PER_FILE {
                    return;
                }
                if known.ports.iter().any(has) {
                    continue;
                }
                let (rule, to_place, place) =
                    (format!("[{rule_index}]"), format!("[{to_index}]"), format!("[{index}]"));
                let steps = ["spec", "rules", &rule, "to", &to_place, "ports", &place];
                let message = format!(
                    "no pod that the policy selects has {} port {range}; they have {}",
                    to.protocol,
                    listed(&known.ports)
                );
                let finding = policy.finding(&steps, message);
                findings.warn(match behind(known, to.protocol, *range) {
                    Some(hint) => finding.with_hint(hint),
                    None => finding,
                });
            }
        }
    }
}

/// Says which port was meant, where a service's own was written.
fn behind(known: &Known, protocol: Protocol, range: PortRange) -> Option<String> {
    if protocol != Protocol::Tcp || range.first != range.last {
        return None;
    }
    let (service, port) = known.of_services.get(&range.first)?;
    Some(format!(
        "policies speak of the pods' own ports: port {} of the service {service} leads to {port}",
        range.first
    ))
}

fn listed(ports: &Ports) -> String {
    let names: Vec<String> =
        ports.iter().take(LISTED).map(|(protocol, port)| format!("{protocol} {port}")).collect();
    let more = ports.len().saturating_sub(LISTED);
    if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
}

/// Returns what is known of the pods of each policy.
fn known<'a>(objects: &'a Objects, snapshot: &'a Snapshot) -> BTreeMap<&'a ambit_core::PolicyId, Known> {
    let mut by_address: BTreeMap<std::net::IpAddr, Vec<(u16, u16, String)>> = BTreeMap::new();
    for service in snapshot.services() {
        let name = format!("{}/{}", service.namespace, service.name);
        for port in &service.ports {
            for endpoint in &port.endpoints {
                let entry = (port.port, endpoint.port, name.clone());
                by_address.entry(endpoint.address).or_default().push(entry);
            }
        }
    }
    let mut known: BTreeMap<&ambit_core::PolicyId, Known> = BTreeMap::new();
    for pod in &objects.pods {
        let metadata = &pod.value.metadata;
        let Some(workload) = snapshot.workload_named(namespace_of(metadata), name_of(metadata)) else {
            continue;
        };
        let declared = declared(&pod.value);
        let served = workload.addresses.iter().filter_map(|address| by_address.get(address)).flatten();
        let served: Vec<&(u16, u16, String)> = served.collect();
        for policy in snapshot.policies_of(workload) {
            let known = known.entry(&policy.id).or_default();
            known.silent |= declared.is_empty();
            known.ports.extend(&declared);
            for (port, target, service) in &served {
                known.ports.insert((Protocol::Tcp, *target));
                known.of_services.entry(*port).or_insert_with(|| (service.clone(), *target));
            }
        }
    }
    known
}

/// Returns the ports that the containers of a pod declare.
fn declared(pod: &Pod) -> Ports {
    let spec = pod.spec.iter();
    let containers =
        spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let read = ports.filter_map(|port| {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(_) => return None,
        };
        Some((protocol, u16::try_from(port.container_port).ok()?))
    });
    read.collect()
}
