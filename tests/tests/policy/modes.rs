//! What the modes make of policies and of callers without an identity.

use std::time::Duration;

use ambit_harness::wait_until;

use crate::changes::hold;
use crate::world::{ONLY_TWO, PORT, World, expect, policy};

#[test]
fn strict_refuses_plaintext_before_it_is_connected() {
    let world = World::new("mode-strict", "strict", "hello");
    for stranger in &world.strangers {
        for to in world.ways() {
            let seen = stranger.connect(to);
            assert_eq!(seen.errors.get("refused"), Some(&1), "{} to {to}: {seen:?}", stranger.name());
        }
    }
    // Not even an Allow for everyone admits it: strict asks for an identity.
    world.policy(&policy("Allow", "[{from: [{anyone: true}]}]"));
    expect(&world.strangers[0], world.multiplication.addr(PORT), false);
}

#[test]
fn a_pod_reaches_itself_whatever_the_policy() {
    let world = World::new("mode-self", "strict", "hello");
    world.policy(&policy("Deny", "[{from: [{anyone: true}]}]"));
    let pod = &world.multiplication;
    let loopback = [([127, 0, 0, 1], PORT).into(), "[::1]:8080".parse().unwrap()];
    for to in [pod.addr(PORT), pod.addr6(PORT)].into_iter().chain(loopback) {
        let seen = pod.connect(to);
        assert!(seen.all_ok(), "{to}: {seen:?}");
        assert_eq!(seen.getpeername, Some(to));
    }
    expect(&world.mathfanboy, pod.addr(PORT), false);
}

#[test]
fn permissive_serves_plaintext_unless_a_policy_refuses_it() {
    let world = World::new("mode-permissive", "permissive", "hello");
    let to = world.multiplication.addr(PORT);
    let plaintext = |served: bool| {
        for stranger in &world.strangers {
            for to in world.ways() {
                expect(stranger, to, served);
            }
        }
    };
    plaintext(true);
    world.policy(ONLY_TWO);
    plaintext(false);
    expect(&world.percentage, to, true);
    expect(&world.addition, to, false);
    world.policy(&policy("Allow", "[{from: [{anyone: true}]}]"));
    plaintext(true);
    expect(&world.percentage, to, true);
    // A negative match never admits a caller without an identity; a CIDR does.
    world.policy(&policy("Allow", "[{from: [{exceptCidrs: [192.0.2.0/24]}]}]"));
    expect(&world.strangers[1], to, false);
    expect(&world.percentage, to, true);
    let far = world.strangers[1].ips()[0];
    world.policy(&policy("Allow", &format!("[{{from: [{{cidrs: [{far}/32]}}]}}]")));
    expect(&world.strangers[1], to, true);
    expect(&world.strangers[0], to, false);
    let client = world.strangers[1].connect(to).hello.unwrap()["accept"];
    assert_eq!(client.ip(), far, "the application sees the plaintext caller");
}

#[test]
fn audit_refuses_nothing_and_says_what_strict_would() {
    let mut world = World::new("mode-audit", "audit", "hello");
    world.policy(ONLY_TWO);
    for pod in
        [&world.mathfanboy, &world.addition, &world.substraction, &world.strangers[0], &world.strangers[1]]
    {
        for to in world.ways() {
            expect(pod, to, true);
        }
    }
    world.agents[0].wait_log("connection would be denied");
    let lines = world.lines("connection would be denied");
    let of = |who: &str| lines.iter().filter(|line| line.contains(who)).count();
    assert_eq!(of("/sa/addition"), 4, "{lines:?}");
    assert_eq!(of("/sa/mathfanboy"), 0, "{lines:?}");
    let line = lines.iter().find(|line| line.contains("/sa/addition")).unwrap();
    assert!(line.contains("policy=AccessPolicy calc/multiplication"), "{line}");
    let decisions = world.agents[0].status()["connections"]["decisions"].clone();
    assert_eq!(decisions["would_deny"]["no-allow-match"], 8, "{decisions}");
    assert_eq!(decisions["would_deny"]["plaintext-in-strict"], 8, "{decisions}");
    assert_eq!(decisions["denied"], serde_json::json!({}));
    assert!(world.denials().is_empty());
}

