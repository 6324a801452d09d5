//! Objects in numbers that nobody writes by hand, as text; what puts them into force is `world`.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// How many workloads stand in one file, as exports of clusters are split.
const PER_FILE: u32 = 5000;
/// Where the addresses of generated workloads begin: beyond those of the testbed's own pods.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 128, 0, 0]);
/// How many generated workloads share a node.
const PER_NODE: u32 = 100;

/// Returns the files that hold the workloads `from..to` of other nodes, all enrolled: names and texts.
pub(crate) fn workloads(from: u32, to: u32) -> Vec<(String, String)> {
    let starts = (from..to).step_by(PER_FILE as usize);
    let file = |start: u32| {
        let end = to.min(start.saturating_add(PER_FILE));
        (format!("remote-{start:06}.yaml"), (start..end).map(workload).collect())
    };
    starts.map(file).collect()
}

fn workload(number: u32) -> String {
    let (node, app) = (number / PER_NODE, number % 200);
    let address = Ipv4Addr::from(FIRST_ADDRESS.saturating_add(number));
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  namespace: mesh
  name: app-{app}-{number:06}
  uid: 00000000-0000-4000-9000-{number:012x}
  labels: {{app: app-{app}, pod-template-hash: 5d8f6b7c9, version: v1, tier: backend}}
  ownerReferences:
  - {{apiVersion: apps/v1, kind: ReplicaSet, name: app-{app}-5d8f6b7c9, uid: 00000000-0000-4000-a000-{app:012x}, controller: true}}
spec: {{nodeName: remote-{node}, serviceAccountName: app-{app}, containers: [{{name: app, image: app}}]}}
status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}
"
    )
}

/// Returns `count` policies that select the servers and admit one caller each; the one in the middle admits the client.
pub(crate) fn policies(count: usize) -> String {
    let mut text = String::new();
    for number in 0..count {
        let caller = if number == count / 2 { "client".to_owned() } else { format!("caller-{number}") };
        // Writing to a string does not fail.
        let _ = write!(text, "---\n{}", policy(&format!("servers-{number:05}"), &caller));
    }
    text
}

/// Returns a policy that admits one service account to the servers.
pub(crate) fn policy(name: &str, caller: &str) -> String {
    format!(
        "apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {{namespace: mesh, name: {name}}}
spec:
  selector: {{matchLabels: {{role: server}}}}
  rules:
  - from:
    - serviceAccounts: [{caller}]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_split_into_files_and_none_is_left_out() {
        let files = workloads(3000, 14_000);
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["remote-003000.yaml", "remote-008000.yaml", "remote-013000.yaml"]);
        let pods: usize = files.iter().map(|(_, text)| text.matches("kind: Pod\n").count()).sum();
        assert_eq!(pods, 11_000);
    }

    #[test]
    fn one_policy_of_many_admits_the_client() {
        for count in [1, 2, 1000] {
            let text = policies(count);
            assert_eq!(text.matches("kind: AccessPolicy").count(), count);
            assert_eq!(text.matches("serviceAccounts: [client]").count(), 1, "{count}");
        }
        assert_eq!(policies(0), "");
    }
}
