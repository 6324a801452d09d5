//! The testbed without a mesh: what later tests take for granted before an agent runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use ambit_harness::{Node, Pod, PodSpec, Service, ServiceSpec, Testbed};

struct Shop {
    bed: Testbed,
    b: Node,
    client: Pod,
    near: Pod,
    far: Pod,
    service: Service,
}

fn shop() -> Shop {
    let bed = Testbed::new("shop");
    let (a, b) = (bed.node("a"), bed.node("b"));
    let client = a.pod(PodSpec::new("shop", "client"));
    let near = a.pod(PodSpec::new("shop", "near").label("app", "web"));
    let far = b.pod(PodSpec::new("shop", "far").label("app", "web"));
    let service = bed.service(ServiceSpec::new("shop", "web").port(80, 8080));
    bed.apply();
    Shop { bed, b, client, near, far, service }
}

#[test]
fn pods_reach_pods_on_both_nodes_over_both_families_and_see_real_addresses() {
    let shop = shop();
    let _near = shop.near.serve("hello", 8080);
    let _far = shop.far.serve("hello", 8080);
    for to in [shop.near.addr(8080), shop.near.addr6(8080), shop.far.addr(8080), shop.far.addr6(8080)] {
        let seen = shop.client.connect(to);
        assert!(seen.all_ok(), "{to}: {seen:?}");
        assert_eq!(seen.getpeername, Some(to));
        let hello = seen.hello.clone().unwrap();
        assert_eq!(hello["accept"], seen.getsockname.unwrap(), "no address is translated");
        assert_eq!(hello["getpeername"], seen.getsockname.unwrap());
        assert_eq!(hello["getsockname"], to);
        assert!(shop.client.ips().contains(&seen.getsockname.unwrap().ip()));
    }
}

#[test]
fn a_service_address_leads_pods_and_hosts_to_every_endpoint() {
    let shop = shop();
    let (near, far) = (shop.near.serve("hello", 8080), shop.far.serve("hello", 8080));
    let host = shop.bed.node("c").host("system");
    shop.bed.apply();
    for from in [&*shop.client, &*shop.near, &host] {
        for to in [shop.service.addr(), shop.service.addr6()] {
            let seen = from.connect_with(to, &["--count", "30"]);
            assert_eq!(seen.ok, 30, "{} to {to}: {seen:?}", from.name());
            assert_eq!(seen.getpeername, Some(to));
        }
    }
    for server in [near, far] {
        assert!(server.stop()["connections"].as_u64().unwrap() > 20, "both endpoints get their share");
    }
}

#[test]
fn plaintext_between_nodes_is_seen_on_the_wire_and_same_node_traffic_is_not() {
    let shop = shop();
    let _near = shop.near.serve("hello", 8080);
    let _far = shop.far.serve("hello", 8080);
    let capture = shop.bed.capture();
    assert!(shop.client.connect_with(shop.near.addr(8080), &["--payload", "stays-at-home"]).all_ok());
    assert!(shop.client.connect_with(shop.far.addr(8080), &["--payload", "crosses-the-wire"]).all_ok());
    let captured = capture.stop();
    assert!(captured.contains("crosses-the-wire"));
    assert!(!captured.contains("stays-at-home"));
    assert!(!captured.tls_seen(15008));
    let report = captured.report();
    assert!(!report.only_tls());
    let up = report.streams.iter().find(|s| s.dst == shop.far.addr(8080)).unwrap();
    assert_eq!(up.bytes, "crosses-the-wire".len(), "{report:?}");
}

#[test]
fn traffic_tells_every_way_a_connection_ends() {
    let shop = shop();
    let to = |port| shop.far.addr(port).to_string();
    let _servers =
        [("transfer", 1), ("sum", 2), ("reset", 3), ("echo", 4), ("stall", 5), ("close", 6), ("hello", 7)]
            .map(|(mode, port)| shop.far.serve(mode, port));
    let bytes = (8 << 20).to_string();
    for direction in ["up", "down", "both"] {
        let moved = shop.client.traffic(&["transfer", &to(1), "--bytes", &bytes, "--direction", direction]);
        assert_eq!(moved["ok"], true, "{moved}");
    }
    assert_eq!(shop.client.traffic(&["half-close", &to(2)])["ok"], true);
    assert_eq!(shop.client.traffic(&["reset", &to(3), "--observe"])["end"], "reset");
    assert_eq!(shop.client.traffic(&["reset", &to(6), "--observe", "--bytes", "0"])["end"], "eof");
    assert_eq!(shop.client.traffic(&["stall", &to(5), "--timeout", "500ms"])["end"], "full");
    let refused = shop.client.connect(shop.far.addr(99));
    assert_eq!((refused.failed, refused.errors.get("refused")), (1, Some(&1)));

    let mut hold = shop.client.traffic_spawn(&["hold", &to(4)]);
    hold.wait_log("holding");
    let held: serde_json::Value = serde_json::from_str(hold.stop().lines().last().unwrap()).unwrap();
    assert_eq!(held["end"], "stopped", "{held}");

    let mut looping = shop.client.traffic_spawn(&["loop", &to(7)]);
    looping.wait_log("looping");
    let looped: serde_json::Value = serde_json::from_str(looping.stop().lines().last().unwrap()).unwrap();
    assert_eq!(looped["failed"], 0, "{looped}");

    let reset = shop.client.traffic(&["reset", &to(4)]);
    assert_eq!(reset["end"], "sent-reset");
}

