//! What agents leave behind: nothing after a clean-up, and nothing that the next one cannot deal with.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use ambit_harness::{Mesh, Node, binary};

fn cleanup(node: &Node, socket: &Path) -> Output {
    let mut command = Command::new(binary("ambit"));
    command.arg("cleanup").arg("--bpffs").arg(node.bpffs()).arg("--socket").arg(socket);
    command.arg("--cgroup-root").arg(node.cgroup()).output().unwrap()
}

/// Returns the maps folder of the agents under test.
fn maps(node: &Node) -> std::path::PathBuf {
    let folders = fs::read_dir(node.bpffs()).unwrap().map(|entry| entry.unwrap().path());
    folders.into_iter().find(|path| path.to_string_lossy().contains("/maps-v")).unwrap()
}

#[test]
fn a_clean_up_leaves_no_pin_no_socket_and_no_cgroup() {
    let mut mesh = Mesh::start("gone", "strict", &["--same-node", "direct"]);
    let _hello = mesh.far.serve("hello", 8080);
    assert!(mesh.client.connect(mesh.far.addr(8080)).all_ok());
    let socket = mesh.agents[0].socket();
    let refused = cleanup(&mesh.a, &socket);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("another agent uses"), "{said}");
    mesh.agents[0].kill();
    assert!(socket.exists(), "a killed agent leaves its socket");
    // What an agent from outside the root leaves, and one that was killed while it drained.
    fs::create_dir(mesh.a.cgroup().join("ambit-agent")).unwrap();
    let elder = socket.with_file_name("agent.sock.draining-0");
    drop(std::os::unix::net::UnixListener::bind(&elder).unwrap());
    let output = cleanup(&mesh.a, &socket);
    assert!(output.status.success(), "{output:?}");
    assert!(!mesh.a.bpffs().exists(), "the folder is gone");
    assert!(!socket.exists() && !elder.exists(), "{output:?}");
    assert!(!mesh.a.cgroup().join("ambit-agent").exists());
    let again = cleanup(&mesh.a, &socket);
    assert!(again.status.success(), "nothing to do is no error: {again:?}");
    mesh.agents[0].restart();
    mesh.wait_captured();
    assert!(mesh.client.connect(mesh.far.addr(8080)).all_ok());
}

#[test]
fn a_clean_up_waits_for_no_agent_that_drains_and_says_so() {
    let mut mesh = Mesh::start("busy", "strict", &["--drain-timeout", "5m"]);
    let _echo = mesh.far.serve("echo", 8081);
    let mut held = mesh.client.traffic_spawn(&["hold", &mesh.far.addr(8081).to_string()]);
    held.wait_log("holding");
    let mut old = mesh.agents[0].hand_over();
    let socket = mesh.agents[0].socket();
    mesh.agents[0].kill();
    let refused = cleanup(&mesh.a, &socket);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("still carries 1 connection"), "{said}");
    old.kill();
    assert!(cleanup(&mesh.a, &socket).status.success());
}

#[test]
fn a_pin_that_does_not_fit_is_named_with_what_to_do() {
    let mut mesh = Mesh::start("unfit", "strict", &[]);
    let socket = mesh.agents[0].socket();
    mesh.agents[0].kill();
    let (maps, links) = (maps(&mesh.a), mesh.a.bpffs().join("links"));
    let foreign = fs::read_dir(&links).unwrap().next().unwrap().unwrap().path();
    for unfit in [maps.join("ENDPOINTS"), foreign] {
        fs::remove_file(maps.join("PODS")).unwrap();
        fs::hard_link(&unfit, maps.join("PODS")).unwrap();
        let mut rival = mesh.agents[0].rival();
        assert!(!rival.wait(std::time::Duration::from_secs(10)).success());
        let said = rival.log();
        assert!(said.contains("maps-v") && said.contains("PODS is not the map"), "{said}");
        assert!(said.contains("ambit cleanup") && said.lines().count() < 12, "{said}");
    }
    assert!(cleanup(&mesh.a, &socket).status.success());
    mesh.agents[0].restart();
    mesh.wait_captured();
}

#[test]
fn maps_of_another_layout_go_once_the_hooks_are_in_place() {
    let mut mesh = Mesh::start("older", "strict", &[]);
    let _hello = mesh.far.serve("hello", 8080);
    let old = mesh.a.bpffs().join("maps-v0");
    let pods = maps(&mesh.a).join("PODS");
    fs::create_dir(&old).unwrap();
    fs::hard_link(pods, old.join("PODS")).unwrap();
    let mut before = mesh.agents[0].hand_over();
    before.wait(std::time::Duration::from_secs(10));
    mesh.agents[0].wait_log("another layout");
    assert!(!old.exists());
    assert!(mesh.client.connect(mesh.far.addr(8080)).all_ok());
}
