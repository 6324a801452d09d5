//! Processes of the nodes themselves: the kubelet of the pod's own node, others, and those of another node.

use ambit_harness::Place;

use crate::world::{ONLY_TWO, PORT, World, expect, policy};

/// The kubelet and another process of the pod's node, and the kubelet of the other node.
fn hosts(world: &World) -> [Place; 3] {
    let [a, b] = &world.nodes;
    [a.host("kubelet"), a.host("system"), b.host("kubelet")]
}

#[test]
fn the_kubelet_of_the_pods_node_passes_and_no_other_host_process() {
    let world = World::new("host-default", "strict", "hello");
    let [kubelet, system, far_kubelet] = hosts(&world);
    let pod = &world.multiplication;
    for text in [None, Some(ONLY_TWO)] {
        if let Some(text) = text {
            world.policy(text);
        }
        for to in [pod.addr(PORT), pod.addr6(PORT)] {
            expect(&kubelet, to, true);
            expect(&system, to, false);
            expect(&far_kubelet, to, false);
        }
    }
    let deeper = world.nodes[0].host("kubelet/probes/one");
    expect(&deeper, pod.addr(PORT), true);
}

#[test]
fn a_deny_of_the_host_refuses_the_kubelet_and_nobody_else() {
    let world = World::new("host-deny", "permissive", "hello");
    let [kubelet, system, far_kubelet] = hosts(&world);
    let to = world.multiplication.addr(PORT);
    expect(&kubelet, to, true);
    world.policy(&policy("Deny", "[{from: [{host: true}]}]"));
    expect(&kubelet, to, false);
    let denial = world.denial("host", "deny-match");
    assert!(denial["summary"].as_str().unwrap().contains("AccessPolicy calc/tested, rules[0]"), "{denial}");
    for other in [&system, &far_kubelet, &world.mathfanboy, &world.percentage, &world.strangers[0]] {
        expect(other, to, true);
    }
    world.policy(&policy("Deny", "[{from: [{host: true}], to: [{ports: [9999]}]}]"));
    expect(&kubelet, to, true);
}

#[test]
fn host_in_an_allow_admits_the_kubelet_and_no_pod() {
    let world = World::new("host-allow", "permissive", "hello");
    let [kubelet, system, far_kubelet] = hosts(&world);
    let to = world.multiplication.addr(PORT);
    world.policy(&policy("Allow", "[{from: [{host: true}]}]"));
    expect(&kubelet, to, true);
    for other in [&system, &far_kubelet, &world.mathfanboy, &world.percentage, &world.strangers[1]] {
        expect(other, to, false);
    }
}

#[test]
fn datagrams_of_the_kubelet_pass_and_of_no_other_host_process() {
    let world = World::new("host-udp", "strict", "hello");
    let [kubelet, system, far_kubelet] = hosts(&world);
    let _server = world.multiplication.reflect(PORT);
    for to in [world.multiplication.addr(PORT), world.multiplication.addr6(PORT)] {
        for more in [&[] as &[&str], &["--connected"]] {
            assert_eq!(kubelet.datagram(to, more), "answered", "{to} {more:?}");
        }
        for other in [&system, &far_kubelet] {
            assert_eq!(other.datagram(to, &[]), "silence", "{to}");
        }
    }
    world.policy(&policy("Deny", "[{from: [{host: true}]}]"));
    assert_eq!(kubelet.datagram(world.multiplication.addr(PORT), &[]), "silence");
}
