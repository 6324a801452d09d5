//! Nothing is installed in a pod: no packet filter, no routing rule, no process.

use std::fs;

use ambit_harness::{Mesh, Place, Pod};

#[track_caller]
fn printed(place: &Place, program: &str, args: &[&str]) -> String {
    let output = place.run(program, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} in {}: {said}", place.name());
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the programs that run in the pod's cgroup or in its network namespace.
fn programs(pod: &Pod) -> Vec<String> {
    let members = fs::read_to_string(pod.cgroup().join("cgroup.procs")).unwrap();
    let members: Vec<&str> = members.lines().collect();
    let netns = printed(pod, "readlink", &["/proc/self/ns/net"]);
    let mut programs = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let namespace = fs::read_link(path.join("ns/net")).unwrap_or_default();
        let inside = namespace.to_str() == Some(netns.trim());
        if inside || entry.file_name().to_str().is_some_and(|pid| members.contains(&pid)) {
            programs.extend(fs::read_link(path.join("exe")).map(|exe| exe.display().to_string()));
        }
    }
    programs
}

#[test]
fn nothing_is_installed_in_an_enrolled_pod() {
    let mesh = Mesh::start("pods", "strict", &["--same-node", "encrypt"]);
    let outside = mesh.b.pod(ambit_harness::PodSpec::new("other", "outside"));
    mesh.bed.apply();
    let _servers = [mesh.near.serve("echo", 8080), mesh.far.serve("echo", 8080)];
    let mut held = [&mesh.near, &mesh.far].map(|pod| {
        let mut held = mesh.client.traffic_spawn(&["hold", &pod.addr(8080).to_string()]);
        held.wait_log("holding");
        held
    });
    // What they print where nothing was ever done, and where something was.
    let rules = ["-4", "-6"].map(|family| printed(&outside, "ip", &[family, "rule"]));
    assert!(!printed(&mesh.b.host("system"), "nft", &["list", "ruleset"]).is_empty());
    for pod in [&mesh.client, &mesh.near, &mesh.far] {
        let name = pod.name();
        assert_eq!(printed(pod, "iptables-save", &[]), "", "{name}");
        assert_eq!(printed(pod, "ip6tables-save", &[]), "", "{name}");
        assert_eq!(printed(pod, "nft", &["list", "ruleset"]), "", "{name}");
        assert_eq!(["-4", "-6"].map(|family| printed(pod, "ip", &[family, "rule"])), rules, "{name}");
        let programs = programs(pod);
        assert!(programs.iter().any(|program| program.ends_with("/traffic")), "{name}: {programs:?}");
        assert!(!programs.iter().any(|program| program.ends_with("/ambit")), "{name}: {programs:?}");
    }
    assert_eq!(mesh.carried(0), 3, "the traffic of both goes through the mesh meanwhile");
    for held in &mut held {
        held.stop();
        assert_eq!(held.result()["end"], "stopped");
    }
}
