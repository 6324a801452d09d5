//! `ambit explain` foresees what real connections come to, in the words of the log, and what it proposes works.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use ambit_harness::{Place, binary};
use serde_json::Value;

use crate::world::{ONLY_TWO, PORT, World, expect, policy};

/// Asks an agent, or the files of objects, and returns exit code and output.
fn ambit(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary("ambit")).arg("explain").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn explain(from: &str, to: &str, port: u16, source: &[&str]) -> Value {
    let port = port.to_string();
    let asked = [&["--from", from, "--to", to, "--port", &port, "-o", "json"][..], source].concat();
    let (code, text) = ambit(&asked);
    assert_eq!(code, Some(0), "{text}");
    serde_json::from_str(&text).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_is_explained_is_what_happens() {
    let world = World::new("policy-explained", "strict", "hello");
    let kubelet = world.nodes[0].host("kubelet");
    let far_host = world.nodes[1].host("kubelet");
    let (pod, service) = (world.multiplication.addr(PORT), world.service.addr());
    let sockets = world.agents.each_ref().map(|agent| agent.socket());
    let refused_by_deny =
        policy("Deny", "[{from: [{serviceAccounts: [percentage]}]}, {from: [{host: true}]}]");
    for text in [ONLY_TWO, &refused_by_deny] {
        world.policy(text);
        let addresses = [world.strangers[1].ips()[0].to_string(), world.nodes[1].ips()[0].to_string()];
        let callers: [(&Place, &str); 8] = [
            (&world.mathfanboy, "calc/mathfanboy"),
            (&world.addition, "calc/addition"),
            (&world.percentage, "calc/percentage"),
            (&world.substraction, "spiffe://cluster.local/ns/calc/sa/substraction"),
            (&world.visitor, "other/visitor"),
            (&world.strangers[1], &addresses[0]),
            (&kubelet, "host"),
            (&far_host, &addresses[1]),
        ];
        for (place, name) in callers {
            for (to, port, dialled) in [
                ("service:calc/multiplication", 80, service),
                ("pod:calc/multiplication", PORT, SocketAddr::new(pod.ip(), PORT)),
            ] {
                // Either agent knows, and so do the files.
                let objects = ["--objects", path(world.bed.objects())];
                let answers =
                    sockets.each_ref().map(|socket| explain(name, to, port, &["--socket", path(socket)]));
                let mut from_files = explain(name, to, port, &objects);
                for mut answer in answers {
                    assert!(
                        answer["answeredBy"].as_str().unwrap().starts_with("the agent of node"),
                        "{answer:#}"
                    );
                    assert!(!answer["notes"].to_string().contains("not captured"), "{answer:#}");
                    for other in [&mut answer, &mut from_files] {
                        other.as_object_mut().unwrap().remove("answeredBy");
                    }
                    assert_eq!(answer, from_files);
                }
                expect(place, dialled, from_files["verdict"] == "allow");
                if from_files["verdict"] == "refuse" && place.name() != far_host.name() {
                    let reason = from_files["reason"].as_str().unwrap();
                    let source = match name {
                        _ if reason == "plaintext-in-strict" => "unverified".to_owned(),
                        "host" => "host".to_owned(),
                        _ => {
                            let (namespace, account) = place.name().split_once('/').unwrap();
                            format!("spiffe://cluster.local/ns/{namespace}/sa/{account}")
                        }
                    };
                    let denial = world.denial(&source, reason);
                    assert_eq!(denial["summary"], from_files["summary"], "{name}");
                }
            }
        }
    }
}

#[test]
fn what_is_proposed_opens_the_way() {
    let world = World::new("policy-proposed", "strict", "hello");
    world.policy(ONLY_TWO);
    let to = world.service.addr();
    expect(&world.addition, to, false);
    let socket = world.agents[0].socket();
    let answer = explain("calc/addition", "service:calc/multiplication", 80, &["--socket", path(&socket)]);
    assert_eq!(answer["changes"].as_array().unwrap().len(), 1, "{answer:#}");
    let change = &answer["changes"][0];
    assert_eq!(change["what"], "add to AccessPolicy calc/multiplication, under spec.rules");
    let lines = change["lines"].as_str().unwrap().lines().map(|line| format!("  {line}\n"));
    world.policy(&format!("{ONLY_TWO}{}", lines.collect::<String>()));
    expect(&world.addition, to, true);
    expect(&world.substraction, to, false);
}

#[test]
fn what_cannot_be_answered_says_why_and_exits_with_2() {
    let world = World::new("policy-unanswered", "strict", "hello");
    let socket = world.agents[0].socket();
    for (arguments, expected) in [
        (["calc/additoin", "calc/multiplication", path(&socket)], "did you mean `calc/addition`?"),
        (["calc/addition", "calc/multi", path(&socket)], "no pod and no service has that name"),
        (["calc/addition", "calc/multiplication", "/nowhere.sock"], "no agent answers at /nowhere.sock"),
    ] {
        let [from, to, socket] = arguments;
        let (code, text) = ambit(&["--from", from, "--to", to, "--port", "80", "--socket", socket]);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(expected), "{expected:?} in {text:?}");
    }
}

