//! The world that most tests begin with: two nodes with agents, a client, and a server on each node. Decides nothing.

use std::time::Duration;

use serde_json::Value;

use crate::{Agent, Node, Pod, PodSpec, Service, ServiceSpec, Testbed, wait_until};

/// How long a pod may take to be captured.
const CAPTURE: Duration = Duration::from_secs(10);

/// Two nodes with agents and three pods of the namespace `shop`; port 80 of each service leads to port 8080.
pub struct Mesh {
    /// The agents of the nodes `a` and `b`.
    pub agents: [Agent; 2],
    /// The testbed.
    pub bed: Testbed,
    /// The node of the client.
    pub a: Node,
    /// The other node.
    pub b: Node,
    /// Calls the others, from node `a`.
    pub client: Pod,
    /// A server on the client's own node.
    pub near: Pod,
    /// A server on the other node.
    pub far: Pod,
    /// Leads to `near`.
    pub near_service: Service,
    /// Leads to `far`.
    pub far_service: Service,
}

impl Mesh {
    /// Starts it with `shop` labelled `mode` (`none` stands for no label) and `extra` on each agent's command line.
    #[track_caller]
    pub fn start(name: &str, mode: &str, extra: &[&str]) -> Self {
        let bed = Testbed::new(name);
        let (a, b) = (bed.node("a"), bed.node("b"));
        let pod = |node: &Node, name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
        let (client, near, far) = (pod(&a, "client"), pod(&a, "near"), pod(&b, "far"));
        let service = |name: &str| bed.service(ServiceSpec::new("shop", name).port(80, 8080));
        let (near_service, far_service) = (service("near"), service("far"));
        if mode != "none" {
            bed.label_namespace("shop", mode);
        }
        bed.publish();
        let agents = [a.start_agent(extra), b.start_agent(extra)];
        Self { agents, bed, a, b, client, near, far, near_service, far_service }
    }

    /// Waits until both agents say that they capture every pod that they should, and nothing is wrong with any.
    #[track_caller]
    pub fn wait_captured(&self) {
        for agent in &self.agents {
            wait_until("every pod to be captured", CAPTURE, || {
                let status = agent.status();
                let pods = status["pods"].as_array().cloned().unwrap_or_default();
                let sound = |pod: &Value| pod["captured"] == true && pod["problem"].is_null();
                !pods.is_empty() && pods.iter().all(sound)
            });
        }
    }

    /// Returns how many connections the agent of node `index` has let in.
    #[track_caller]
    pub fn allowed(&self, index: usize) -> u64 {
        let counts = self.agents[index].status()["connections"]["decisions"]["allowed"].clone();
        counts.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Returns how many connections the agent of node `index` carries now.
    #[track_caller]
    pub fn carried(&self, index: usize) -> usize {
        self.agents[index].connections()["connections"].as_array().map_or(0, Vec::len)
    }
}
