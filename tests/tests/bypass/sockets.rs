//! Connections on unusual ways: every one is the pod's own, and is refused as its usual ones are.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_harness::{Pod, PodSpec, binary};
use serde_json::Value;

use crate::world::{ECHO, PORT, World, address, attack};

/// Ways that work for whoever may connect.
const WAYS: [&str; 8] =
    ["plain", "mapped", "mark", "device", "mptcp", "fast-open", "fast-open-connect", "uring"];

pub(crate) fn dial(from: &Pod, to: SocketAddr, more: &[&str]) -> Value {
    attack(from, &[&["dial", &to.to_string()], more].concat())
}

#[track_caller]
fn assert_ways(world: &mut World) {
    let [ip4, ip6] = world.targets();
    for to in [ip4, ip6, world.service.addr(), world.service.addr6()] {
        for way in WAYS {
            let more = ["--way", way];
            let allowed = dial(&world.web, to, &more);
            assert_eq!(allowed["served"], true, "web to {to}, {way}: {allowed}");
            world.allow(1);
            for pod in world.attackers() {
                let refused = dial(pod, to, &more);
                assert_eq!(refused["served"], false, "{} to {to}, {way}: {refused}", pod.name());
            }
        }
        world.assert_untouched(&format!("all ways to {to}"));
    }
}

#[test]
fn every_way_to_connect_is_decided_alike_on_the_lane() {
    let mut world = World::new("ways", "direct");
    assert_ways(&mut world);
    world.end();
}

#[test]
fn every_way_to_connect_is_decided_alike_through_the_tunnel() {
    let mut world = World::new("tunnel", "encrypt");
    assert_ways(&mut world);
    world.end();
}

#[test]
fn a_socket_that_was_connected_elsewhere_is_decided_upon_again() {
    let mut world = World::new("again", "direct");
    let elsewhere = world.add_pod(PodSpec::new("elsewhere", "server"));
    let _server = elsewhere.serve("hello", PORT);
    for to in world.targets() {
        let first = address(&elsewhere, to, PORT).to_string();
        let more = ["--way", "again", "--first", &first];
        let allowed = dial(&world.web, to, &more);
        assert_eq!(allowed["served"], true, "{allowed}");
        world.allow(1);
        for pod in world.attackers() {
            let refused = dial(pod, to, &more);
            assert_eq!(refused["served"], false, "{}: {refused}", pod.name());
            let error = refused["error"].as_str().unwrap();
            assert!(!error.starts_with("connect elsewhere"), "{}: {error}", pod.name());
        }
    }
    world.end();
}

#[test]
fn sockets_of_protocols_that_carry_no_identity_are_not_made() {
    let world = World::new("protocols", "direct");
    let to = world.db.addr(PORT);
    for way in ["sctp", "dccp", "udp-lite"] {
        let error = |pod: &Pod| {
            let outcome = dial(pod, to, &["--way", way]);
            assert_eq!(outcome["served"], false, "{way}: {outcome}");
            outcome["error"].as_str().unwrap().to_owned()
        };
        let (stranger, enrolled) = (error(&world.outside), error(&world.mallory));
        // A kernel without the protocol says so to both; one that has it refuses the enrolled pod alone.
        let lacks = stranger.contains("not supported");
        assert!(lacks || !stranger.starts_with("make the socket"), "{way}: {stranger}");
        assert!(lacks || enrolled.contains("Operation not permitted"), "{way}: {enrolled}");
    }
    world.end();
}

#[test]
fn a_socket_is_the_pods_whose_namespace_it_was_made_in() {
    let mut world = World::new("handed", "direct");
    let to = world.db.addr(PORT);
    let hand = |from: &Pod, name: &str, more: &[&str]| {
        let path = world.bed.dir().join(name).display().to_string();
        let server = to.to_string();
        let arguments = [&["hand", server.as_str(), "--at", &path], more].concat();
        let mut process = from.spawn(binary("attack"), &arguments);
        process.wait_log("handing");
        (process, path)
    };
    // A socket of mallory's stays mallory's in the hands of web.
    let (_giver, path) = hand(&world.mallory, "mallory.sock", &[]);
    let refused = dial(&world.web, to, &["--taken", &path]);
    assert_eq!(refused["served"], false, "{refused}");
    // What web hands out is web's, connected or not: as its descriptors, it is web's to keep.
    for (name, given, taken) in
        [("made.sock", &[][..], &[][..]), ("open.sock", &["--connected"], &["--connected"])]
    {
        let (_giver, path) = hand(&world.web, name, given);
        let allowed = dial(&world.mallory, to, &[&["--taken", path.as_str()], taken].concat());
        assert_eq!(allowed["served"], true, "{name}: {allowed}");
        assert!(allowed["local"].as_str().unwrap().starts_with(&world.web.ips()[0].to_string()), "{allowed}");
    }
    world.allow(2);
    world.end();
}

#[test]
fn the_cgroup_of_a_process_changes_nothing() {
    let world = World::new("cgroup", "direct");
    let to = world.db.addr(PORT);
    let own = world.mallory.cgroup().join("inner");
    std::fs::create_dir(&own).unwrap();
    let groups =
        [own.clone(), world.web.cgroup().to_owned(), world.nodes[0].host("kubelet").cgroup().to_owned()];
    for group in groups {
        let group = group.display().to_string();
        let refused = dial(&world.mallory, to, &["--cgroup", &group]);
        assert_eq!(refused["served"], false, "{group}: {refused}");
    }
    // A process of the node that enters mallory's network namespace alone.
    let netns = format!("--net={}", world.mallory.netns().display());
    let attack = binary("attack").display().to_string();
    for group in ["system", "kubelet", "agent"] {
        let output = world.nodes[0].host(group).run("nsenter", &[&netns, &attack, "dial", &to.to_string()]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains("\"served\":false"), "{group}: {printed}");
    }
    world.end();
    let _ = std::fs::remove_dir(own);
}

#[test]
fn what_was_made_before_the_enrolment_is_decided_upon_after_it() {
    let mut world = World::unenrolled("before", "direct");
    let to = world.db.addr(PORT);
    let mut held = world.mallory.traffic_spawn(&["hold", &world.db.addr(ECHO).to_string()]);
    held.wait_log("holding");
    let file = world.bed.dir().join("go").display().to_string();
    let mut waiting = [&world.mallory, &world.web, &world.far].map(|pod| {
        let mut process = pod.spawn(binary("attack"), &["dial", &to.to_string(), "--once", &file]);
        process.wait_log("made");
        process
    });
    world.enrol();
    held.wait(Duration::from_secs(10));
    assert_eq!(held.result()["end"], "reset");
    std::fs::write(&file, "").unwrap();
    let served = waiting.each_mut().map(|process| {
        process.wait(Duration::from_secs(10));
        process.stdout().contains("\"served\":true")
    });
    assert_eq!(served, [false, true, false], "mallory, web, far");
    world.allow(1);
    world.end();
}