const OBJECTS: [&str; 4] = [
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: calc\n  labels: {ambit.dev/mode: strict}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: calc, name: addition}\n\
     spec: {nodeName: a, serviceAccountName: addition, containers: []}\nstatus: {phase: Running, podIP: 10.0.0.1}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {namespace: calc, name: multiplication, labels: {app: multiplication}}\n\
     spec: {nodeName: b, serviceAccountName: multiplication, containers: []}\nstatus: {phase: Running, podIP: 10.0.0.2}\n",
    ONLY_TWO,
];

#[test]
fn a_dump_of_kubectl_answers_as_files_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let indented = |text: &str| {
        let lines = text.trim().lines().map(|line| format!("  {line}\n"));
        format!("- {}", lines.collect::<String>().trim_start())
    };
    let items: String = OBJECTS.iter().map(|text| indented(text)).collect();
    std::fs::write(at("files.yaml"), OBJECTS.join("---\n")).unwrap();
    std::fs::write(
        at("dump.yaml"),
        format!("apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: ''}}\nitems:\n{items}"),
    )
    .unwrap();
    let answers = ["files.yaml", "dump.yaml"].map(|name| {
        let mut answer = explain("calc/addition", "calc/multiplication", 8080, &["--objects", &at(name)]);
        answer.as_object_mut().unwrap().remove("answeredBy");
        answer
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!((&answers[0]["verdict"], &answers[0]["decidedBy"]), (&"refuse".into(), &"agent".into()));
}

#[test]
fn bad_input_says_file_line_field_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let all = OBJECTS.join("---\n");
    for (name, text) in [
        ("good.yaml", all.clone()),
        ("cut.yaml", all[..all.len() - 12].to_owned()),
        ("field.yaml", all.replace("serviceAccounts", "serviceAcounts")),
        ("address.yaml", all.replace("10.0.0.2", "10.0.0.256")),
        ("twice.yaml", all.replace("10.0.0.2", "10.0.0.1")),
    ] {
        std::fs::write(at(name), text).unwrap();
    }
    let good = ["calc/addition", "calc/multiplication", "8080"];
    for (source, [from, to, port], expected) in [
        ("nowhere.yaml", good, &["nowhere.yaml: cannot be read"][..]),
        ("cut.yaml", good, &["cut.yaml:", "cannot be parsed"]),
        (
            "field.yaml",
            good,
            &["field.yaml:27:7:", "spec.rules[0].from[0].serviceAcounts", "did you mean `serviceAccounts`?"],
        ),
        ("address.yaml", good, &["address.yaml:17:", "status.podIP", "\"10.0.0.256\" is no address"]),
        (
            "twice.yaml",
            good,
            &["twice.yaml:17:", "have the same address 10.0.0.1", "every pod needs an address of its own"],
        ),
        (
            "good.yaml",
            ["calc/adition", "calc/multiplication", "8080"],
            &["--from calc/adition", "did you mean `calc/addition`?"],
        ),
        ("good.yaml", ["calc/addition", "calc/multiplication", "0"], &["--port", "0 is not in 1..=65535"]),
        ("good.yaml", ["calc/addition", "calc/multiplication", "http"], &["--port", "invalid digit"]),
        ("good.yaml", ["host", "192.0.2.1", "80"], &["neither side is a pod"]),
    ] {
        let (code, text) = ambit(&["--from", from, "--to", to, "--port", port, "--objects", &at(source)]);
        assert_eq!(code, Some(2), "{source}: {text}");
        for part in expected {
            assert!(text.contains(part), "{source} {from} {to} {port}: {part:?} in {text}");
        }
    }
}
