//! `ambit simulate`: the matrix of a large cluster, what a change would do, and how a pipeline is told.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ambit_harness::{ClusterSize, Place, binary};
use serde_json::Value;

use crate::changes::hold;
use crate::world::{ONLY_TWO, PORT, World};

fn simulate(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary("ambit"));
    let output = command.arg("simulate").args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_matrix_of_a_large_cluster_is_what_its_policies_say() {
    let size = ClusterSize::LARGE;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cluster.yaml"), size.objects()).unwrap();
    let (code, csv, error) = simulate(folder.path(), &["--objects", "cluster.yaml", "--matrix", "-o", "csv"]);
    assert_eq!(code, Some(0), "{error}");
    let mut found: HashMap<[String; 3], (String, u64)> = HashMap::new();
    for row in csv.lines().skip(1) {
        let cells = fields(row);
        let [from, to, ports, verdict, pairs] = [0, 1, 3, 4, 12].map(|index| cells[index].clone());
        let known = found.insert([from, to, ports], (verdict, pairs.parse().unwrap()));
        assert!(known.is_none(), "twice: {row}");
    }
    let other = "all but 8080, 9090";
    let all = |of: usize| -> Vec<(usize, usize)> {
        (0..of)
            .flat_map(|namespace| (0..size.applications).map(move |application| (namespace, application)))
            .collect()
    };
    let mut checked = 0;
    for called in all(size.namespaces) {
        for caller in all(size.namespaces) {
            for (port, ports) in [(8080, "8080"), (9090, "9090"), (1, other)] {
                let name = |(namespace, application): (usize, usize)| format!("n{namespace}/a{application}");
                let cell = found.get(&[name(caller), name(called), ports.to_owned()]);
                let verdict = if size.may_call(caller, called, port) { "allow" } else { "refuse" };
                let pairs = size.replicas * (size.replicas - usize::from(caller == called));
                assert_eq!(
                    cell,
                    Some(&(verdict.to_owned(), pairs as u64)),
                    "{caller:?} to {called:?}, {port}"
                );
                checked += 1;
            }
        }
        let name = format!("n{}/a{}", called.0, called.1);
        for (caller, verdict) in [("host", "allow"), ("outside", "refuse")] {
            let total: u64 = found
                .iter()
                .filter(|([from, to, _], (said, _))| from == caller && *to == name && said == verdict)
                .map(|(_, (_, pairs))| pairs)
                .sum();
            assert!(total > 0, "{caller} to {name}");
        }
    }
    assert_eq!(checked, 500 * 500 * 3);
}

/// Splits a row of CSV, in which a cell with a comma is in quotes.
fn fields(row: &str) -> Vec<String> {
    let (mut cells, mut quoted) = (vec![String::new()], false);
    for letter in row.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            _ => cells.last_mut().unwrap().push(letter),
        }
    }
    cells
}

fn reaches(from: &Place, to: SocketAddr) -> bool {
    from.connect_with(to, &["--expect", "echo"]).all_ok()
}

#[test]
fn what_is_simulated_is_what_happens_then() {
    let world = World::new("policy-simulated", "strict", "echo");
    let (to, socket) = (world.multiplication.addr(PORT), world.agents[0].socket());
    let objects = world.bed.objects().to_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.yaml"), ONLY_TWO).unwrap();
    let mut held = hold(&world.addition, to);
    let socket = socket.to_str().unwrap();
    let arguments = ["--objects", &objects, "--with", "policy.yaml", "--agent", socket, "-o", "json"];
    let (code, text, error) = simulate(folder.path(), &arguments);
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let calls = report["calls"].as_array().unwrap();
    for (pod, turned) in [
        (&world.addition, true),
        (&world.substraction, true),
        (&world.visitor, true),
        (&world.mathfanboy, false),
        (&world.percentage, false),
    ] {
        let told = calls.iter().any(|call| {
            call["from"] == pod.name() && call["to"] == "calc/multiplication" && call["protocol"] == "TCP"
        });
        assert_eq!(told, turned, "{}: {report:#}", pod.name());
        assert!(reaches(pod, to), "{}", pod.name());
    }
    assert_eq!(report["widenedPairs"], 0);
    let open = &report["connections"].as_array().unwrap()[0];
    assert_eq!((&open["now"], &open["count"]), (&"open".into(), &1.into()), "{report:#}");
    assert_eq!(open["from"], "spiffe://cluster.local/ns/calc/sa/addition");
    assert_eq!(open["then"]["reason"], "no-allow-match");
    world.policy(ONLY_TWO);
    held.wait(Duration::from_secs(5));
    assert!(!reaches(&world.addition, to));
    assert!(reaches(&world.mathfanboy, to));
    // The other way around: what was refused lately is seen to come back.
    let arguments = [
        "--objects",
        &objects,
        "--without",
        "AccessPolicy/calc/multiplication",
        "--agent",
        socket,
        "-o",
        "json",
    ];
    world.denial("spiffe://cluster.local/ns/calc/sa/addition", "no-allow-match");
    let (code, text, error) = simulate(folder.path(), &arguments);
    assert_eq!(code, Some(0), "{error}");
    let report: Value = serde_json::from_str(&text).unwrap();
    let refused =
        report["connections"].as_array().unwrap().iter().find(|seen| seen["now"] == "refused").unwrap();
    assert_eq!(refused["then"]["verdict"], "allow", "{report:#}");
}

