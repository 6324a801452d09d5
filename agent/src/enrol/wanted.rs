//! Which pods of a snapshot this node has to enrol, and how: a pure function.

use ambit_abi::{endpoint_flag, pod_flag};
use ambit_core::{
    identity::SpiffeId,
    model::{Egress, Mode, Workload, WorkloadKey},
    policy::may_refuse_host,
    state::Snapshot,
};
use std::net::IpAddr;

/// A pod that is to be enrolled on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPod {
    /// Its name.
    pub key: WorkloadKey,
    /// Its instance.
    pub uid: String,
    /// Who it is.
    pub identity: SpiffeId,
    /// Its mode.
    pub mode: Mode,
    /// What it may call.
    pub egress: Egress,
    /// Why the mode or the egress is not what its label says.
    pub label_problem: Option<String>,
    /// Path of its network namespace.
    pub netns: Option<String>,
    /// At most one address of each family.
    pub addresses: Vec<IpAddr>,
    /// `ambit_abi::endpoint_flag` bits.
    pub flags: u32,
    /// `ambit_abi::pod_flag` bits.
    pub pod_flags: u32,
    /// How many policies select it.
    pub policies: usize,
}

/// Returns the pods that `node` has to enrol.
pub fn wanted_pods(snapshot: &Snapshot, node: &str) -> Vec<WantedPod> {
    let here =
        |pod: &&std::sync::Arc<Workload>| pod.node == node && pod.mode.is_enrolled() && !pod.host_network;
    snapshot.workloads().filter(here).map(|pod| wanted(snapshot, pod)).collect()
}

fn wanted(snapshot: &Snapshot, pod: &Workload) -> WantedPod {
    let policies = snapshot.policies_of(pod);
    let mut flags = 0;
    if pod.mode == Mode::Strict {
        flags |= endpoint_flag::REFUSE_UNVERIFIED;
    }
    if !may_refuse_host(policies) {
        flags |= endpoint_flag::HOST_PASSES;
    }
    let mut pod_flags = match pod.mode {
        Mode::Permissive | Mode::Strict => pod_flag::ENFORCED,
        Mode::Audit | Mode::None => 0,
    };
    if pod.egress == Egress::Mesh {
        pod_flags |= pod_flag::EGRESS_MESH;
    }
    let problems: Vec<&str> =
        [&pod.mode_problem, &pod.egress_problem].into_iter().flatten().map(String::as_str).collect();
    let first = |v4: bool| pod.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
    WantedPod {
        key: pod.key(),
        uid: pod.uid.clone(),
        identity: pod.identity.clone(),
        mode: pod.mode,
        egress: pod.egress,
        label_problem: (!problems.is_empty()).then(|| problems.join("; ")),
        netns: pod.netns.clone(),
        addresses: [first(true), first(false)].into_iter().flatten().collect(),
        flags,
        pod_flags,
        policies: policies.len(),
    }
}
