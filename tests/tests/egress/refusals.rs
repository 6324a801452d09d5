//! A pod whose egress is `mesh` reaches its peers and what rules name, and is told about the rest.

use std::time::Duration;

use ambit_harness::{PodSpec, wait_for, wait_until};

use crate::world::{PORT, World, refused, served};

#[test]
fn a_pod_reaches_the_mesh_and_nothing_outside() {
    for (name, extra) in [("egress-tunnel", &[] as &[&str]), ("egress-lane", &["--same-node", "direct"])] {
        let world = World::new(name, "strict", "mesh", "hello", extra);
        refused(&world.client, &world.ways_out());
        for peer in &world.peers {
            served(&world.client, &[peer.addr(PORT), peer.addr6(PORT)]);
        }
        let _own = world.client.serve("hello", PORT + 1);
        let loopback =
            ["127.0.0.1", "::1"].map(|ip| (ip.parse::<std::net::IpAddr>().unwrap(), PORT + 1).into());
        served(&world.client, &loopback);
        served(&world.client, &[world.client.addr(PORT + 1), world.client.addr6(PORT + 1)]);
        // Those who are not restricted reach everything, and so does the pod that is not enrolled.
        served(&world.outside[0], &[world.outside[1].addr(PORT), world.service.addr()]);
        world.egress("any");
        served(&world.client, &world.ways_out());
    }
}

#[test]
fn rules_admit_the_networks_and_ports_that_they_name() {
    let world = World::new("egress-rules", "strict", "mesh", "hello", &[]);
    let [near, far] = &world.outside;
    let _other = far.serve("hello", PORT + 1);
    let cidr = |address: std::net::SocketAddr, bits: u8| format!("\"{}/{bits}\"", address.ip());
    let (v4, v6) = (cidr(far.addr(0), 32), cidr(far.addr6(0), 128));
    world.rules("", &format!("[{{cidrs: [{v4}, {v6}], ports: [{PORT}]}}]"));
    served(&world.client, &[far.addr(PORT), far.addr6(PORT), crate::world::mapped(far)]);
    refused(&world.client, &[far.addr(PORT + 1), far.addr6(PORT + 1), near.addr(PORT), world.service.addr()]);
    // The exception is narrower than the network, and the rule is of UDP alone.
    world.rules("", &format!("[{{cidrs: [\"0.0.0.0/0\"], exceptCidrs: [{v4}]}}]"));
    refused(&world.client, &[far.addr(PORT), far.addr(PORT + 1), near.addr6(PORT)]);
    served(&world.client, &[near.addr(PORT), world.service.addr()]);
    world.rules("", &format!("[{{cidrs: [{v4}], protocol: UDP}}]"));
    refused(&world.client, &[far.addr(PORT), near.addr(PORT)]);
    world.rules("dryRun: true, ", &format!("[{{cidrs: [{v4}]}}]"));
    refused(&world.client, &[far.addr(PORT)]);
    // A policy about egress says nothing about who may call the pod.
    let _server = world.client.serve("hello", PORT);
    world.rules("", &format!("[{{cidrs: [{v4}]}}]"));
    served(&world.peers[1], &[world.client.addr(PORT)]);
    world.rules("rules: [], ", &format!("[{{cidrs: [{v4}]}}]"));
    assert!(world.peers[1].connect(world.client.addr(PORT)).none_ok());
}

#[test]
fn a_service_with_endpoints_outside_leads_to_those_that_rules_name() {
    let mut world = World::new("egress-mixed", "strict", "mesh", "hello", &[]);
    let (service, guest) = world.mixed("hello");
    for dialled in [service.addr(), service.addr6()] {
        let seen = world.client.connect_with(dialled, &["--count", "40"]);
        assert!(seen.ok > 0 && seen.failed > 0, "only the endpoint inside is reached: {seen:?}");
    }
    let last = world.denials().pop().unwrap();
    assert_eq!(last["reason"], "egress-outside-mesh", "{last}");
    let [v4, v6] = guest.ips();
    world.rules("", &format!("[{{cidrs: [\"{v4}/32\", \"{v6}/128\"]}}]"));
    for dialled in [service.addr(), service.addr6()] {
        let seen = world.client.connect_with(dialled, &["--count", "40"]);
        assert_eq!(seen.ok, 40, "{seen:?}");
        assert_eq!(seen.getpeername, Some(dialled));
    }
}

