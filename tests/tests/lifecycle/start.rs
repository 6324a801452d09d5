//! How an agent starts beside another one, outside the cgroup root, and how everything is undone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ambit_harness::{Mesh, Node, binary, wait_until};

/// Returns the command line of an agent of `node` whose pins and socket are `bpffs` and `socket`.
fn agent(mut command: Command, mesh: &Mesh, node: &Node, bpffs: &Path, socket: &Path) -> Command {
    command.args(["agent", "--node", node.name()]);
    command.arg("--source").arg(format!("dir:{}", mesh.bed.objects().display()));
    command.arg("--cgroup-root").arg(node.cgroup());
    command.arg("--bpffs").arg(bpffs).arg("--socket").arg(socket);
    command.arg("--state-dir").arg(node.dir().join("state"));
    command.arg("--ca-dir").arg(mesh.bed.dir().join("ca"));
    command
}

#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains(words), "{said}");
}

#[test]
fn a_second_agent_on_the_same_socket_or_pins_refuses_to_start() {
    let mesh = Mesh::start("second", "strict", &[]);
    let _server = mesh.far.serve("hello", 8080);
    let (bpffs, socket) = (mesh.a.bpffs(), mesh.agents[0].socket());
    let (other_bpffs, other_socket) =
        (mesh.a.bpffs().with_file_name("second"), socket.with_file_name("second"));
    let second = |bpffs: &Path, socket: &Path| {
        let command = mesh.a.command("agent", binary("ambit").to_str().unwrap());
        let mut command = agent(command, &mesh, &mesh.a, bpffs, socket);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // One that does start must not run on.
        let deadline = Instant::now() + Duration::from_secs(5);
        wait_until("the second agent to end", Duration::from_secs(10), || {
            let late = Instant::now() > deadline && child.kill().is_ok();
            late || child.try_wait().unwrap().is_some()
        });
        child.wait_with_output().unwrap()
    };
    assert_refused(&second(&other_bpffs, &socket), "another agent answers at");
    assert_refused(&second(&bpffs, &other_socket), "another agent");
    assert_eq!(mesh.agents[0].status()["ready"], true, "the first one still answers");
    mesh.wait_captured();
    assert!(mesh.client.connect_with(mesh.far.addr(8080), &["--count", "20"]).all_ok());
}

#[test]
fn an_agent_from_outside_the_cgroup_root_moves_below_it() {
    let mut mesh = Mesh::start("moves", "strict", &[]);
    let _servers = [mesh.far.serve("hello", 8080), mesh.client.serve("hello", 8080)];
    mesh.agents[0].kill();
    // A cgroup of the other node: outside of its own root, and removed with the testbed whatever happens.
    let mut command = mesh.b.command("system", "nsenter");
    command.arg(format!("--net={}", mesh.a.host("agent").netns().display())).arg("--").arg(binary("ambit"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let socket = mesh.agents[0].socket();
    let mut outsider = agent(command, &mesh, &mesh.a, &mesh.a.bpffs(), &socket).spawn().unwrap();
    let cgroup = || std::fs::read_to_string(format!("/proc/{}/cgroup", outsider.id())).unwrap_or_default();
    let name = mesh.a.cgroup().file_name().unwrap().to_str().unwrap().to_owned();
    wait_until("the agent to move below its cgroup root", Duration::from_secs(10), || {
        cgroup()
            .lines()
            .any(|line| line.starts_with("0::") && line.ends_with(&format!("/{name}/ambit-agent")))
    });
    mesh.client.wait_connect(mesh.far.addr(8080), true, Duration::from_secs(10));
    // Its own sockets meet its hooks: the far pod reaches the client through it, and the client sees who calls.
    let seen = mesh.far.connect(mesh.client.addr(8080));
    assert!(seen.all_ok(), "{seen:?}");
    assert_eq!(seen.hello.unwrap()["accept"], seen.getsockname.unwrap());
    outsider.kill().unwrap();
    outsider.wait().unwrap();
}

/// Unmounts what an agent mounted, also when the test fails before `ambit cleanup` has.
struct Mounted(PathBuf);

impl Mounted {
    fn is_mounted(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        mounts.lines().any(|line| line.split(' ').nth(1) == self.0.to_str())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted() {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }
}

#[test]
fn a_bpf_filesystem_that_the_agent_mounts_goes_with_a_clean_up() {
    let mut mesh = Mesh::start("mount", "strict", &[]);
    let _hello = mesh.far.serve("hello", 8080);
    mesh.agents[0].kill();
    let clean = |bpffs: &Path, socket: &Path| {
        let mut cleanup = Command::new(binary("ambit"));
        cleanup.arg("cleanup").arg("--bpffs").arg(bpffs).arg("--socket").arg(socket);
        let output = cleanup.arg("--cgroup-root").arg(mesh.a.cgroup()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let socket = mesh.agents[0].socket();
    clean(&mesh.a.bpffs(), &socket);
    let own = Mounted(mesh.a.dir().join("own-bpf"));
    let command = mesh.a.command("agent", binary("ambit").to_str().unwrap());
    let mut command = agent(command, &mesh, &mesh.a, &own.0, &socket);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    mesh.client.wait_connect(mesh.far.addr(8080), true, Duration::from_secs(10));
    assert!(own.is_mounted());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(mesh.client.connect(mesh.far.addr(8080)).none_ok(), "its pins keep its hooks");
    clean(&own.0, &socket);
    assert!(!own.is_mounted() && !own.0.exists(), "mount and folder are gone");
    mesh.client.wait_connect(mesh.far.addr(8080), false, Duration::from_secs(10));
}

#[test]
fn cleanup_leaves_no_pin_and_traffic_flows_as_before() {
    let mut mesh = Mesh::start("cleanup", "strict", &[]);
    let _hello = mesh.far.serve("hello", 8080);
    let ways = [mesh.far.addr(8080), mesh.far.addr6(8080), mesh.far_service.addr(), mesh.far_service.addr6()];
    for agent in &mut mesh.agents {
        agent.kill();
    }
    for to in ways {
        assert!(mesh.client.connect(to).none_ok(), "{to}");
    }
    for node in [&mesh.a, &mesh.b] {
        let mut cleanup = Command::new(binary("ambit"));
        let output = cleanup.arg("cleanup").arg("--bpffs").arg(node.bpffs()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("removed"), "{output:?}");
        let left = std::fs::read_dir(node.bpffs()).into_iter().flatten().count();
        assert_eq!(left, 0, "pins are left below {}", node.bpffs().display());
    }
    for to in ways {
        let seen = mesh.client.connect(to);
        assert!(seen.all_ok(), "{to}: {seen:?}");
        assert_eq!(seen.getpeername, Some(to));
    }
    for agent in &mut mesh.agents {
        agent.restart();
    }
    mesh.wait_captured();
    assert!(mesh.client.connect(mesh.far.addr(8080)).all_ok());
    assert_eq!(mesh.allowed(1), 1, "enforced again");
}