#[test]
fn a_policy_under_dry_run_is_counted_and_logged_and_never_enforced() {
    let world = World::new("mode-dryrun", "strict", "echo");
    let to = world.multiplication.addr(PORT);
    // Within the node, where the kernel decides, and through the tunnel.
    let callers = [&world.mathfanboy, &world.addition, &world.percentage, &world.substraction];
    let held: Vec<_> = callers.iter().map(|from| hold(from, to)).collect();
    let served = |world: &World| {
        for from in [&world.mathfanboy, &world.addition, &world.percentage, &world.substraction] {
            let seen = from.connect_with(to, &["--expect", "echo"]);
            assert!(seen.all_ok(), "{}: {seen:?}", from.name());
        }
    };
    world.policy(&ONLY_TWO.replace("spec:\n", "spec:\n  dryRun: true\n"));
    served(&world);
    let counts =
        |policy: &str| world.agents[0].status()["connections"]["decisions"]["dry_run"][policy].clone();
    wait_until("both refusals to be counted", Duration::from_secs(5), || {
        counts("AccessPolicy calc/multiplication")["would_deny"] == 2
    });
    let lines = world.lines("under dryRun would decide otherwise");
    assert_eq!(lines.len(), 2, "{lines:?}");
    for who in ["/sa/addition", "/sa/substraction"] {
        let line = lines.iter().find(|line| line.contains(who)).unwrap();
        for fact in ["AccessPolicy calc/multiplication", "verdict=\"deny\"", "no-allow-match"] {
            assert!(line.contains(fact), "{fact} in {line}");
        }
    }
    let deny = policy("Deny", "[{from: [{serviceAccounts: [mathfanboy, percentage]}]}]");
    world.policy(&deny.replace("action: Deny", "action: Deny, dryRun: true"));
    served(&world);
    wait_until("both denials to be counted", Duration::from_secs(5), || {
        counts("AccessPolicy calc/tested")["would_deny"] == 2
    });
    // An Allow that is not enforced admits nobody: what it would admit is counted, and refused.
    let nobody = "---\napiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {namespace: calc, name: nobody}\n\
                  spec: {selector: {matchLabels: {app: multiplication}}, rules: []}\n";
    for mut held in held {
        assert!(held.is_running(), "no policy under dryRun closes what stands: {}", held.log());
    }
    world.policy(&format!("{}{nobody}", ONLY_TWO.replace("spec:\n", "spec:\n  dryRun: true\n")));
    for from in [&world.mathfanboy, &world.percentage] {
        expect(from, to, false);
    }
    wait_until("what it would admit to be counted", Duration::from_secs(5), || {
        counts("AccessPolicy calc/multiplication")["would_allow"].as_u64() >= Some(2)
    });
    let denied = world.agents[0].status()["connections"]["decisions"]["denied"].clone();
    assert!(denied["no-allow-match"].as_u64() >= Some(2), "{denied}");
}

#[test]
fn a_mode_that_nobody_knows_is_strict_and_named() {
    let world = World::new("mode-unknown", "sticrt", "hello");
    let to = world.multiplication.addr(PORT);
    expect(&world.strangers[1], to, false);
    expect(&world.percentage, to, true);
    let status = world.agents[0].status();
    let pods = status["pods"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["name"] == "multiplication").unwrap();
    assert_eq!(pod["mode"], "strict");
    let problem = pod["problem"].as_str().unwrap();
    assert!(problem.contains("sticrt") && problem.contains("permissive"), "{problem}");
    let warnings = status["source"]["warnings"].to_string();
    assert!(warnings.contains("namespaces.yaml:") && warnings.contains("sticrt"), "{warnings}");
    assert!(world.agents[0].log().contains("sticrt"));
    world.bed.label_namespace("calc", "permissive");
    world.bed.apply();
    expect(&world.strangers[1], to, true);
    wait_until("the pod's problem to go", Duration::from_secs(2), || {
        let status = world.agents[0].status();
        let pods = status["pods"].as_array().unwrap();
        pods.iter().filter(|pod| pod["namespace"] == "calc").all(|pod| pod["problem"].is_null())
    });
}

#[test]
fn a_pods_own_label_overrides_its_namespaces() {
    let world = World::new("mode-pod", "strict", "hello");
    let to = world.multiplication.addr(PORT);
    let label = |mode: &str| {
        world.multiplication.update(|spec| drop(spec.labels.insert("ambit.dev/mode".into(), mode.into())));
        world.bed.apply();
    };
    label("permissive");
    expect(&world.strangers[1], to, true);
    label("none");
    expect(&world.strangers[1], to, true);
    expect(&world.percentage, to, true);
    label("strict");
    expect(&world.strangers[1], to, false);
}