#[test]
fn a_refusal_is_told_with_who_where_and_why() {
    let mut world = World::new("egress-told", "strict", "mesh", "hello", &[]);
    let to = world.outside[1].addr(PORT);
    refused(&world.client, &[to]);
    let denial = wait_for("the refusal", Duration::from_secs(5), || world.denials().pop());
    let why = "refused: the calling pod's egress is `mesh`, and no egress rule names what it calls outside";
    assert_eq!(denial["summary"], why);
    assert_eq!(denial["source"], "spiffe://cluster.local/ns/shop/sa/client");
    assert_eq!(denial["source_pod"], "shop/client");
    assert_eq!(denial["destination"], "world/outside-1");
    assert_eq!(denial["server"], to.to_string());
    assert_eq!(denial["protocol"], "TCP");
    world.agents[0].wait_log(why);
    let log = world.agents[0].log();
    let line = log.lines().find(|line| line.contains(why)).unwrap();
    for fact in ["connection denied", "egress-outside-mesh", "shop/client", &to.to_string(), "protocol=TCP"] {
        assert!(line.contains(fact), "{fact} in {line}");
    }
    let status = world.agents[0].status();
    assert_eq!(status["connections"]["decisions"]["denied"]["egress-outside-mesh"], 1);
    let pods = status["pods"].as_array().unwrap();
    assert!(pods.iter().all(|pod| pod["egress"] == "mesh" && pod["problem"].is_null()), "{pods:?}");
    // Under dryRun the rule is named, and admits nothing.
    world.rules("dryRun: true, ", "[{cidrs: [\"0.0.0.0/0\"]}]");
    refused(&world.client, &[to]);
    world.agents[0].wait_log("policy under dryRun would decide otherwise");
}

#[test]
fn audit_refuses_nothing_and_reports() {
    let mut world = World::new("egress-audit", "audit", "mesh", "hello", &[]);
    served(&world.client, &world.ways_out());
    world.agents[0].wait_log("connection would be denied");
    wait_until("every call to be counted", Duration::from_secs(5), || {
        let would =
            &world.agents[0].status()["connections"]["decisions"]["would_deny"]["egress-outside-mesh"];
        would.as_u64() == Some(8)
    });
    assert!(world.denials().is_empty());
    world.rules("", "[{cidrs: [\"0.0.0.0/0\", \"::/0\"]}]");
    served(&world.client, &world.ways_out());
    let would = world.agents[0].status()["connections"]["decisions"]["would_deny"].clone();
    assert_eq!(would["egress-outside-mesh"], 8, "{would}");
}

#[test]
fn an_unknown_egress_is_mesh_and_is_reported() {
    let world = World::new("egress-unknown", "strict", "meshed", "hello", &[]);
    refused(&world.client, &[world.outside[1].addr(PORT)]);
    let status = world.agents[0].status();
    let pod = &status["pods"][0];
    assert_eq!(pod["egress"], "mesh");
    assert!(pod["problem"].as_str().unwrap().contains("unknown egress \"meshed\""), "{pod}");
    assert!(status["source"]["warnings"].to_string().contains("ambit.dev/egress"), "{status}");
    // The pod's own label overrides its namespace's.
    world.client.update(|spec: &mut PodSpec| {
        drop(spec.labels.insert("ambit.dev/egress".into(), "any".into()));
    });
    world.bed.apply();
    served(&world.client, &world.ways_out());
}

#[test]
fn rules_hold_while_no_agent_runs_and_after_a_restart() {
    let mut world = World::new("egress-alone", "strict", "mesh", "hello", &[]);
    let [near, far] = &world.outside;
    world.rules("", &format!("[{{cidrs: [\"{}/32\"]}}]", far.ips()[0]));
    let check = || {
        served(&world.client, &[far.addr(PORT)]);
        refused(&world.client, &[far.addr6(PORT), near.addr(PORT)]);
    };
    check();
    world.agents[0].kill();
    check();
    world.agents[0].restart();
    check();
}