#[test]
fn five_hundred_clients_at_once_lose_no_connection() {
    let shop = shop();
    let _server = shop.far.serve("hello", 8080);
    let load = ["--count", "3000", "--concurrency", "500"];
    let many = shop.client.connect_with(shop.far.addr(8080), &load);
    assert_eq!(many.ok, 3000, "{many:?}");
}

#[test]
fn a_process_runs_in_the_pods_cgroup_with_the_callers_mounts() {
    let shop = shop();
    let output = shop.client.run("cat", &["/proc/self/cgroup"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.trim().ends_with("/a/pods/shop-client"), "{text}");
    assert!(shop.client.run("ls", &[shop.client.cgroup().to_str().unwrap()]).status.success());
    let rules = shop.client.run("nft", &["list", "ruleset"]);
    assert_eq!(String::from_utf8_lossy(&rules.stdout), "", "no rule stands in a pod");
}

#[test]
fn objects_show_pods_services_and_modes_as_kubernetes_does() {
    let shop = shop();
    shop.bed.label_namespace("shop", "strict");
    shop.bed.write_object("policy.yaml", "kind: AccessPolicy\n");
    shop.bed.publish();
    let read = |file: &str| std::fs::read_to_string(shop.bed.objects().join(file)).unwrap();
    assert!(read("namespaces.yaml").contains("ambit.dev/mode: strict"));
    assert_eq!(read("policy.yaml"), "kind: AccessPolicy\n");
    let workloads = read("workloads.yaml");
    assert!(
        workloads.contains(&format!("ambit.dev/netns: {}", shop.client.netns().display())),
        "{workloads}"
    );
    for kind in ["kind: Pod", "kind: Service", "kind: EndpointSlice", "addressType: IPv6", "nodeName: b"] {
        assert!(workloads.contains(kind), "{kind} in {workloads}");
    }
    shop.bed.remove_object("policy.yaml");
    shop.near.delete();
    shop.bed.publish();
    assert!(!shop.bed.objects().join("policy.yaml").exists());
    assert!(!read("workloads.yaml").contains("name: near"));
}

#[test]
fn an_address_can_be_given_to_another_pod() {
    let shop = shop();
    let (number, address) = (shop.far.host_number(), shop.far.addr(8080));
    let old = shop.far.serve("hello", 8080);
    assert!(shop.client.connect(address).all_ok());
    shop.far.delete();
    drop(old);
    assert!(shop.client.connect_with(address, &["--timeout", "500ms"]).none_ok());
    let heir = shop.b.pod(PodSpec::new("shop", "heir").host_number(number));
    let _new = heir.serve("hello", 8080);
    assert!(shop.client.connect(address).all_ok());
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut traces = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let shop = shop();
        let server = shop.far.serve("hello", 8080);
        traces.extend([shop.bed.dir().to_path_buf(), shop.far.netns(), shop.far.cgroup().to_path_buf()]);
        assert!(traces.iter().all(|path| path.exists()));
        let _still_running = server;
        panic!("a test fails");
    }));
    assert!(outcome.is_err());
    for path in &traces {
        assert!(!path.exists(), "{} is left", path.display());
    }
    assert_eq!(traces.len(), 3);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(traces[0].to_str().unwrap()));
}

#[test]
fn remains_of_a_dead_process_are_collected() {
    // A process that is gone: its pid with another start time names nobody.
    let name = format!("ambit-bed-{}-1-0", std::process::id());
    let netns = format!("/run/netns/{name}-fabric");
    assert!(Command::new("ip").args(["netns", "add", &format!("{name}-fabric")]).status().unwrap().success());
    let dir = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(dir.join("logs")).unwrap();
    drop(Testbed::new("collector"));
    assert!(!Path::new(&netns).exists());
    assert!(!dir.exists());
}
