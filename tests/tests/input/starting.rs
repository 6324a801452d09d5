//! Agents that must not start.

use std::path::Path;
use std::time::Duration;

use ambit_harness::{Agent, Node, PodSpec, Testbed, binary, wait_until};

use crate::cases::CASES;

/// Runs an agent that has to end by itself; returns what it said.
#[track_caller]
fn fails(node: &Node, objects: &Path, more: &[&str]) -> String {
    let (source, dir) = (format!("dir:{}", objects.display()), node.dir().to_owned());
    let mut command = node.host("agent").command("timeout");
    command.arg("20").arg(binary("ambit")).args(["agent", "--node", node.name(), "--source", &source]);
    command.arg("--cgroup-root").arg(node.cgroup()).arg("--bpffs").arg(node.bpffs());
    command.arg("--state-dir").arg(dir.join("state")).arg("--socket").arg(dir.join("agent.sock"));
    let output = command.args(more).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && output.status.code() != Some(124), "{}: {said}", output.status);
    let pins = std::fs::read_dir(node.bpffs()).map_or(0, Iterator::count);
    assert_eq!(pins, 0, "nothing is attached: {said}");
    assert!(!dir.join("agent.sock").exists(), "{said}");
    said
}

#[test]
fn an_agent_does_not_start_with_a_mistake_and_attaches_nothing() {
    let bed = Testbed::new("input-start");
    let node = bed.node("a");
    let server = node.pod(PodSpec::new("shop", "server"));
    bed.label_namespace("shop", "strict");
    bed.publish();
    for case in CASES.iter().filter(|case| !case.is_policy()) {
        bed.write_object("z-mistake.yaml", case.text);
        bed.publish();
        let said = fails(&node, bed.objects(), &[]);
        for words in ["z-mistake.yaml", case.place, case.field.unwrap_or_default(), case.says, case.hint] {
            assert!(said.contains(words), "{}: {words:?} in {said}", case.name);
        }
    }
    // Without hooks the pod is as open as before.
    let _application = server.serve("hello", 8080);
    assert!(node.host("system").connect(server.addr(8080)).all_ok());
    bed.remove_object("z-mistake.yaml");
    bed.publish();
    let agent = node.start_agent(&[]);
    wait_until("the pod to be captured", Duration::from_secs(10), || {
        agent.status()["pods"][0]["captured"] == true
    });
}

#[test]
fn an_agent_that_starts_with_an_invalid_policy_refuses_what_it_selects() {
    let bed = Testbed::new("input-stand-in");
    let node = bed.node("a");
    let pod = |name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
    let (server, other, client) = (pod("server"), pod("other"), pod("client"));
    bed.label_namespace("shop", "strict");
    let policy = |rules: &str| {
        format!(
            "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: shop, name: server}}\n\
             spec:\n  selector: {{matchLabels: {{app: server}}}}\n  rules: {rules}\n"
        )
    };
    bed.write_object("policy.yaml", &policy("[{form: [{serviceAccounts: [client]}]}]"));
    bed.publish();
    let _applications = [server.serve("hello", 8080), other.serve("hello", 8080)];
    let agent = node.start_agent(&[]);
    let captured = |agent: &Agent| {
        let pods = agent.status()["pods"].clone();
        pods.as_array().is_some_and(|pods| pods.len() == 3 && pods.iter().all(|pod| pod["captured"] == true))
    };
    wait_until("the pods to be captured", Duration::from_secs(10), || captured(&agent));
    assert!(client.connect(server.addr(8080)).none_ok(), "nobody knows whom the policy admits");
    assert!(client.connect(other.addr(8080)).all_ok(), "the policy does not select this pod");
    let errors = agent.status()["source"]["errors"].to_string();
    for words in ["policy.yaml:6:", "spec.rules[0].form", "did you mean `from`?", "admits nobody to the pods"]
    {
        assert!(errors.contains(words), "{words:?} in {errors}");
        assert!(words.contains('[') || agent.log().contains(words), "{words:?} in the log");
    }

    // Another agent does not take over with less than the one that serves.
    bed.write_object("policy.yaml", &policy("[{from: [{serviceAccounts: [client]}]}]"));
    bed.apply();
    assert!(client.connect(server.addr(8080)).all_ok(), "the mended policy is in force");
    bed.write_object("policy.yaml", &policy("[{form: []}]"));
    assert_eq!(bed.try_apply().len(), 1);
    assert!(client.connect(server.addr(8080)).all_ok(), "the last valid version stays in force");
    let said = refused(&node, bed.objects(), &agent);
    assert!(said.contains("spec.rules[0].form"), "{said}");
    assert!(client.connect(server.addr(8080)).all_ok(), "the agent that remembers goes on");
}

/// Starts another agent beside one that serves, which has to end by itself; returns what it said.
#[track_caller]
fn refused(node: &Node, objects: &Path, agent: &Agent) -> String {
    let source = format!("dir:{}", objects.display());
    let mut command = node.host("agent").command("timeout");
    command.arg("20").arg(binary("ambit")).args(["agent", "--node", node.name(), "--source", &source]);
    command.arg("--cgroup-root").arg(node.cgroup()).arg("--bpffs").arg(node.bpffs());
    command.arg("--state-dir").arg(node.dir().join("state")).arg("--socket").arg(agent.socket());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && output.status.code() != Some(124), "{}: {said}", output.status);
    said
}

#[test]
fn an_agent_says_which_of_its_folders_it_cannot_use() {
    let bed = Testbed::new("input-folders");
    let node = bed.node("a");
    bed.publish();
    let said = fails(&node, &bed.dir().join("nowhere"), &[]);
    assert!(said.contains("list the objects in") && said.contains("nowhere"), "{said}");
    let open = bed.dir().join("open-ca");
    std::fs::create_dir(&open).unwrap();
    assert!(std::process::Command::new("chmod").arg("755").arg(&open).status().unwrap().success());
    let said = fails(&node, bed.objects(), &["--ca-dir", open.to_str().unwrap()]);
    assert!(said.contains("open-ca") && said.contains("0755"), "{said}");
    let broken = bed.dir().join("broken-ca");
    std::fs::create_dir(&broken).unwrap();
    assert!(std::process::Command::new("chmod").arg("700").arg(&broken).status().unwrap().success());
    std::fs::write(broken.join("root-cert.pem"), "no certificate").unwrap();
    let said = fails(&node, bed.objects(), &["--ca-dir", broken.to_str().unwrap()]);
    assert!(said.contains("broken-ca"), "{said}");
}
