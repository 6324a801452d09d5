//! Pods of one node reach each other as the policies say, whether an agent runs or not, and past it.

use std::time::Duration;

use ambit_harness::wait_until;

use crate::world::{Lane, ONLY_WEB};

#[test]
fn pods_of_one_node_talk_directly_as_the_policy_says() {
    let lane = Lane::start("lane", "hello", &[]);
    lane.assert_policy_holds();
    // The kernel's refusals are reported a moment after they were made.
    wait_until("every refusal to be reported", Duration::from_secs(10), || {
        lane.agent.status()["connections"]["decisions"]["denied"]["no-allow-match"] == 4
    });
    let status = lane.agent.status();
    assert_eq!(status["connections"]["tunnels"], 0);
    let denials = status["recent_denials"].as_array().unwrap();
    let of_api = |denial: &&serde_json::Value| denial["source"] == "spiffe://cluster.local/ns/shop/sa/api";
    assert_eq!(denials.iter().filter(of_api).count(), 4, "{denials:?}");
    let denial = denials.iter().find(of_api).unwrap();
    assert!(denial["summary"].as_str().unwrap().contains("AccessPolicy shop/db"), "{denial}");
}

#[test]
fn the_lane_holds_the_policy_while_no_agent_runs() {
    let mut lane = Lane::start("alone", "hello", &[]);
    lane.assert_policy_holds();
    lane.agent.kill();
    lane.assert_policy_holds();
}

#[test]
fn a_direct_connection_is_listed_and_reset_once_it_is_refused() {
    let lane = Lane::start("live", "echo", &[]);
    let mut held = lane.web.traffic_spawn(&["hold", &lane.service.addr().to_string()]);
    held.wait_log("holding");
    let rows = lane.rows();
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

#[test]
fn with_encrypt_pods_of_one_node_use_the_tunnel_as_the_policy_says() {
    let lane = Lane::start("encrypt", "hello", &["--same-node", "encrypt"]);
    lane.assert_policy_holds();
    assert!(lane.agent.status()["connections"]["tunnels"].as_u64() > Some(0));
    let _echo = lane.db.serve("echo", 8081);
    lane.bed.write_object("policy.yaml", &ONLY_WEB.replace("8080", "\"8080-8081\""));
    lane.bed.apply();
    let mut held = lane.web.traffic_spawn(&["hold", &lane.db.addr(8081).to_string()]);
    held.wait_log("holding");
    let rows = lane.rows();
    assert_eq!(rows.len(), 2, "one row for each side: {rows:?}");
    for row in &rows {
        assert_eq!(row["path"], "tunnel");
        assert_eq!(row["source"], "spiffe://cluster.local/ns/shop/sa/web");
        assert_eq!(row["destination_id"], "spiffe://cluster.local/ns/shop/sa/db");
    }
    wait_until("the agent to count bytes", Duration::from_secs(5), || {
        lane.rows().iter().all(|row| row["sent_bytes"].as_u64() > Some(0))
    });
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
}
