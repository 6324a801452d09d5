//! UDP of a pod whose egress is `mesh`.

use std::time::Duration;

use ambit_harness::wait_for;

use crate::world::{World, mapped};

const PORT: u16 = 5300;

#[test]
fn datagrams_go_where_rules_name_and_are_refused_at_once_elsewhere() {
    let world = World::new("egress-udp", "strict", "mesh", "hello", &[]);
    let [near, far] = &world.outside;
    let _servers = [near.reflect(PORT), far.reflect(PORT)];
    let out = |to, more: &[&str]| world.client.datagram(to, more);
    let mut to_mapped = mapped(far);
    to_mapped.set_port(PORT);
    for to in [near.addr(PORT), near.addr6(PORT), far.addr(PORT), far.addr6(PORT), to_mapped] {
        for more in [&[] as &[&str], &["--connected"]] {
            let outcome = out(to, more);
            assert_eq!(outcome, "permission", "{to} {more:?}");
        }
    }
    let denial = wait_for("the refusal", Duration::from_secs(5), || world.denials().pop());
    assert_eq!((&denial["protocol"], &denial["reason"]), (&"UDP".into(), &"egress-outside-mesh".into()));
    world.rules(
        "",
        &format!(
            "[{{cidrs: [\"{}/32\", \"{}/128\"], ports: [{PORT}], protocol: UDP}}]",
            far.ips()[0],
            far.ips()[1]
        ),
    );
    for to in [far.addr(PORT), far.addr6(PORT), to_mapped] {
        for more in [&[] as &[&str], &["--connected"]] {
            assert_eq!(out(to, more), "answered", "{to} {more:?}");
        }
    }
    for to in [far.addr(PORT + 1), near.addr(PORT)] {
        assert_eq!(out(to, &[]), "permission", "{to}");
    }
    world.egress("any");
    assert_eq!(out(near.addr(PORT), &[]), "answered");
}

#[test]
fn a_stranger_that_was_let_in_is_answered() {
    let world = World::new("egress-udp-in", "strict", "mesh", "hello", &[]);
    let [near, far] = &world.outside;
    let mut server = world.client.reflect(PORT);
    assert_eq!(far.datagram(world.client.addr(PORT), &[]), "silence");
    let policy = |cidr: &str| {
        world.bed.write_object(
            "dns.yaml",
            &format!(
                "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: shop, name: dns}}\n\
                 spec: {{rules: [{{from: [{{cidrs: [\"{cidr}\"]}}], to: [{{protocol: UDP, ports: [{PORT}]}}]}}]}}\n"
            ),
        );
        world.bed.apply();
    };
    policy(&format!("{}/32", far.ips()[0]));
    assert_eq!(far.datagram(world.client.addr(PORT), &[]), "answered");
    assert_eq!(near.datagram(world.client.addr(PORT), &[]), "silence");
    assert_eq!(far.datagram(world.client.addr6(PORT), &[]), "silence");
    let printed = server.stop();
    assert!(printed.contains("\"received\":1") && printed.contains("\"answers_refused\":0"), "{printed}");
    assert_eq!(world.agents[0].status()["connections"]["decisions"]["denied"]["plaintext-in-strict"], 3);
}

#[test]
fn datagrams_between_pods_of_a_node_are_decided_by_identity() {
    let mut world = World::new("egress-udp-pair", "strict", "mesh", "hello", &[]);
    let _server = world.client.reflect(PORT);
    let peer = world.peers[0].clone();
    for to in [world.client.addr(PORT), world.client.addr6(PORT)] {
        assert_eq!(peer.datagram(to, &[]), "answered", "{to}");
    }
    let deny = "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: shop, name: deny}\n\
        spec: {action: Deny, rules: [{from: [{serviceAccounts: [default]}], to: [{protocol: UDP}]}]}\n";
    world.bed.write_object("deny.yaml", &deny.replace("action", "dryRun: true, action"));
    world.bed.apply();
    assert_eq!(peer.datagram(world.client.addr(PORT), &[]), "answered");
    world.agents[0].wait_log("policy under dryRun would decide otherwise");
    world.bed.write_object("deny.yaml", deny);
    world.bed.apply();
    for to in [world.client.addr(PORT), world.client.addr6(PORT)] {
        assert_eq!(peer.datagram(to, &[]), "silence", "{to}");
    }
    let denied = wait_for("the refusal", Duration::from_secs(5), || {
        let status = world.agents[0].status();
        status["recent_denials"].as_array().unwrap().iter().find(|row| row["reason"] == "deny-match").cloned()
    });
    assert_eq!((&denied["protocol"], &denied["source_pod"]), (&"UDP".into(), &"shop/peer-0".into()));
}
