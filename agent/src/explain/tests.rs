//! What is said of each kind of call, and that what is proposed turns the answer.

mod advised;
mod world;

use super::*;
use crate::cli::explain::render;
use world::World;

/// Asks a world.
fn ask(world: &World, from: &str, to: &str, port: u16, protocol: &str) -> Result<Explanation, Unanswerable> {
    let question = Question { from: from.into(), to: to.into(), port, protocol: protocol.into() };
    explain(&world.snapshot(), &question, SameNode::Direct, "the test")
}

#[test]
fn a_refusal_is_told_step_by_step() {
    let answer = ask(&World::shop(), "shop/api", "shop/db", 80, "TCP").unwrap();
    let expected = "\
refused: no Allow policy that selects the pod matches the caller (AccessPolicy shop/db)

caller    pod shop/api on node n1, 10.0.0.3
            identity spiffe://cluster.local/ns/shop/sa/api
            mode strict: by the label ambit.dev/mode: strict of the namespace shop
            egress any: neither the pod nor the namespace shop has the label ambit.dev/egress
service   shop/db, port 80: a connection goes to one of 1 ready endpoints of 1
            10.0.0.1:5432, pod shop/db-0
called    pod shop/db-0 on node n1, 10.0.0.1, TCP port 5432
            identity spiffe://cluster.local/ns/shop/sa/db
            mode strict: by the label ambit.dev/mode: strict of the namespace shop
way       within one node: the kernel knows which pod calls; in plaintext that never leaves the node
egress    allowed: the calling pod may call anything: its egress is `any`
policy    AccessPolicy shop/db (Allow): does not match
            rules[0].from[0].serviceAccounts: [shop/web] — the caller's service account is shop/api
            rules[1].from[0].namespaces: [ops] — the caller's namespace is shop
            rules[1].to[0].ports: [9000-9100] — port 5432 is called
policy    AccessPolicy shop/no-lab (Deny): does not match
            rules[0].from[0].namespaces: [lab] — the caller's namespace is shop
others    do not speak of calls to shop/db-0:
            AccessPolicy shop/dns has `egress` and no `rules`: it says nothing about callers
            ClusterAccessPolicy audited: namespaceSelector.matchLabels: {team: ops} — the namespace shop has no label team
            AccessPolicy shop/web: selector.matchLabels: {app: web} — the pod has app: db
decision  the kernel of node n1 decides, without the agent
            refused: no Allow policy that selects the pod matches the caller (AccessPolicy shop/db)

to allow it:
- add to AccessPolicy shop/db, under spec.rules:
    - from:
      - serviceAccounts: [api]
      to:
      - ports: [5432]

answered by the test
";
    assert_eq!(render(&answer), expected);
}

