//! Objects to ask about, kept so that a test can change them as a person would.

use std::collections::BTreeMap;
use std::path::Path;

use ambit_core::Snapshot;

use crate::control::convert::convert;
use crate::control::finding::Findings;
use crate::control::objects::Objects;

type Labels = BTreeMap<String, String>;

#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) namespaces: BTreeMap<String, Labels>,
    pub(super) pods: BTreeMap<String, (Labels, String)>,
    pub(super) policies: BTreeMap<String, String>,
    services: Vec<String>,
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn flow(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

impl World {
    /// `db-0` takes `web`; `api` is beside it, `far` on another node; `lab` is in audit mode, `kept` calls the mesh alone,
    /// `plain` is not enrolled.
    pub(super) fn shop() -> Self {
        let mut world = Self::default();
        let mode = "ambit.dev/mode";
        for (namespace, own) in [
            ("shop", &[(mode, "strict")][..]),
            ("lab", &[(mode, "permissive")]),
            ("kept", &[(mode, "permissive"), ("ambit.dev/egress", "mesh")]),
            ("plain", &[]),
        ] {
            world.namespaces.insert(namespace.into(), labels(own));
        }
        world.pod("shop/db-0", &[("app", "db")], "n1", "10.0.0.1", "serviceAccountName: db");
        world.pod("shop/web", &[("app", "web")], "n1", "10.0.0.2", "serviceAccountName: web");
        world.pod("shop/api", &[("app", "api")], "n1", "10.0.0.3", "serviceAccountName: api");
        world.pod("shop/far", &[("app", "far")], "n2", "10.0.0.4", "serviceAccountName: far");
        world.pod("lab/rat", &[("app", "rat"), (mode, "audit")], "n2", "10.0.1.1", "serviceAccountName: rat");
        world.pod("lab/odd", &[("app", "odd"), (mode, "loud")], "n1", "10.0.1.2", "serviceAccountName: odd");
        world.pod("kept/app", &[("app", "app")], "n2", "10.0.2.1", "serviceAccountName: app");
        world.pod("plain/pod", &[], "n1", "10.0.3.1", "serviceAccountName: pod");
        world.pod("plain/agent", &[], "n1", "10.9.0.1", "hostNetwork: true");
        let shop = "  selector: {matchLabels: {app: db}}\n";
        world.policy(
            "AccessPolicy shop/db",
            "{namespace: shop, name: db}",
            &format!(
                "{shop}  rules:\n  - from: [{{serviceAccounts: [web]}}]\n  - from: [{{namespaces: [ops]}}]\n    \
                 to: [{{ports: [\"9000-9100\"]}}]\n"
            ),
        );
        let deny = "  action: Deny\n  rules:\n  - from: [{namespaces: [lab]}]\n";
        world.policy("AccessPolicy shop/no-lab", "{namespace: shop, name: no-lab}", &format!("{shop}{deny}"));
        world.policy(
            "AccessPolicy shop/dns",
            "{namespace: shop, name: dns}",
            "  egress:\n  - {cidrs: [10.96.0.10/32], ports: [53], protocol: UDP}\n",
        );
        world.policy(
            "AccessPolicy shop/web",
            "{namespace: shop, name: web}",
            "  selector: {matchLabels: {app: web}}\n  dryRun: true\n  rules:\n  - from: [{serviceAccounts: [db]}]\n",
        );
        world.policy(
            "ClusterAccessPolicy audited",
            "{name: audited}",
            "  namespaceSelector: {matchLabels: {team: ops}}\n  rules:\n  - from: [{anyone: true}]\n",
        );
        world.policy("AccessPolicy lab/nobody", "{namespace: lab, name: nobody}", "  rules: []\n");
        world.policy(
            "AccessPolicy kept/out",
            "{namespace: kept, name: out}",
            "  egress:\n  - {cidrs: [198.51.100.0/24]}\n",
        );
        world.service("db", "10.96.0.1", "name: sql, ", &[("10.0.0.1", 5432, true)]);
        world.service(
            "mixed",
            "10.96.0.2",
            "",
            &[
                ("198.51.100.9", 80, true),
                ("10.0.0.1", 9, true),
                ("10.0.1.2", 80, true),
                ("10.0.0.99", 80, false),
            ],
        );
        world.service("far", "10.96.0.3", "", &[("10.0.0.2", 8080, true)]);
        world.service("asleep", "10.96.0.4", "", &[("10.0.0.4", 80, false)]);
        world.service("empty", "10.96.0.5", "", &[]);
        world
    }

    fn pod(&mut self, name: &str, own: &[(&str, &str)], node: &str, address: &str, spec: &str) {
        let rest =
            format!("spec: {{nodeName: {node}, {spec}, containers: []}}\nstatus: {{podIP: {address}}}\n");
        self.pods.insert(name.into(), (labels(own), rest));
    }

    /// Adds a policy; `spec` is indented by two.
    pub(super) fn policy(&mut self, id: &str, metadata: &str, spec: &str) {
        let kind = id.split(' ').next().unwrap();
        let text =
            format!("apiVersion: ambit.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec:\n{spec}");
        self.policies.insert(id.into(), text);
    }

    fn service(&mut self, name: &str, address: &str, port_name: &str, endpoints: &[(&str, u16, bool)]) {
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n\
             spec: {{clusterIP: {address}, ports: [{{{port_name}port: 80}}]}}\n"
        );
        for (number, (address, port, ready)) in endpoints.iter().enumerate() {
            text.push_str(&format!(
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
                 metadata: {{namespace: shop, name: {name}-{number}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
                 ports: [{{{port_name}port: {port}}}]\nendpoints: [{{addresses: [{address}], conditions: {{ready: {ready}}}}}]\n"
            ));
        }
        self.services.push(text);
    }

    /// Returns all objects as a file.
    pub(super) fn text(&self) -> String {
        let namespaces = self.namespaces.iter().map(|(name, labels)| {
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {}}}\n", flow(labels))
        });
        let pods = self.pods.iter().map(|(whole, (labels, rest))| {
            let (namespace, name) = whole.split_once('/').unwrap();
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{namespace: {namespace}, name: {name}, labels: {}}}\n{rest}",
                flow(labels)
            )
        });
        let all: Vec<String> = namespaces
            .chain(pods)
            .chain(self.policies.values().cloned())
            .chain(self.services.iter().cloned())
            .collect();
        all.join("---\n")
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut findings = Findings::default();
        let mut objects = Objects::default();
        let text = self.text();
        objects.read_file(Path::new("world.yaml"), text.as_bytes(), &mut findings);
        let snapshot = convert(&objects, "cluster.local", 1, &mut findings);
        assert_eq!(findings.errors, [], "{text}");
        snapshot.unwrap()
    }
}
