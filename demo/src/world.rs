//! The demo's world: two nodes, the calculator's pods spread over them, one pod outside the mesh, host processes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ambit_harness::{Agent, Node, Place, Pod, PodSpec, Process, Service, ServiceSpec, Testbed, binary};

/// The namespace of the calculator.
pub(crate) const NAMESPACE: &str = "rest-calculator";
const OUTSIDE: &str = "outside";
const PORT: u16 = 8080;

/// Pod, role and node of everything that serves.
const PODS: [(&str, &str, usize); 7] = [
    ("addition", "addition", 0),
    ("multiplication-1", "multiplication", 0),
    ("percentage", "percentage", 1),
    ("substraction", "substraction", 1),
    ("division", "division", 1),
    ("multiplication-2", "multiplication", 1),
    ("mathfanboy", "mathfanboy", 0),
];

/// The policy of the demo, as a user writes it.
pub(crate) const POLICY: &str = "\
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata:
  namespace: rest-calculator
  name: multiplication
spec:
  selector:
    matchLabels:
      app: multiplication
  action: Allow
  rules:
  - from:
    - serviceAccounts: [mathfanboy, percentage]
";

/// Everything that runs. Agents and processes come first: what is dropped first ends first.
pub(crate) struct World {
    pub(crate) agents: Vec<Agent>,
    _processes: Vec<Process>,
    pods: BTreeMap<String, Pod>,
    services: BTreeMap<String, Service>,
    pub(crate) nodes: [Node; 2],
    pub(crate) bed: Testbed,
}

impl World {
    /// Builds the nodes and starts the calculator; no agent runs yet.
    pub(crate) fn build() -> Self {
        let bed = Testbed::new("demo");
        let nodes = [bed.node("node-1"), bed.node("node-2")];
        bed.label_namespace(NAMESPACE, "none");
        bed.label_namespace(OUTSIDE, "none");
        let (mut pods, mut services) = (BTreeMap::new(), BTreeMap::new());
        for (name, role, node) in PODS {
            let spec = PodSpec::new(NAMESPACE, name).label("app", role).service_account(role);
            pods.insert(name.to_string(), nodes[node].pod(spec));
            services
                .entry(role.to_string())
                .or_insert_with(|| bed.service(ServiceSpec::new(NAMESPACE, role).port(80, PORT)));
        }
        // On the other node than addition, so that its plaintext crosses the wire.
        let outside = PodSpec::new(OUTSIDE, "outside").service_account("outside");
        pods.insert("outside".into(), nodes[1].pod(outside));
        bed.publish();
        let mut world = Self { agents: Vec::new(), _processes: Vec::new(), pods, services, nodes, bed };
        world._processes = PODS.iter().map(|(name, role, _)| world.serve(name, role)).collect();
        world
    }

    fn serve(&self, name: &str, role: &str) -> Process {
        let mut args: Vec<String> =
            [role, "--listen", &format!("[::]:{PORT}"), "--pod", name, "--every", "100ms"]
                .map(String::from)
                .into();
        for (service, address) in &self.services {
            args.extend(["--service".into(), format!("{service}=http://{}", address.addr())]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut process = self.pods[name].spawn(binary("calculator"), &args);
        process.wait_log("listening");
        process
    }

    /// Starts the agent of each node; the kubelet's cgroup is the only one whose processes count as the host.
    pub(crate) fn start_agents(&mut self) {
        for node in &self.nodes {
            let kubelet = node.host("kubelet").cgroup().display().to_string();
            self.agents.push(node.start_agent(&["--host-cgroups", &kubelet]));
        }
    }

    /// Returns where a row's source runs.
    pub(crate) fn place(&self, from: &str) -> Place {
        match from {
            "host" => self.nodes[0].host("system"),
            "kubelet" => self.nodes[0].host("kubelet"),
            pod => (*self.pods[pod]).clone(),
        }
    }

    /// Returns a pod by its name.
    pub(crate) fn pod(&self, name: &str) -> &Pod {
        &self.pods[name]
    }

    /// Returns the node that a row's source runs on.
    pub(crate) fn node_of(&self, name: &str) -> &str {
        self.pods.get(name).map_or(self.nodes[0].name(), |pod| pod.node_name())
    }

    /// Returns the addresses of a row's source.
    pub(crate) fn ips_of(&self, name: &str) -> [IpAddr; 2] {
        self.pods.get(name).map_or_else(|| self.nodes[0].ips(), Pod::ips)
    }

    /// Returns the pods that may answer to a row's destination.
    pub(crate) fn answering(&self, to: &str) -> Vec<&str> {
        let of_role = PODS.iter().filter(|(name, role, _)| to == *name || to == *role);
        of_role.map(|(name, ..)| *name).collect()
    }

    /// Returns the URL that reaches a row's destination, with a marker to find it again on the wire.
    pub(crate) fn url(&self, to: &str, by_service: bool, marker: &str) -> String {
        let op =
            PODS.iter().find(|(name, role, _)| *name == to || *role == to).map_or(to, |(_, role, _)| role);
        let address = if by_service { self.services[op].addr() } else { self.pods[to].addr(PORT) };
        format!("http://{address}/{op}?a=6&b=7&marker={marker}")
    }

    /// Returns where mathfanboy tells what its calls came to, as its own pod reaches it.
    pub(crate) fn diary(&self) -> String {
        format!("http://127.0.0.1:{PORT}/last")
    }
}
