//! Connections that stand while what allows them changes.

use std::time::Duration;

use ambit_harness::{Place, Process};
use serde_json::Value;

use crate::world::{ONLY_TWO, PORT, World, policy};

pub(crate) fn hold(from: &Place, to: std::net::SocketAddr) -> Process {
    let mut process = from.traffic_spawn(&["hold", &to.to_string(), "--every", "20ms"]);
    process.wait_log("holding");
    process
}

/// How a held connection ended, once it has ended by itself or is stopped.
#[track_caller]
fn ended(mut held: Process, by_itself: bool) -> Value {
    if by_itself {
        held.wait(Duration::from_secs(5));
    } else {
        assert!(held.is_running(), "{}", held.log());
        held.stop();
    }
    let printed = held.stdout();
    let line = printed.lines().rfind(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("no result: {printed}"))).unwrap()
}

#[test]
fn a_policy_that_forbids_live_connections_resets_them_and_leaves_the_others() {
    let mut world = World::new("change-policy", "strict", "echo");
    let (pod, service) = (world.multiplication.addr(PORT), world.service.addr());
    let allowed = [(&world.mathfanboy, pod), (&world.percentage, service)].map(|(from, to)| hold(from, to));
    let forbidden = [(&world.addition, service), (&world.substraction, pod), (&world.visitor, pod)]
        .map(|(from, to)| hold(from, to));
    world.policy(ONLY_TWO);
    for held in forbidden {
        let seen = ended(held, true);
        assert_eq!(seen["end"], "reset", "{seen}");
    }
    world.agents[0].wait_log("live connection closed");
    let lines = world.lines("live connection closed");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("AccessPolicy calc/multiplication")), "{lines:?}");
    for held in allowed {
        let seen = ended(held, false);
        assert_eq!(seen["end"], "stopped", "{seen}");
    }
    world.bed.remove_object("policy.yaml");
    world.bed.apply();
    let back = world.addition.connect_with(pod, &["--expect", "echo"]);
    assert!(back.all_ok(), "{back:?}");
    let counters = world.application.stop();
    assert_eq!(counters["aborted"], 3, "the application sees resets, not ends: {counters}");
}

#[test]
fn a_mode_that_forbids_plaintext_resets_live_plaintext() {
    let world = World::new("change-mode", "permissive", "echo");
    let to = world.multiplication.addr(PORT);
    let strangers = [hold(&world.strangers[0], to), hold(&world.strangers[1], world.service.addr())];
    let inside = hold(&world.percentage, to);
    world.bed.label_namespace("calc", "strict");
    world.bed.apply();
    for held in strangers {
        let seen = ended(held, true);
        assert_eq!(seen["end"], "reset", "{seen}");
    }
    assert_eq!(ended(inside, false)["end"], "stopped");
    assert_eq!(world.application.stop()["aborted"], 2);
}

#[test]
fn a_deny_of_the_host_resets_the_kubelets_live_connection() {
    let world = World::new("change-host", "strict", "echo");
    let to = world.multiplication.addr(PORT);
    let kubelet = hold(&world.nodes[0].host("kubelet"), to);
    let (inside, own) = (hold(&world.mathfanboy, to), hold(&world.multiplication, to));
    world.policy(&policy("Deny", "[{from: [{host: true}]}]"));
    let seen = ended(kubelet, true);
    assert_eq!(seen["end"], "reset", "{seen}");
    for held in [inside, own] {
        assert_eq!(ended(held, false)["end"], "stopped");
    }
}

#[test]
fn another_identity_of_the_caller_is_judged_anew() {
    let world = World::new("change-identity", "strict", "echo");
    world.policy(ONLY_TWO);
    let to = world.multiplication.addr(PORT);
    let (held, other) = (hold(&world.percentage, to), hold(&world.mathfanboy, to));
    // The pod is another one now: its old connections belong to nobody.
    world.multiplication.update(|spec| drop(spec.labels.insert("version".into(), "v2".into())));
    world.bed.apply();
    assert_eq!(ended(other, false)["end"], "stopped", "a label that no policy asks about changes nothing");
    world.policy(&ONLY_TWO.replace("mathfanboy, percentage", "mathfanboy"));
    assert_eq!(ended(held, true)["end"], "reset");
}
