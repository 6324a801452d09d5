//! The direct lane: connections between enrolled pods of one node, decided upon by the kernel.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, time::Duration};

use ambit_harness::{Agent, Pod, PodSpec, Server, Service, ServiceSpec, Testbed};

const ONLY_WEB: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [8080]}]
";

/// One node with the pods web, api and db, and an agent that lets them talk directly.
struct Lane {
    bed: Testbed,
    web: Pod,
    api: Pod,
    db: Pod,
    service: Service,
    agent: Agent,
    _server: Server,
}

impl Lane {
    fn start(name: &str, mode: &str) -> Self {
        let bed = Testbed::new(name);
        let node = bed.node("a");
        let pod = |name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
        let (web, api, db) = (pod("web"), pod("api"), pod("db"));
        let service = bed.service(ServiceSpec::new("shop", "db").select("app", "db").port(80, 8080));
        bed.label_namespace("shop", "strict");
        bed.write_object("policy.yaml", ONLY_WEB);
        bed.publish();
        let server = db.serve(mode, 8080);
        let agent = node.start_agent(&["--same-node", "direct"]);
        Self { bed, web, api, db, service, agent, _server: server }
    }

    fn ways(&self) -> [SocketAddr; 4] {
        [self.db.addr(8080), self.db.addr6(8080), self.service.addr(), self.service.addr6()]
    }

    fn assert_policy_holds(&self) {
        for to in self.ways() {
            let allowed = self.web.connect(to);
            assert!(allowed.all_ok(), "{to}: {allowed:?}\n{}", self.agent.log());
            assert_eq!(allowed.getpeername, Some(to));
            let refused = self.api.connect(to);
            assert!(refused.none_ok() && refused.errors.contains_key("refused"), "{to}: {refused:?}");
        }
    }
}

#[test]
fn pods_of_one_node_talk_directly_as_the_policy_says() {
    let lane = Lane::start("lane", "hello");
    lane.assert_policy_holds();
    let status = lane.agent.status();
    assert_eq!(status["connections"]["tunnels"], 0);
    assert_eq!(status["connections"]["decisions"]["denied"]["no-allow-match"], 4);
    let denial = &status["recent_denials"][0];
    assert_eq!(denial["source"], "spiffe://cluster.local/ns/shop/sa/api");
    assert!(denial["summary"].as_str().unwrap().contains("AccessPolicy shop/db"), "{denial}");
}

#[test]
fn the_lane_holds_the_policy_while_no_agent_runs() {
    let mut lane = Lane::start("alone", "hello");
    lane.assert_policy_holds();
    lane.agent.kill();
    lane.assert_policy_holds();
}

#[test]
fn a_direct_connection_is_listed_and_reset_once_it_is_refused() {
    let lane = Lane::start("live", "echo");
    let mut held = lane.web.traffic_spawn(&["hold", &lane.service.addr().to_string()]);
    held.wait_log("holding");
    let rows = lane.agent.connections();
    let rows = rows["connections"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["path"], "direct");
    assert_eq!(rows[0]["source"], "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(rows[0]["destination"], "shop/db");
    lane.bed.write_object("policy.yaml", &ONLY_WEB.replace("[web]", "[api]"));
    lane.bed.apply();
    held.wait(Duration::from_secs(10));
    assert_eq!(held.result()["end"], "reset");
    let echo = ["--expect", "echo"];
    assert!(lane.web.connect_with(lane.db.addr(8080), &echo).none_ok());
    assert!(lane.api.connect_with(lane.db.addr(8080), &echo).all_ok());
}
