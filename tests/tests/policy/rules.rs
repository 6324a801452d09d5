//! What each field of a rule admits, and how policies combine.

use std::time::{Duration, Instant};

use crate::world::{ONLY_TWO, PORT, World, expect, policy};

/// One policy, and who of mathfanboy (near), percentage (far) and the visitor of another namespace is served.
const FIELDS: [(&str, &str, [bool; 3]); 15] = [
    ("Allow", "[{from: [{serviceAccounts: [mathfanboy]}]}]", [true, false, false]),
    ("Allow", "[{from: [{serviceAccounts: [calc/mathfanboy, other/visitor]}]}]", [true, false, true]),
    ("Allow", "[{from: [{namespaces: [other]}]}]", [false, false, true]),
    ("Allow", "[{from: [{namespaces: [other], serviceAccounts: [mathfanboy]}]}]", [false, false, false]),
    ("Allow", r#"[{from: [{identities: ["spiffe://cluster.local/ns/calc/*"]}]}]"#, [true, true, false]),
    ("Allow", r#"[{from: [{identities: ["*/sa/visitor"]}]}]"#, [false, false, true]),
    (
        "Allow",
        r#"[{from: [{identities: ["spiffe://cluster.local/ns/calc/sa/percentage"]}]}]"#,
        [false, true, false],
    ),
    ("Allow", "[{from: [{cidrs: [10.2.0.0/16]}]}]", [false, true, true]),
    ("Allow", "[{from: [{cidrs: [10.0.0.0/8], exceptCidrs: [10.1.0.0/16]}]}]", [false, true, true]),
    ("Allow", "[{from: [{exceptCidrs: [10.2.0.0/16]}]}]", [true, false, false]),
    ("Allow", "[{from: [{anyone: true}]}]", [true, true, true]),
    ("Allow", "[]", [false, false, false]),
    ("Deny", "[{from: [{namespaces: [calc]}]}]", [false, false, true]),
    ("Deny", "[{from: [{cidrs: [10.2.0.0/16]}]}]", [true, false, false]),
    ("Deny", "[{from: [{anyone: true}]}]", [false, false, false]),
];

#[test]
fn each_field_admits_whom_it_names() {
    let world = World::new("policy-fields", "strict", "hello");
    let callers = [&world.mathfanboy, &world.percentage, &world.visitor];
    for (action, rules, expected) in FIELDS {
        world.policy(&policy(action, rules));
        let served = callers.map(|pod| pod.connect(world.multiplication.addr(PORT)).all_ok());
        assert_eq!(served, expected, "{action} {rules}");
    }
}

#[test]
fn ports_and_ranges_admit_exactly_themselves() {
    let world = World::new("policy-ports", "strict", "hello");
    let pod = &world.multiplication;
    let _servers = [80, 7999, 8000, 8001, 8003, 8004].map(|port| pod.serve("hello", port));
    world.policy(&policy("Allow", r#"[{to: [{ports: [80, "8000-8003"]}]}]"#));
    for (port, served) in [(80, true), (7999, false), (8000, true), (8001, true), (8003, true), (8004, false)]
    {
        expect(&world.percentage, pod.addr(port), served);
        expect(&world.mathfanboy, pod.addr6(port), served);
    }
    world.policy(&policy(
        "Deny",
        r#"[{from: [{serviceAccounts: [percentage]}], to: [{ports: ["8001-8003"]}]}]"#,
    ));
    for (port, served) in [(8000, true), (8001, false), (8003, false), (8004, true)] {
        expect(&world.percentage, pod.addr(port), served);
        expect(&world.mathfanboy, pod.addr(port), true);
    }
}

#[test]
fn the_port_of_a_policy_is_the_pods_not_the_services() {
    let world = World::new("policy-target", "strict", "hello");
    assert_eq!(world.service.addr().port(), 80);
    world.policy(&policy("Allow", "[{to: [{ports: [8080]}]}]"));
    expect(&world.percentage, world.service.addr(), true);
    world.policy(&policy("Allow", "[{to: [{ports: [80]}]}]"));
    expect(&world.percentage, world.service.addr(), false);
}

#[test]
fn deny_beats_allow_and_cluster_wide_policies_count() {
    let world = World::new("policy-order", "strict", "hello");
    let to = world.multiplication.addr(PORT);
    world.bed.write_object("allow.yaml", ONLY_TWO);
    world.policy(&policy("Deny", "[{from: [{serviceAccounts: [percentage]}]}]"));
    expect(&world.percentage, to, false);
    expect(&world.mathfanboy, to, true);
    expect(&world.addition, to, false);
    world.bed.remove_object("allow.yaml");
    let cluster = |rest: &str| {
        format!(
            "apiVersion: ambit.dev/v1alpha1\nkind: ClusterAccessPolicy\nmetadata: {{name: everywhere}}\nspec: {rest}\n"
        )
    };
    world.policy(&cluster("{action: Deny, rules: [{from: [{namespaces: [other]}]}]}"));
    expect(&world.visitor, to, false);
    expect(&world.percentage, to, true);
    let denial = world.denials().pop().unwrap();
    let why = "(ClusterAccessPolicy everywhere, rules[0])";
    assert!(denial["summary"].as_str().unwrap().ends_with(why), "{denial}");
    // A cluster-wide Allow for one caller leaves the others without one.
    world.policy(&cluster(
        "{selector: {matchLabels: {app: multiplication}}, rules: [{from: [{namespaces: [other]}]}]}",
    ));
    expect(&world.visitor, to, true);
    expect(&world.percentage, to, false);
}

#[test]
fn ten_thousand_policies_for_other_pods_cost_nothing() {
    let world = World::new("policy-many", "strict", "hello");
    let to = world.multiplication.addr(PORT);
    let policies: Vec<String> = (0..10_000)
        .map(|number| {
            format!(
                "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: calc, name: p{number}}}\n\
                 spec: {{selector: {{matchLabels: {{app: app{number}}}}}, rules: [{{from: [{{namespaces: [calc]}}]}}]}}\n"
            )
        })
        .collect();
    let few = world.percentage.connect_with(to, &["--count", "500"]);
    world.bed.write_object("allow.yaml", ONLY_TWO);
    world.bed.write_object("many.yaml", &policies.join("---\n"));
    let start = Instant::now();
    world.bed.apply();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "two agents took {took:?} for 10,000 policies");
    let many = world.percentage.connect_with(to, &["--count", "500"]);
    assert!(few.all_ok() && many.all_ok(), "{few:?} {many:?}");
    assert!(many.p50_ms < few.p50_ms * 3.0 + 2.0, "{} ms before, {} ms after", few.p50_ms, many.p50_ms);
    expect(&world.addition, to, false);
    let pods = world.agents[0].status()["pods"].as_array().unwrap().clone();
    let pod = pods.iter().find(|pod| pod["name"] == "multiplication").unwrap();
    assert_eq!(pod["policies"], 1, "{pod}");
}
