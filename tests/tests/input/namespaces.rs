//! Pods whose network namespace is missing, is not theirs or cannot be known.

use std::time::Duration;

use ambit_harness::{Agent, Node, Pod, PodSpec, Server, Testbed, wait_until};
use serde_json::Value;

const PORT: u16 = 8080;

struct World {
    a: Node,
    client: Pod,
    server: Pod,
    agents: [Agent; 2],
    _application: Server,
    bed: Testbed,
}

fn world(name: &str) -> World {
    let bed = Testbed::new(name);
    let (a, b) = (bed.node("a"), bed.node("b"));
    let server = a.pod(PodSpec::new("shop", "server").service_account("server"));
    let client = b.pod(PodSpec::new("shop", "client").service_account("client"));
    bed.label_namespace("shop", "strict");
    bed.publish();
    let application = server.serve("hello", PORT);
    let agents = [a.start_agent(&[]), b.start_agent(&[])];
    World { a, client, server, agents, _application: application, bed }
}

impl World {
    /// Adds a pod to node a, with this path as its network namespace, and asserts what is said of it.
    #[track_caller]
    fn add(&mut self, path: &str, says: &str) -> Pod {
        let mut traffic = self.client.traffic_spawn(&["loop", &self.server.addr(PORT).to_string()]);
        traffic.wait_log("looping");
        let pod = self.a.pod(PodSpec::new("shop", "odd").annotation("ambit.dev/netns", path));
        self.bed.apply();
        let row = self.row("odd");
        assert_eq!(row["captured"], false, "{row}");
        assert!(row["problem"].as_str().is_some_and(|problem| problem.contains(says)), "{says:?} in {row}");
        self.agents[0].wait_log("pod is not enrolled");
        let log = self.agents[0].log();
        let line = log.lines().find(|line| line.contains("pod is not enrolled")).unwrap();
        assert!(line.contains("shop/odd") && line.contains(says), "{says:?} in {line}");
        assert_eq!(self.row("server")["captured"], true);
        let result: Value = serde_json::from_str(traffic.stop().lines().last().unwrap()).unwrap();
        assert_eq!(result["failed"], 0, "{result}");
        pod
    }

    fn row(&self, name: &str) -> Value {
        let status = self.agents[0].status();
        let pods = status["pods"].as_array().unwrap();
        pods.iter().find(|pod| pod["name"] == name).cloned().unwrap_or_default()
    }
}

#[test]
fn a_missing_namespace_is_told_once_and_used_when_it_appears() {
    let mut world = world("input-missing");
    let path = world.bed.dir().join("not-yet");
    let pod = world.add(path.to_str().unwrap(), "not-yet");
    let _server = pod.serve("hello", PORT);
    assert!(world.client.connect_with(pod.addr(PORT), &["--timeout", "2s"]).none_ok());
    std::os::unix::fs::symlink(pod.netns(), &path).unwrap();
    wait_until("the pod to be enrolled", Duration::from_secs(5), || world.row("odd")["captured"] == true);
    assert_eq!(world.row("odd")["problem"], Value::Null);
    let seen = world.client.wait_connect(pod.addr(PORT), true, Duration::from_secs(5));
    assert!(seen.all_ok());
    let log = world.agents[0].log();
    assert_eq!(log.matches("pod is not enrolled").count(), 1, "said once, not at every attempt");
}

#[test]
fn a_pod_whose_namespace_is_no_longer_found_goes_on_refusing() {
    let mut world = world("input-lost");
    let path = world.bed.dir().join("lost");
    let pod = world.add(path.to_str().unwrap(), "lost");
    let _server = pod.serve("hello", PORT);
    let outside = world.a.pod(PodSpec::new("outside", "visitor"));
    world.bed.apply();
    let enrol = |world: &World| {
        std::os::unix::fs::symlink(pod.netns(), &path).unwrap();
        wait_until("the pod to be enrolled", Duration::from_secs(5), || world.row("odd")["captured"] == true);
        assert!(outside.connect(pod.addr(PORT)).none_ok());
        assert!(world.client.wait_connect(pod.addr(PORT), true, Duration::from_secs(5)).all_ok());
    };
    enrol(&world);
    std::fs::remove_file(&path).unwrap();
    wait_until("the loss to be told", Duration::from_secs(5), || world.row("odd")["captured"] == false);
    for refused in [outside.connect(pod.addr(PORT)), outside.connect(pod.addr6(PORT))] {
        assert!(refused.none_ok() && refused.errors.contains_key("refused"), "{refused:?}");
    }
    // An agent that starts in this state refuses as well.
    world.agents[0].restart();
    assert!(outside.connect(pod.addr(PORT)).none_ok());
    enrol(&world);
}

#[test]
fn a_pod_without_the_annotation_is_told() {
    let mut world = world("input-unsaid");
    world.add("", "ambit.dev/netns");
}

#[test]
fn a_namespace_that_is_a_file_or_a_folder_is_told() {
    let mut world = world("input-file");
    let file = world.bed.dir().join("plain");
    std::fs::write(&file, "no namespace").unwrap();
    let pod = world.add(file.to_str().unwrap(), "plain");
    let folder = world.bed.dir().display().to_string();
    pod.update(|spec| drop(spec.annotations.insert("ambit.dev/netns".into(), folder.clone())));
    world.bed.apply();
    wait_until("the folder to be told", Duration::from_secs(3), || {
        world.row("odd")["problem"].as_str().is_some_and(|problem| problem.contains(&folder))
    });
}

#[test]
fn a_fifo_in_the_place_of_a_namespace_stops_nothing() {
    let mut world = world("input-fifo");
    let fifo = world.bed.dir().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    world.add(fifo.to_str().unwrap(), "fifo");
}

#[test]
fn the_nodes_own_namespace_is_never_enrolled() {
    let mut world = world("input-own");
    let own = world.a.host("system").netns().display().to_string();
    world.add(&own, "node");
    // The node's own processes are not taken for the pod.
    let _server = world.a.host("system").serve("hello", 9090);
    let to = std::net::SocketAddr::new(world.a.ips()[0], 9090);
    assert!(world.a.host("kubelet").connect(to).all_ok());
}

#[test]
fn one_namespace_serves_one_pod() {
    let mut world = world("input-shared");
    let shared = world.server.netns().display().to_string();
    world.add(&shared, "shop/server");
}
