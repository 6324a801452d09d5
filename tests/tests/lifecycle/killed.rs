//! Agents that are killed again and again: same-node traffic does not notice, and every next one starts.

use std::time::{Duration, Instant};

use ambit_harness::{PodSpec, ServiceSpec, Testbed, wait_until};

use super::pins::links;

#[test]
fn a_hundred_kills_fail_no_direct_connection_within_the_node() {
    let bed = Testbed::new("hundred");
    let node = bed.node("a");
    let pod = |name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
    let (web, db) = (pod("web"), pod("db"));
    let service = bed.service(ServiceSpec::new("shop", "db").port(80, 8080));
    bed.label_namespace("shop", "strict");
    bed.publish();
    let _servers = [db.serve("hello", 8080), db.serve("echo", 8081)];
    let mut agent = node.start_agent(&["--same-node", "direct"]);
    let mut held = web.traffic_spawn(&["hold", &db.addr(8081).to_string(), "--every", "5ms"]);
    held.wait_log("holding");
    let before = links(&node);
    let to = service.addr().to_string();
    let mut looping = web.traffic_spawn(&["loop", &to, "--every", "2ms"]);
    looping.wait_log("looping");
    for _ in 0..100 {
        agent.kill();
        agent.restart();
    }
    looping.stop();
    let result = looping.result();
    eprintln!("a hundred restarts: {result}");
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["ok"].as_u64().unwrap() > 1000, "{result}");
    // A first packet that is lost comes again after a second.
    assert!(result["longest_gap_ms"].as_f64().unwrap() < 900.0, "{result}");
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
    assert_eq!(links(&node), before, "every link is the first one's");
    assert_eq!(agent.status()["connections"]["tunnels"], 0, "none of it took the tunnel");
}

#[test]
fn an_agent_that_is_killed_at_any_moment_of_its_start_leaves_what_the_next_one_starts_from() {
    let bed = Testbed::new("moments");
    let node = bed.node("a");
    let pod = |name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
    let (web, db) = (pod("web"), pod("db"));
    bed.label_namespace("shop", "strict");
    bed.publish();
    let _server = db.serve("hello", 8080);
    let started = Instant::now();
    let mut agent = node.start_agent(&[]);
    let whole = started.elapsed();
    agent.kill();
    const MOMENTS: u32 = 30;
    for moment in 0..MOMENTS {
        if moment % 10 == 0 {
            // As after a reboot: nothing is pinned, and a socket file is left that nobody serves.
            let mut cleanup = std::process::Command::new(ambit_harness::binary("ambit"));
            cleanup.arg("cleanup").arg("--bpffs").arg(node.bpffs()).arg("--cgroup-root").arg(node.cgroup());
            assert!(cleanup.arg("--socket").arg(node.dir().join("none")).status().unwrap().success());
        }
        let started = Instant::now();
        let mut victim = agent.rival();
        wait_until("the moment", whole * 2, || started.elapsed() >= whole * moment / MOMENTS);
        victim.kill();
    }
    agent.restart();
    for to in [db.addr(8080), db.addr6(8080)] {
        web.wait_connect(to, true, Duration::from_secs(10));
        let seen = web.connect_with(to, &["--count", "20"]);
        assert_eq!(seen.ok, 20, "{to}: {seen:?}");
    }
    assert_eq!(links(&node).keys().filter(|name| name.starts_with("lookup")).count(), 2);
}
