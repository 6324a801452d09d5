//! One node with the pods web, api and db, and an agent with the default way between them. Decides nothing.

use std::net::SocketAddr;

use ambit_harness::{Agent, Node, Pod, PodSpec, Server, Service, ServiceSpec, Testbed};
use serde_json::Value;

/// Only web reaches db, on port 8080.
pub(crate) const ONLY_WEB: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [8080]}]
";

/// One strict namespace on one node.
pub(crate) struct Lane {
    pub(crate) web: Pod,
    pub(crate) api: Pod,
    pub(crate) db: Pod,
    /// Port 80 leads to port 8080 of db.
    pub(crate) service: Service,
    pub(crate) node: Node,
    pub(crate) agent: Agent,
    pub(crate) server: Server,
    pub(crate) bed: Testbed,
    encrypts: bool,
}

impl Lane {
    /// Builds it; db serves `mode` of `traffic serve` on port 8080, and `extra` goes to the agent.
    #[track_caller]
    pub(crate) fn start(name: &str, mode: &str, extra: &[&str]) -> Self {
        let bed = Testbed::new(name);
        let node = bed.node("a");
        let pod = |name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
        let (web, api, db) = (pod("web"), pod("api"), pod("db"));
        let service = bed.service(ServiceSpec::new("shop", "db").select("app", "db").port(80, 8080));
        bed.label_namespace("shop", "strict");
        bed.write_object("policy.yaml", ONLY_WEB);
        bed.publish();
        let server = db.serve(mode, 8080);
        let agent = node.start_agent(extra);
        Self { web, api, db, service, node, agent, server, bed, encrypts: extra.contains(&"encrypt") }
    }

    /// The ways to db: by pod address and by service, over both families.
    pub(crate) fn ways(&self) -> [SocketAddr; 4] {
        [self.db.addr(8080), self.db.addr6(8080), self.service.addr(), self.service.addr6()]
    }

    /// Asserts on every way that web is served, sees the address that it dialled, and that api is refused.
    #[track_caller]
    pub(crate) fn assert_policy_holds(&self) {
        for to in self.ways() {
            let allowed = self.web.connect(to);
            assert!(allowed.all_ok(), "{to}: {allowed:?}\n{}", self.agent.log());
            assert_eq!(allowed.getpeername, Some(to));
            let refused = self.api.connect(to);
            // Through the tunnel the connection stands before it is refused.
            let word = if self.encrypts { "reset" } else { "refused" };
            assert!(refused.none_ok() && refused.errors.contains_key(word), "{to}: {refused:?}");
        }
    }

    /// Returns the rows of `ambit connections`.
    #[track_caller]
    pub(crate) fn rows(&self) -> Vec<Value> {
        self.agent.connections()["connections"].as_array().unwrap().clone()
    }
}
