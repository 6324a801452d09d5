//! Connections that stand when the label or a rule changes.

use std::time::Duration;

use ambit_harness::Process;

use crate::world::{PORT, World};

const END: Duration = Duration::from_secs(10);

#[track_caller]
fn hold(world: &World, to: std::net::SocketAddr) -> Process {
    let mut held = world.client.traffic_spawn(&["hold", &to.to_string()]);
    held.wait_log("holding");
    held
}

/// Asserts that the connection ends, by what the application sees.
#[track_caller]
fn ended(mut held: Process) {
    held.wait(END);
    let end = held.result()["end"].clone();
    assert!(end.as_str().is_some_and(|end| end != "stopped"), "{end}");
}

#[test]
fn the_label_ends_connections_that_lead_outside_and_no_others() {
    let world = World::new("egress-live", "strict", "any", "echo", &[]);
    let outside = world.ways_out();
    let leading_out: Vec<Process> = outside.iter().map(|to| hold(&world, *to)).collect();
    let mut inside: Vec<Process> = world.peers.iter().map(|peer| hold(&world, peer.addr(PORT))).collect();
    world.egress("mesh");
    for held in leading_out {
        ended(held);
    }
    let closed = world.denials();
    assert_eq!(closed.len(), outside.len(), "{closed:?}");
    assert!(closed.iter().all(|row| row["reason"] == "egress-outside-mesh"), "{closed:?}");
    for held in &mut inside {
        assert!(held.is_running(), "a peer in the mesh is still reached");
        held.stop();
        assert_eq!(held.result()["end"], "stopped");
    }
}

#[test]
fn a_rule_that_goes_takes_its_connections_along() {
    let world = World::new("egress-rule-live", "strict", "mesh", "echo", &[]);
    let [near, far] = &world.outside;
    world.rules("", &format!("[{{cidrs: [\"{}/32\", \"{}/32\"]}}]", near.ips()[0], far.ips()[0]));
    let (mut kept, gone) = (hold(&world, near.addr(PORT)), hold(&world, far.addr(PORT)));
    world.rules("", &format!("[{{cidrs: [\"{}/32\"]}}]", near.ips()[0]));
    ended(gone);
    assert!(kept.is_running());
    kept.stop();
    assert_eq!(kept.result()["end"], "stopped");
}

#[test]
fn audit_ends_nothing() {
    let world = World::new("egress-audit-live", "audit", "any", "echo", &[]);
    let mut held = hold(&world, world.outside[1].addr(PORT));
    world.egress("mesh");
    // A call from now on is reported, so the label is in force.
    assert!(world.client.connect_with(world.outside[1].addr(PORT), &["--expect", "echo"]).all_ok());
    assert!(held.is_running());
    held.stop();
    assert_eq!(held.result()["end"], "stopped");
}

#[test]
fn a_connection_behind_a_service_ends_too() {
    let mut world = World::new("egress-live-vip", "strict", "any", "echo", &[]);
    let (service, _guest) = world.mixed("echo");
    let held: Vec<Process> = (0..12).map(|_| hold(&world, service.addr())).collect();
    world.egress("mesh");
    let carried = || {
        let rows = world.agents[0].connections();
        rows["connections"].as_array().map_or(0, Vec::len)
    };
    ambit_harness::wait_until("those that lead outside to end", END, || {
        let closed = world.denials().len();
        closed > 0 && closed + carried() == held.len()
    });
}
