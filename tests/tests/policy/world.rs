//! The calculator on two nodes: `multiplication` is called, by pods of its node and of the other, inside and outside
//! of the mesh.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_harness::{Agent, Node, Place, Pod, PodSpec, Server, Service, ServiceSpec, Testbed, wait_for};
use serde_json::Value;

/// The port of `multiplication`.
pub(crate) const PORT: u16 = 8080;

/// `only mathfanboy and percentage`, as the demo has it.
pub(crate) const ONLY_TWO: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: calc, name: multiplication}
spec:
  selector: {matchLabels: {app: multiplication}}
  rules:
  - from:
    - serviceAccounts: [mathfanboy, percentage]
";

pub(crate) struct World {
    pub(crate) multiplication: Pod,
    /// On the node of `multiplication`.
    pub(crate) mathfanboy: Pod,
    pub(crate) addition: Pod,
    /// On the other node.
    pub(crate) percentage: Pod,
    pub(crate) substraction: Pod,
    /// Of another namespace of the mesh.
    pub(crate) visitor: Pod,
    /// Outside of the mesh, one on each node.
    pub(crate) strangers: [Pod; 2],
    pub(crate) service: Service,
    pub(crate) application: Server,
    pub(crate) agents: [Agent; 2],
    pub(crate) nodes: [Node; 2],
    pub(crate) bed: Testbed,
}

impl World {
    /// Builds it with the label `mode` on the namespaces `calc` and `other`; `application` is what the pod serves.
    pub(crate) fn new(name: &str, mode: &str, application: &str) -> Self {
        let bed = Testbed::new(name);
        let (a, b) = (bed.node("a"), bed.node("b"));
        let calc = |node: &Node, name: &str| node.pod(PodSpec::new("calc", name).service_account(name));
        let multiplication = calc(&a, "multiplication");
        let (mathfanboy, addition) = (calc(&a, "mathfanboy"), calc(&a, "addition"));
        let (percentage, substraction) = (calc(&b, "percentage"), calc(&b, "substraction"));
        let visitor = b.pod(PodSpec::new("other", "visitor").service_account("visitor"));
        let strangers = [a.pod(PodSpec::new("outside", "near")), b.pod(PodSpec::new("outside", "far"))];
        let service = bed.service(ServiceSpec::new("calc", "multiplication").port(80, PORT));
        bed.label_namespace("calc", mode);
        bed.label_namespace("other", mode);
        bed.publish();
        let application = multiplication.serve(application, PORT);
        let agents = [&a, &b].map(|node| {
            let kubelet = node.cgroup().join("kubelet");
            node.start_agent(&["--host-cgroups", kubelet.to_str().unwrap()])
        });
        let nodes = [a, b];
        Self {
            multiplication,
            mathfanboy,
            addition,
            percentage,
            substraction,
            visitor,
            strangers,
            service,
            application,
            agents,
            nodes,
            bed,
        }
    }

    /// Puts a policy in force, in the place of the one before.
    #[track_caller]
    pub(crate) fn policy(&self, text: &str) {
        self.bed.write_object("policy.yaml", text);
        self.bed.apply();
    }

    /// The ways to `multiplication`: by service and by pod address, over both families.
    pub(crate) fn ways(&self) -> [SocketAddr; 4] {
        let pod = &self.multiplication;
        [self.service.addr(), self.service.addr6(), pod.addr(PORT), pod.addr6(PORT)]
    }

    /// The denials that `ambit status -o json` of the destination's node shows, oldest first.
    pub(crate) fn denials(&self) -> Vec<Value> {
        self.agents[0].status()["recent_denials"].as_array().unwrap().clone()
    }

    /// The latest denial of this caller for this reason, once it is reported: the kernel's own come a moment later.
    #[track_caller]
    pub(crate) fn denial(&self, source: &str, reason: &str) -> Value {
        wait_for(&format!("{source} to be denied: {reason}"), Duration::from_secs(10), || {
            let matches = |denial: &Value| denial["source"] == source && denial["reason"] == reason;
            self.denials().into_iter().rfind(matches)
        })
    }

    /// Log lines of the destination's node that contain `text`.
    pub(crate) fn lines(&self, text: &str) -> Vec<String> {
        self.agents[0].log().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// A policy for `multiplication` with this action and these rules (YAML, one line).
pub(crate) fn policy(action: &str, rules: &str) -> String {
    format!(
        "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {{namespace: calc, name: tested}}\n\
         spec: {{action: {action}, selector: {{matchLabels: {{app: multiplication}}}}, rules: {rules}}}\n"
    )
}

/// Asserts that a connection is served, or is refused after it was let in or before.
#[track_caller]
pub(crate) fn expect(from: &Place, to: SocketAddr, served: bool) {
    let seen = from.connect(to);
    assert_eq!(seen.all_ok(), served, "{} to {to}: {seen:?}", from.name());
    if !served {
        let refused = ["refused", "reset"].iter().any(|kind| seen.errors.contains_key(*kind));
        assert!(refused, "{} to {to} is told at once, not by a time-out: {seen:?}", from.name());
    }
}
