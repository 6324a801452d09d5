//! Services between pods of one node: the endpoint is chosen when a pod connects, and the pod goes on seeing the service.

use ambit_harness::{PodSpec, ServiceSpec};

use crate::world::Lane;

#[test]
fn a_service_leads_to_its_endpoints_in_and_outside_the_mesh_without_the_agent() {
    let lane = Lane::start("vip", "hello", &[]);
    lane.bed.remove_object("policy.yaml");
    let label = |name: &str| PodSpec::new("shop", name).label("app", "db");
    let second = lane.node.pod(label("second"));
    let outside = lane.node.pod(label("outside").label("ambit.dev/mode", "none"));
    let servers = [second.serve("hello", 8080), outside.serve("hello", 8080)];
    lane.bed.apply();
    for vip in [lane.service.addr(), lane.service.addr6()] {
        let seen = lane.web.connect_with(vip, &["--count", "60", "--concurrency", "4"]);
        assert_eq!(seen.ok, 60, "{vip}: {seen:?}\n{}", lane.agent.log());
        assert_eq!(seen.getpeername, Some(vip));
        let hello = seen.hello.unwrap();
        assert_eq!(hello["accept"], seen.getsockname.unwrap(), "the server sees the client's own socket");
        let endpoints = [&lane.db, &second, &outside].map(|pod| pod.ips());
        assert!(endpoints.iter().flatten().any(|ip| *ip == hello["getsockname"].ip()), "{hello:?}");
    }
    let pods = [&lane.db, &second, &outside];
    let _echoes = pods.map(|pod| pod.serve("echo", 8081));
    let echo = lane.bed.service(ServiceSpec::new("shop", "echo").select("app", "db").port(81, 8081));
    lane.bed.apply();
    let hold = |_| lane.web.traffic_spawn(&["hold", &echo.addr().to_string()]);
    let mut held: Vec<_> = (0..12).map(hold).collect();
    held.iter_mut().for_each(|held| held.wait_log("holding"));
    assert_eq!(lane.agent.status()["connections"]["open"], 0, "the agent carries none of them");
    drop(held);
    for server in servers {
        let count = server.stop()["connections"].as_u64().unwrap();
        // Of 120 draws out of three, fewer than 15 are one in ten million.
        assert!((15..=90).contains(&count), "each endpoint gets its share: {count}");
    }
}
