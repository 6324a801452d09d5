//! `ambit policy import`: the calculator's policies of three other meshes, put in force, and who then reaches what.

use std::path::PathBuf;
use std::process::Command;

use ambit_harness::{Agent, Node, Pod, PodSpec, Server, Service, ServiceSpec, Testbed, binary};
use serde_json::Value;

use crate::world::expect;

/// The port of `multiplication` that the samples speak of, and one that they do not.
const PORTS: [u16; 2] = [80, 8080];

/// Who may call.
const TWO: [&str; 2] = ["mathfanboy", "percentage"];

struct Calculator {
    /// Everybody who calls, with the namespace and the service account.
    callers: Vec<Pod>,
    called: Vec<Pod>,
    service: Service,
    _servers: Vec<Server>,
    _agents: Vec<Agent>,
    _nodes: [Node; 2],
    bed: Testbed,
}

impl Calculator {
    fn new(name: &str, namespace: &str) -> Self {
        let bed = Testbed::new(name);
        let nodes = [bed.node("a"), bed.node("b")];
        let mut callers = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let services: [&[&str]; 2] =
                [&["mathfanboy", "addition"], &["percentage", "substraction", "division"]];
            for account in services[index] {
                callers.push(node.pod(PodSpec::new(namespace, account).service_account(account)));
            }
            // The same account elsewhere is another identity, and whoever is outside of the mesh has none.
            let double = PodSpec::new("other", &format!("mathfanboy-{index}"));
            callers.push(node.pod(double.service_account("mathfanboy")));
            callers.push(node.pod(PodSpec::new("outside", &format!("stranger-{index}"))));
        }
        let called: Vec<Pod> = (0..nodes.len())
            .map(|index| {
                let spec = PodSpec::new(namespace, &format!("multiplication-{index}"));
                nodes[index].pod(spec.label("app", "multiplication").service_account("multiplication"))
            })
            .collect();
        let service = bed.service(ServiceSpec::new(namespace, "multiplication").port(80, PORTS[0]));
        bed.label_namespace(namespace, "permissive");
        bed.label_namespace("other", "strict");
        bed.publish();
        let servers = called.iter().flat_map(|pod| PORTS.map(|port| pod.serve("hello", port))).collect();
        let agents = nodes.iter().map(|node| node.start_agent(&[])).collect();
        Self { callers, called, service, _servers: servers, _agents: agents, _nodes: nodes, bed }
    }

    /// Puts in force what was imported: modes into the namespaces that stand there, policies beside them.
    fn put_in_force(&self, yaml: &str) {
        let (modes, policies): (Vec<&str>, Vec<&str>) =
            yaml.split("---\n").partition(|document| document.contains("kind: Namespace"));
        for document in modes {
            let value = |key: &str| {
                let line = document.lines().map(str::trim).find_map(|line| line.strip_prefix(key));
                line.unwrap_or_else(|| panic!("{key} in {document}")).trim().to_owned()
            };
            self.bed.label_namespace(&value("name:"), &value("ambit.dev/mode:"));
        }
        self.bed.write_object("imported.yaml", &policies.join("---\n"));
        self.bed.apply();
    }

    /// Calls `multiplication` from everywhere, by service and by pod address, over both families.
    fn expect_all(&self, port: u16, may: impl Fn(&Pod) -> bool) {
        let mut ways: Vec<_> = self.called.iter().flat_map(|pod| [pod.addr(port), pod.addr6(port)]).collect();
        if port == PORTS[0] {
            ways.extend([self.service.addr(), self.service.addr6()]);
        }
        for caller in &self.callers {
            for way in &ways {
                expect(caller, *way, may(caller));
            }
        }
    }
}

fn sample(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/policy/samples", name].iter().collect()
}

/// Imports a sample with the program, and returns what it prints.
fn import(name: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary("ambit"));
    let output = command.args(["policy", "import"]).args(arguments).arg(sample(name)).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn is_one_of_two(namespace: &str) -> impl Fn(&Pod) -> bool {
    move |pod| TWO.iter().any(|name| pod.name() == format!("{namespace}/{name}"))
}

#[test]
fn istio_s_sample_admits_exactly_mathfanboy_and_percentage() {
    let world = Calculator::new("imported-istio", "rest-calculator");
    world.expect_all(PORTS[0], |_| true);
    let (code, yaml, report) = import("istio-multiplication.yaml", &[]);
    assert_eq!(code, Some(0), "{report}");
    world.put_in_force(&yaml);
    world.expect_all(PORTS[0], is_one_of_two("rest-calculator"));
    world.expect_all(PORTS[1], |_| false);
}

#[test]
fn linkerd_s_sample_admits_exactly_mathfanboy_and_percentage() {
    let world = Calculator::new("imported-linkerd", "rest-calculator");
    let (code, yaml, report) = import("linkerd-multiplication.yaml", &[]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("is read as the service account rest-calculator/mathfanboy"), "{report}");
    world.put_in_force(&yaml);
    world.expect_all(PORTS[0], is_one_of_two("rest-calculator"));
    // A Server speaks for its port only.
    world.expect_all(PORTS[1], |_| true);
}

#[test]
fn dapr_s_sample_admits_exactly_mathfanboy_and_percentage() {
    let world = Calculator::new("imported-dapr", "dapr-calculator");
    let (code, yaml, report) = import("dapr-multiplication.yaml", &["--target", "app=multiplication"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("the trust domain public"), "{report}");
    world.put_in_force(&yaml);
    for port in PORTS {
        world.expect_all(port, is_one_of_two("dapr-calculator"));
    }
}

#[test]
fn a_pipeline_is_told_what_was_refused_and_what_cannot_be_read() {
    let (code, yaml, report) = import("dapr-multiplication.yaml", &[]);
    assert_eq!((code, yaml.as_str()), (Some(1), ""), "{report}");
    assert!(report.contains("NO POLICY IS WRITTEN") && report.contains("--target=LABEL=VALUE"), "{report}");
    let (code, json, _) = import("dapr-multiplication.yaml", &["-o", "json"]);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &value["refused"], &value["objects"]), (Some(1), &1.into(), &Value::Array(Vec::new())));
    let line = &value["report"][0];
    assert!(
        line["file"].as_str().unwrap().ends_with("dapr-multiplication.yaml") && line["line"] == 2,
        "{json}"
    );
    assert_eq!(
        (&line["kind"], &line["object"]),
        (&"refused".into(), &"Configuration dapr-calculator/multiplication".into())
    );
    let (code, _, report) = import("nowhere.yaml", &[]);
    assert!(code == Some(2) && report.contains("nowhere.yaml: cannot be read"), "{report}");
    let (code, _, report) = import("istio-multiplication.yaml", &["--target", "x"]);
    assert!(code == Some(2) && report.contains("write LABEL=VALUE"), "{report}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mistyped.yaml");
    let text = std::fs::read_to_string(sample("istio-multiplication.yaml")).unwrap();
    std::fs::write(&file, text.replace("principals:", "principal:")).unwrap();
    let (code, yaml, report) = import(file.to_str().unwrap(), &[]);
    assert_eq!((code, yaml.as_str()), (Some(2), ""));
    assert!(
        report.contains("mistyped.yaml:24:13: spec.rules[0].from[0].source.principal: unknown field"),
        "{report}"
    );
}