/// A call, whether it comes about, for which reason, who decides, and lines of what is told.
type Case<'a> = ((&'a str, &'a str, u16, &'a str), (bool, &'a str, DecidedBy), &'a [&'a str]);

#[test]
fn each_kind_of_step_is_told() {
    use DecidedBy::{Agent, Kernel, Nobody};
    let cases: [Case<'_>; 25] = [
        (
            ("shop/web", "shop/db", 80, "TCP"),
            (true, "allow-match", Kernel),
            &["AccessPolicy shop/db (Allow): rules[0] matches"],
        ),
        (
            ("spiffe://cluster.local/ns/shop/sa/web", "shop/db", 80, "TCP"),
            (true, "allow-match", Kernel),
            &["caller    pod shop/web on node n1, 10.0.0.2"],
        ),
        (
            ("shop/far", "shop/db-0", 5432, "TCP"),
            (false, "no-allow-match", Agent),
            &["from node to node through the tunnel: mutual TLS proves", "the agent of node n1 decides"],
        ),
        (
            ("lab/rat", "shop/db-0", 1, "TCP"),
            (false, "deny-match", Agent),
            &["AccessPolicy shop/no-lab (Deny): rules[0] matches", "- remove AccessPolicy shop/no-lab"],
        ),
        (
            ("shop/api", "shop/web", 80, "TCP"),
            (true, "no-policy", Agent),
            &[
                "AccessPolicy shop/web (Allow, dryRun: reported, never enforced): does not match",
                "without dryRun, refuse",
            ],
        ),
        (
            ("plain/pod", "shop/db-0", 5432, "TCP"),
            (false, "plaintext-in-strict", Kernel),
            &[
                "mode none: neither the pod nor the namespace plain has the label ambit.dev/mode",
                "in plaintext, without a verified identity: the caller is not enrolled",
                "policies are not asked: a strict pod takes TCP only from callers that prove who they are",
                "label the namespace plain (kubectl label namespace plain ambit.dev/mode=audit --overwrite)",
            ],
        ),
        (
            ("192.0.2.1", "shop/db-0", 5432, "TCP"),
            (false, "plaintext-in-strict", Kernel),
            &["192.0.2.1, which is of no pod of the objects", "ambit.dev/mode=permissive"],
        ),
        (
            ("10.0.0.2", "shop/db-0", 5432, "TCP"),
            (true, "allow-match", Kernel),
            &["is the address of the pod shop/web"],
        ),
        (
            ("host", "shop/db-0", 5432, "TCP"),
            (true, "host-default", Kernel),
            &[
                "a process of the called pod's own node (10.9.0.1)",
                "attests that the caller is the node itself",
            ],
        ),
        (
            ("host", "shop/db", 80, "TCP"),
            (false, "plaintext-in-strict", Kernel),
            &["rewritten after the kernel has seen the socket"],
        ),
        (("10.9.0.1", "shop/db-0", 5432, "TCP"), (true, "host-default", Kernel), &[]),
        (("10.9.0.1", "pod:shop/far", 80, "TCP"), (false, "plaintext-in-strict", Kernel), &[]),
        (("plain/agent", "shop/db-0", 5432, "TCP"), (true, "host-default", Kernel), &[]),
        (
            ("spiffe://cluster.local/ns/shop/sa/ghost", "shop/db-0", 5432, "TCP"),
            (false, "no-allow-match", Agent),
            &[
                "no pod of the objects has the identity",
                "whoever proves to be spiffe://cluster.local/ns/shop/sa/ghost",
            ],
        ),
        (
            ("shop/far", "shop/db-0", 53, "UDP"),
            (false, "plaintext-in-strict", Kernel),
            &[
                "no tunnel carries UDP",
                "rules[0].to: absent — a strict pod takes UDP without an identity only by a rule",
            ],
        ),
        (
            ("shop/api", "shop/web", 53, "UDP"),
            (true, "no-policy", Kernel),
            &["the kernel knows which pod calls"],
        ),
        (
            ("kept/app", "192.0.2.1", 443, "TCP"),
            (false, "egress-outside-mesh", Kernel),
            &[
                "192.0.2.1:443 over TCP, which is of no pod: outside the mesh",
                "out of the mesh, in plaintext",
                "egress mesh: by the label ambit.dev/egress: mesh of the namespace kept",
                "AccessPolicy kept/out (egress): does not match",
                "egress[0].cidrs: [198.51.100.0/24] — 192.0.2.1 is called",
                "- add to AccessPolicy kept/out, under spec.egress",
                "the kernel of node n2 decides, when the caller connects or sends",
            ],
        ),
        (
            ("kept/app", "198.51.100.1", 443, "TCP"),
            (true, "egress-match", Kernel),
            &["AccessPolicy kept/out (egress): egress[0] matches", "- remove AccessPolicy kept/out"],
        ),
        (
            ("kept/app", "plain/pod", 80, "TCP"),
            (false, "egress-outside-mesh", Kernel),
            &["ambit does not touch what arrives there"],
        ),
        (
            ("kept/app", "shop/web", 80, "TCP"),
            (true, "no-policy", Agent),
            &["egress    allowed: the calling pod's egress is `mesh`, and what it calls is in the mesh"],
        ),
        (
            ("shop/web", "plain/pod", 80, "TCP"),
            (true, "not-enrolled", Nobody),
            &["nobody decides: ambit does not touch it"],
        ),
        (
            ("shop/web", "shop/web", 80, "TCP"),
            (true, "egress-any", Nobody),
            &["the pod calls itself", "nothing here that ambit could propose"],
        ),
        (
            ("shop/web", "lab/rat", 80, "TCP"),
            (true, "audit", Agent),
            &[
                "allowed: the pod is in audit mode, where nothing is refused; strict would refuse it",
                "mode audit: by the pod's label ambit.dev/mode: audit, before that of the namespace lab: permissive",
                "AccessPolicy lab/nobody (Allow): does not match: it has no rules, and admits nobody",
            ],
        ),
        (
            ("shop/web", "lab/odd", 80, "TCP"),
            (false, "no-allow-match", Kernel),
            &[
                "mode strict: by the pod's label ambit.dev/mode: loud, before that of the namespace lab: permissive (unknown mode \"loud\"",
            ],
        ),
        (
            ("shop/web", "shop/mixed", 80, "TCP"),
            (false, "no-allow-match", Kernel),
            &[
                "refused by 1 of 3 endpoints:",
                "198.51.100.9:80, outside the mesh",
                "10.0.0.99:80, outside the mesh, not ready",
            ],
        ),
    ];
    let world = World::shop();
    for ((from, to, port, protocol), (allowed, reason, decided_by), lines) in cases {
        let answer = ask(&world, from, to, port, protocol).unwrap();
        let text = render(&answer);
        let got = (answer.verdict == Answer::Allow, answer.reason.as_str(), answer.decided_by);
        assert_eq!(got, (allowed, reason, decided_by), "{from} {to} {port} {protocol}\n{text}");
        for line in lines {
            assert!(text.contains(line), "{from} {to}: {line:?} in\n{text}");
        }
    }
}

#[test]
fn json_has_what_programs_ask_for() {
    let answer = ask(&World::shop(), "shop/far", "shop/db", 80, "tcp").unwrap();
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!((&json["verdict"], &json["reason"]), (&"refuse".into(), &"no-allow-match".into()));
    assert_eq!((&json["policy"], &json["rule"]), (&"AccessPolicy shop/db".into(), &serde_json::Value::Null));
    assert_eq!((&json["decidedBy"], &json["decidedOn"]), (&"agent".into(), &"n1".into()));
    assert_eq!((&json["caller"], &json["called"]), (&"shop/far".into(), &"shop/db-0".into()));
    let steps = json["steps"].as_array().unwrap();
    let policy = steps.iter().find(|step| step["policy"] == "AccessPolicy shop/db").unwrap();
    assert_eq!(policy["matches"], false);
    assert_eq!(json["endpoints"][0]["address"], "10.0.0.1:5432");
    assert_eq!(serde_json::from_value::<Explanation>(json).unwrap(), answer);
}

#[test]
fn without_the_lane_the_agent_decides_within_a_node() {
    let question =
        Question { from: "shop/web".into(), to: "shop/db".into(), port: 80, protocol: "TCP".into() };
    let answer = explain(&World::shop().snapshot(), &question, SameNode::Encrypt, "the test").unwrap();
    assert_eq!(answer.decided_by, DecidedBy::Agent);
    assert!(render(&answer).contains("yet through the tunnel (--same-node encrypt)"));
}

#[test]
fn what_is_not_there_is_an_error_that_says_what_is() {
    let world = World::shop();
    for (from, to, port, protocol, expected) in [
        (
            "shop/wbe",
            "shop/db",
            80,
            "TCP",
            "--from shop/wbe: no pod has that name; did you mean `shop/web`?; the namespace shop has",
        ),
        (
            "web",
            "shop/db",
            80,
            "TCP",
            "write namespace/pod, a SPIFFE identity, an address or host; did you mean shop/web?",
        ),
        (
            "shop/db",
            "shop/web",
            80,
            "TCP",
            "this is a service, and a service calls nobody: name a pod, such as shop/db-0",
        ),
        ("10.96.0.1", "shop/web", 80, "TCP", "this is the address of the service shop/db"),
        ("spiffe://x", "shop/web", 80, "TCP", "expected spiffe://<trust-domain>/ns/"),
        (
            "shop/web",
            "shop/dbb",
            80,
            "TCP",
            "--to shop/dbb: no pod and no service has that name; did you mean `shop/db`?",
        ),
        (
            "shop/web",
            "shpo/db-0",
            80,
            "TCP",
            "did you mean `shop/db-0`?; the namespace shpo has none, and there are pods in kept, lab, plain, shop",
        ),
        ("shop/web", "shop/db", 81, "TCP", "the service shop/db has no TCP port 81; it has 80 (sql)"),
        (
            "shop/web",
            "shop/db",
            80,
            "UDP",
            "ambit reads TCP ports of services only: name a pod behind the service shop/db",
        ),
        ("shop/web", "shop/db", 80, "SCTP", "--protocol SCTP: write TCP or UDP"),
        ("shop/web", "shop/db", 0, "TCP", "a port is a number from 1 to 65535"),
        (
            "shop/web",
            "shop/asleep",
            80,
            "TCP",
            "none of the endpoints of the service shop/asleep is ready: 10.0.0.4:80 (shop/far); to ask about one, name the pod",
        ),
        (
            "shop/web",
            "shop/empty",
            80,
            "TCP",
            "has no endpoint on port 80: no pod that its selector selects, and no EndpointSlice",
        ),
        ("host", "192.0.2.1", 80, "TCP", "neither side is a pod"),
        ("shop/web", "a/b/c", 80, "TCP", "write namespace/pod, namespace/service or an address"),
    ] {
        let error = ask(&world, from, to, port, protocol).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} in {error:?}");
    }
}

#[test]
fn a_pod_and_a_service_of_one_name_are_told_apart() {
    let world = World::shop();
    // `shop/far` is both: the service has port 80, and every other port is the pod's.
    for (to, port, called) in [
        ("shop/far", 80, "shop/web"),
        ("shop/far", 81, "shop/far"),
        ("pod:shop/far", 80, "shop/far"),
        ("service:shop/far", 80, "shop/web"),
        ("10.96.0.3", 80, "shop/web"),
    ] {
        assert_eq!(ask(&world, "shop/api", to, port, "TCP").unwrap().called, called, "{to} {port}");
    }
}

#[test]
fn an_address_that_is_not_known_is_noted_where_policies_name_addresses() {
    let mut world = World::shop();
    let asked = |world: &World| ask(world, "spiffe://x.org/ns/a/sa/b", "shop/db-0", 80, "TCP").unwrap().notes;
    assert!(!asked(&world).concat().contains("policies of the called pod name addresses"));
    world.policy(
        "AccessPolicy shop/net",
        "{namespace: shop, name: net}",
        "  rules:\n  - from: [{cidrs: [10.0.0.0/8]}]\n",
    );
    assert!(asked(&world).concat().contains("policies of the called pod name addresses"));
}
