//! The demo's policy, and that a refusal says who, where, which policy and why.

use std::net::IpAddr;

use ambit_harness::Pod;

use crate::world::{ONLY_TWO, PORT, World, expect, policy};

#[test]
fn only_the_named_accounts_are_served_on_every_way() {
    let world = World::new("policy-two", "strict", "hello");
    for pod in [&world.addition, &world.substraction, &world.visitor] {
        expect(pod, world.multiplication.addr(PORT), true);
    }
    world.policy(ONLY_TWO);
    for to in world.ways() {
        expect(&world.mathfanboy, to, true);
        expect(&world.percentage, to, true);
        expect(&world.addition, to, false);
        expect(&world.substraction, to, false);
        expect(&world.visitor, to, false);
        for stranger in &world.strangers {
            expect(stranger, to, false);
        }
    }
    // The policy speaks of one pod: the others are reached as before.
    let _server = world.addition.serve("hello", PORT);
    expect(&world.substraction, world.addition.addr(PORT), true);
    world.bed.remove_object("policy.yaml");
    world.bed.apply();
    for to in world.ways() {
        expect(&world.addition, to, true);
        expect(&world.substraction, to, true);
    }
}

#[test]
fn a_refusal_is_logged_and_kept_with_who_where_policy_and_why() {
    let mut world = World::new("policy-told", "strict", "hello");
    world.policy(ONLY_TWO);
    let cases: [(&Pod, IpAddr); 2] =
        [(&world.addition, world.addition.ips()[0]), (&world.substraction, world.substraction.ips()[0])];
    for (pod, address) in cases {
        let name = pod.name().trim_start_matches("calc/");
        expect(pod, world.service.addr(), false);
        let identity = format!("spiffe://cluster.local/ns/calc/sa/{name}");
        let server = world.multiplication.addr(PORT).to_string();
        let why = "refused: no Allow policy that selects the pod matches the caller \
                   (AccessPolicy calc/multiplication)";
        let denial = world.denial(&identity, "no-allow-match");
        let lines = world.lines(&identity);
        let line = lines.iter().find(|line| line.contains("connection denied")).unwrap();
        for fact in [
            " INFO ",
            &address.to_string(),
            &server,
            "calc/multiplication",
            pod.name(),
            "no-allow-match",
            why,
        ] {
            assert!(line.contains(fact), "{fact} in {line}");
        }
        assert_eq!(denial["source_pod"], pod.name());
        assert_eq!(denial["destination"], "calc/multiplication");
        assert_eq!(denial["server"], server);
        assert_eq!(denial["reason"], "no-allow-match");
        assert_eq!(denial["summary"], why);
        assert!(denial["client"].as_str().unwrap().starts_with(&address.to_string()), "{denial}");
        humantime(&denial["time"]);
    }
    world.policy(&policy(
        "Deny",
        "[{from: [{namespaces: [other]}]}, {from: [{serviceAccounts: [addition]}]}]",
    ));
    expect(&world.addition, world.service.addr(), false);
    let denial = world.denial("spiffe://cluster.local/ns/calc/sa/addition", "deny-match");
    let why = "refused: a Deny policy matches the caller (AccessPolicy calc/tested, rules[1])";
    assert_eq!(denial["summary"], why);
    world.agents[0].wait_log(why);
    let counts = &world.agents[0].status()["connections"]["decisions"]["denied"];
    assert_eq!((&counts["deny-match"], &counts["no-allow-match"]), (&1.into(), &2.into()), "{counts}");
    // The caller's node says that it was refused, and where the reason stands.
    world.bed.remove_object("policy.yaml");
    world.policy(ONLY_TWO);
    expect(&world.substraction, world.service.addr(), false);
    world.agents[1].wait_log("refuses it by policy");
}

#[track_caller]
fn humantime(time: &serde_json::Value) {
    let text = time.as_str().unwrap();
    assert!(text.starts_with("20") && text.ends_with('Z') && text.contains('T'), "{text}");
}

#[test]
fn a_plaintext_caller_is_named_unverified() {
    let world = World::new("policy-unverified", "strict", "hello");
    let stranger = &world.strangers[1];
    expect(stranger, world.multiplication.addr(PORT), false);
    let denial = ambit_harness::wait_for("the kernel's refusal", std::time::Duration::from_secs(5), || {
        world.denials().pop()
    });
    assert_eq!(denial["source"], "unverified");
    assert_eq!(denial["reason"], "plaintext-in-strict");
    assert_eq!(denial["destination"], "calc/multiplication");
    assert!(denial["client"].as_str().unwrap().starts_with(&stranger.ips()[0].to_string()), "{denial}");
    assert!(!world.lines("plaintext-in-strict").is_empty());
}
