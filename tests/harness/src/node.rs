//! A node: a namespace joined to the fabric, routes to the other nodes, a cgroup tree, room for pods and an agent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};

use crate::agent::Agent;
use crate::bed::Shared;
use crate::pod::{Pod, PodSpec};
use crate::shell::script;
use crate::{cgroup, must, netns, place::Place};

/// The cgroups that every node has besides those of its pods.
const GROUPS: [&str; 4] = ["agent", "pods", "kubelet", "system"];

/// A node of the testbed.
#[derive(Clone)]
pub struct Node {
    pub(crate) shared: Arc<Shared>,
    pub(crate) record: Arc<NodeRecord>,
}

/// What the testbed remembers of a node.
pub(crate) struct NodeRecord {
    pub(crate) name: String,
    pub(crate) index: u8,
    pub(crate) netns: String,
    pub(crate) cgroup: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) next_pod: AtomicU8,
}

impl NodeRecord {
    pub(crate) fn ip4(&self) -> Ipv4Addr {
        Ipv4Addr::new(172, 30, 0, self.index)
    }

    pub(crate) fn ip6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x172, 0x30, 0, 0, 0, 0, self.index.into())
    }

    /// Returns the address of the node's pod number `host`.
    pub(crate) fn pod_ip4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.index, 0, host)
    }

    pub(crate) fn pod_ip6(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd10, self.index.into(), 0, 0, 0, 0, 0, host.into())
    }
}

/// Makes the node's namespace, link and cgroups, and the routes between it and the nodes that stand.
pub(crate) fn create(
    shared: &Arc<Shared>,
    name: &str,
    index: u8,
    others: &[Arc<NodeRecord>],
) -> Result<NodeRecord> {
    let record = NodeRecord {
        name: name.into(),
        index,
        netns: shared.scoped(name),
        cgroup: shared.cgroup.join(name),
        dir: shared.dir.join("nodes").join(name),
        next_pod: AtomicU8::new(10),
    };
    std::fs::create_dir_all(&record.dir).with_context(|| format!("make {}", record.dir.display()))?;
    for group in GROUPS {
        cgroup::create(&record.cgroup.join(group))?;
    }
    netns::create(&record.netns)?;
    link(shared, &record)?;
    for other in others {
        for (from, to) in [(&record, &**other), (&**other, &record)] {
            script(Some(&from.netns), &route(to))?;
        }
    }
    Ok(record)
}

fn link(shared: &Shared, node: &NodeRecord) -> Result<()> {
    let (fabric, netns, index) = (shared.fabric(), &node.netns, node.index);
    let (ip4, ip6) = (node.ip4(), node.ip6());
    script(
        Some(netns),
        &format!(
            "for f in all default; do
               echo 0 > /proc/sys/net/ipv4/conf/$f/rp_filter
               echo 0 > /proc/sys/net/ipv6/conf/$f/accept_dad
               echo 0 > /proc/sys/net/ipv6/conf/$f/accept_ra
             done
             echo 1 > /proc/sys/net/ipv4/ip_forward
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             ip link add eth0 mtu 1500 type veth peer name node{index} mtu 1500 netns {fabric}
             ip -n {fabric} link set node{index} master br0 up
             ip link set eth0 up
             ip addr add {ip4}/24 dev eth0
             ip addr add {ip6}/64 dev eth0 nodad
             ip route add default via 172.30.0.254
             ip -6 route add default via fd00:172:30::fffe"
        ),
    )
    .map(drop)
}

fn route(to: &NodeRecord) -> String {
    let (pods4, pods6, ip4, ip6) = (to.pod_ip4(0), to.pod_ip6(0), to.ip4(), to.ip6());
    format!("ip route add {pods4}/16 via {ip4}\nip -6 route add {pods6}/64 via {ip6}")
}

impl Node {
    /// Returns the node's name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns the node's own addresses, IPv4 first.
    pub fn ips(&self) -> [IpAddr; 2] {
        [self.record.ip4().into(), self.record.ip6().into()]
    }

    /// Returns the node's cgroup, which its agent takes as `--cgroup-root`.
    pub fn cgroup(&self) -> &Path {
        &self.record.cgroup
    }

    /// Returns the folder of the node's own files: the agent's socket, state and log.
    pub fn dir(&self) -> &Path {
        &self.record.dir
    }

    /// Returns the folder on the testbed's bpffs where this node's agent pins its programs.
    pub fn bpffs(&self) -> PathBuf {
        self.shared.bpffs().join(&self.record.name)
    }

    /// Returns where host processes run: the node's namespace and its cgroup `group` (kubelet, system, agent, or a new one).
    #[track_caller]
    pub fn host(&self, group: &str) -> Place {
        let path = self.record.cgroup.join(group);
        must(cgroup::create(&path));
        Place {
            shared: self.shared.clone(),
            name: format!("{}:{group}", self.record.name),
            netns: self.record.netns.clone(),
            cgroup: path,
        }
    }

    /// Returns a command that runs as a host process in the node's cgroup `group`.
    #[track_caller]
    pub fn command(&self, group: &str, program: &str) -> Command {
        self.host(group).command(program)
    }

    /// Starts a pod on this node. Agents learn of it at the next [`crate::Testbed::apply`].
    #[track_caller]
    pub fn pod(&self, spec: PodSpec) -> Pod {
        let next = self.record.next_pod.fetch_add(1, Ordering::Relaxed);
        must(Pod::create(self, spec, next))
    }

    /// Starts the node's agent as a real process and waits until it is ready.
    ///
    /// `extra` is added to the command line, such as `["--cert-ttl", "30s"]`.
    #[track_caller]
    pub fn start_agent(&self, extra: &[&str]) -> Agent {
        Agent::start(self, extra)
    }
}
