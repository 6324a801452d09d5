//! Two nodes: a client whose egress is `mesh`, peers of it in the mesh, and servers outside of it, one on each node.

use std::net::SocketAddr;

use ambit_harness::{
    Agent, Connects, Node, Place, Pod, PodSpec, Process, Server, Service, ServiceSpec, Testbed, binary,
};
use serde_json::Value;

pub(crate) const PORT: u16 = 8080;

pub(crate) struct World {
    pub(crate) client: Pod,
    /// In the mesh, on the client's node and on the other one.
    pub(crate) peers: [Pod; 2],
    /// Outside of the mesh, on the client's node and on the other one.
    pub(crate) outside: [Pod; 2],
    /// Leads to the pods outside.
    pub(crate) service: Service,
    pub(crate) agents: [Agent; 2],
    pub(crate) bed: Testbed,
    pub(crate) nodes: [Node; 2],
    servers: Vec<Server>,
}

impl World {
    /// Builds it with the label `mode` on the client's namespace, and servers of `kind`.
    pub(crate) fn new(name: &str, mode: &str, egress: &str, kind: &str, extra: &[&str]) -> Self {
        let bed = Testbed::new(name);
        let nodes = [bed.node("a"), bed.node("b")];
        let client = nodes[0].pod(PodSpec::new("shop", "client").service_account("client"));
        let peers = [0, 1].map(|node| nodes[node].pod(PodSpec::new("shop", &format!("peer-{node}"))));
        let outside = [0, 1].map(|node| {
            nodes[node].pod(PodSpec::new("world", &format!("outside-{node}")).label("app", "outside"))
        });
        let service = bed.service(ServiceSpec::new("world", "outside").port(80, PORT));
        bed.label_namespace("shop", mode);
        bed.label_egress("shop", egress);
        bed.publish();
        let servers = peers.iter().chain(&outside).map(|pod| pod.serve(kind, PORT)).collect();
        let agents = [0, 1].map(|node| nodes[node].start_agent(extra));
        Self { client, peers, outside, service, agents, bed, nodes, servers }
    }

    /// Labels the client's namespace with another egress.
    #[track_caller]
    pub(crate) fn egress(&self, egress: &str) {
        self.bed.label_egress("shop", egress);
        self.bed.apply();
    }

    /// Puts the egress rules of all pods of the client's namespace in force (YAML, one line).
    #[track_caller]
    pub(crate) fn rules(&self, more: &str, rules: &str) {
        self.bed.write_object(
            "egress.yaml",
            &format!(
                "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: shop, name: out}}\n\
                 spec: {{{more}egress: {rules}}}\n"
            ),
        );
        self.bed.apply();
    }

    /// Adds a service of two endpoints on the other node: a peer in the mesh, and a pod outside, which is returned.
    #[track_caller]
    pub(crate) fn mixed(&mut self, kind: &str) -> (Service, Pod) {
        let guest = PodSpec::new("shop", "guest").label("ambit.dev/mode", "none").label("set", "mixed");
        let guest = self.nodes[1].pod(guest);
        self.peers[1].update(|spec| drop(spec.labels.insert("set".into(), "mixed".into())));
        let spec = ServiceSpec::new("shop", "mixed").select("set", "mixed").port(80, PORT);
        let service = self.bed.service(spec);
        self.servers.push(guest.serve(kind, PORT));
        self.bed.apply();
        (service, guest)
    }

    /// The ways out of the mesh: both families, the mapped one, and a service's address.
    pub(crate) fn ways_out(&self) -> Vec<SocketAddr> {
        let pods = self.outside.iter().flat_map(|pod| [pod.addr(PORT), pod.addr6(PORT), mapped(pod)]);
        pods.chain([self.service.addr(), self.service.addr6()]).collect()
    }

    /// How many packets of the client's the guard has dropped, by reason.
    pub(crate) fn dropped(&self) -> Value {
        let status = self.agents[0].status();
        let pods = status["pods"].as_array().unwrap();
        pods.iter().find(|pod| pod["name"] == "client").unwrap()["dropped"].clone()
    }

    /// The rows of `ambit status` about what the client was refused, oldest first.
    pub(crate) fn denials(&self) -> Vec<Value> {
        let status = self.agents[0].status();
        let rows = status["recent_denials"].as_array().cloned().unwrap_or_default();
        rows.into_iter().filter(|row| row["direction"] == "outbound").collect()
    }
}

/// The pod's IPv4 address, as a socket of IPv6 dials it.
pub(crate) fn mapped(pod: &Pod) -> SocketAddr {
    let SocketAddr::V4(v4) = pod.addr(PORT) else { unreachable!("addr is IPv4") };
    (v4.ip().to_ipv6_mapped(), PORT).into()
}

/// Asserts that the calls are served.
#[track_caller]
pub(crate) fn served(from: &Place, to: &[SocketAddr]) {
    for to in to {
        let seen = from.connect(*to);
        assert!(seen.all_ok(), "{} to {to}: {seen:?}", from.name());
    }
}

/// Asserts that the calls are refused before anything leaves: the application is told so by `connect()`.
#[track_caller]
pub(crate) fn refused(from: &Place, to: &[SocketAddr]) {
    for to in to {
        let seen: Connects = from.connect(*to);
        assert!(
            seen.none_ok() && seen.errors.contains_key("permission"),
            "{} to {to}: {seen:?}",
            from.name()
        );
    }
}

/// Shows what reaches `pod` over its link.
pub(crate) fn watch(pod: &Pod) -> Process {
    let [v4, v6] = pod.ips().map(|ip| ip.to_string());
    let mut watch = pod.spawn(binary("attack"), &["watch", "--icmp", &v4, &v6]);
    watch.wait_log("watching");
    watch
}

pub(crate) fn lines(watch: &Process) -> Vec<Value> {
    watch.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Sends it from the link of `pod`, and does not ask whether it arrives.
#[track_caller]
pub(crate) fn send(pod: &Pod, from: SocketAddr, to: SocketAddr, more: &[&str]) {
    let (from, to) = (from.to_string(), to.to_string());
    let arguments = [&["send", to.as_str(), "--from", &from, "--blind"], more].concat();
    let output = pod.run(binary("attack").to_str().unwrap(), &arguments);
    assert!(output.status.success(), "{output:?}");
}