#[test]
fn a_pipeline_is_told_by_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let namespace = |mode: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: calc, labels: {{ambit.dev/mode: {mode}}}}}\n"
        )
    };
    let pod = |name: &str, number: u8| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: calc, name: {name}, labels: {{app: {name}}}}}\n\
             spec: {{nodeName: a, serviceAccountName: {name}, containers: []}}\nstatus: {{podIP: 10.0.0.{number}}}\n"
        )
    };
    write("objects.yaml", &[namespace("strict"), pod("multiplication", 1), pod("addition", 2)].concat());
    write("policy.yaml", ONLY_TWO);
    write("none.yaml", &namespace("none"));
    write("cut.yaml", &ONLY_TWO[..ONLY_TWO.len() - 20]);
    write("typo.yaml", &ONLY_TWO.replace("rules:", "rulez:"));
    let base = ["--objects", "objects.yaml"];
    for (arguments, code, expected) in [
        (&["--with", "policy.yaml"][..], 0, "narrowed: calls of 1 pair would be refused"),
        (&["--with", "policy.yaml", "--fail-on", "widened"], 0, "widened: nothing"),
        (
            &["--with", "policy.yaml", "--fail-on", "narrowed"],
            1,
            "no Allow policy that selects the pod matches",
        ),
        (&["--with", "none.yaml", "--fail-on", "widened"], 1, "the pod is not enrolled"),
        (&["--with", "none.yaml", "--fail-on", "narrowed"], 0, "narrowed: nothing"),
        (&["--matrix"], 0, "calc/multiplication"),
        (&["--matrix", "-o", "html"], 0, "<td>calc/multiplication</td>"),
        (&["--with", "policy.yaml", "-o", "html"], 0, "<h2>narrowed: calls of 1 pair"),
        (
            &["--with", "policy.yaml", "-o", "csv"],
            0,
            "calc/addition,calc/multiplication,TCP,all,allow,no-policy",
        ),
        (&[], 2, "name objects with --with or --without, or ask with --matrix"),
        (&["--with", "cut.yaml"], 2, "cut.yaml:9:24: cannot be parsed: unclosed bracket"),
        (&["--with", "typo.yaml"], 2, "typo.yaml:7:3: spec.rulez: unknown field"),
        (&["--with", "nowhere.yaml"], 2, "nowhere.yaml: cannot be read"),
        (&["--without", "Pod/calc/additon"], 2, "did you mean `calc/addition`?"),
        (&["--matrix", "--protocol", "ICMP"], 2, "--protocol ICMP: write TCP or UDP"),
        (&["--matrix", "--fail-on", "widened"], 2, "cannot be used with"),
    ] {
        let (found, out, error) = simulate(folder.path(), &[&base[..], arguments].concat());
        assert_eq!(found, Some(code), "{arguments:?}: {out}{error}");
        assert!(format!("{out}{error}").contains(expected), "{arguments:?}: {expected:?} in {out}{error}");
    }
    let (code, _, error) = simulate(folder.path(), &["--objects", "empty", "--matrix"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("empty: cannot be read"), "{error}");
}
