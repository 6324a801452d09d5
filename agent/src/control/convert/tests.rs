//! Tests of `convert`.

use std::path::Path;

use ambit_core::{Service, Workload};

use super::*;

/// Converts a text that has no error.
fn snapshot(text: &str) -> Snapshot {
    let (mut objects, mut findings) = (Objects::default(), Findings::default());
    objects.read_file(Path::new("in.yaml"), text.as_bytes(), &mut findings);
    let snapshot = convert(&objects, "cluster.local", 1, &mut findings);
    assert_eq!(findings.errors, []);
    snapshot.unwrap()
}

/// A pod in flow style, so that a table can hold many.
fn pod(name: &str, metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, {metadata}}}\nspec: {{containers: [], {spec}}}\nstatus: {{{status}}}\n"
    )
}

fn workload(text: &str, name: &str) -> Option<Workload> {
    snapshot(text).workload_named("default", name).map(|workload| Workload::clone(workload))
}

#[test]
fn only_pods_that_run_and_have_an_address_are_workloads() {
    for (status, expected) in [
        ("phase: Running, podIP: 10.0.0.1", true),
        ("podIP: 10.0.0.1", true),
        ("phase: Pending", false),
        ("phase: Pending, podIP: 10.0.0.1", true),
        ("phase: Succeeded, podIP: 10.0.0.1", false),
        ("phase: Failed", false),
    ] {
        assert_eq!(workload(&pod("a", "", "", status), "a").is_some(), expected, "{status}");
    }
}

#[test]
fn a_finished_pod_leaves_its_address_to_another() {
    let text =
        pod("old", "", "", "phase: Succeeded, podIP: 10.0.0.1") + &pod("new", "", "", "podIP: 10.0.0.1");
    assert!(workload(&text, "new").is_some());
}

#[test]
fn the_pods_own_mode_wins_over_its_namespaces() {
    let namespace =
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {ambit.dev/mode: strict}}\n";
    for (labels, spec, expected) in [
        ("", "", Mode::Strict),
        ("labels: {ambit.dev/mode: none}", "", Mode::None),
        ("labels: {ambit.dev/mode: audit}", "", Mode::Audit),
        ("labels: {ambit.dev/mode: loud}", "", Mode::Strict),
        ("", "hostNetwork: true", Mode::None),
    ] {
        let text = format!("{namespace}{}", pod("a", labels, spec, "podIP: 10.0.0.1"));
        assert_eq!(workload(&text, "a").unwrap().mode, expected, "{labels} {spec}");
    }
    assert_eq!(workload(&pod("a", "", "", "podIP: 10.0.0.1"), "a").unwrap().mode, Mode::None);
}

#[test]
fn the_pods_own_egress_wins_over_its_namespaces() {
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {ambit.dev/mode: strict, ambit.dev/egress: mesh}}\n";
    for (labels, expected, sound) in [
        ("", Egress::Mesh, true),
        ("labels: {ambit.dev/egress: any}", Egress::Any, true),
        ("labels: {ambit.dev/egress: all}", Egress::Mesh, false),
        ("labels: {ambit.dev/mode: none}", Egress::Mesh, false),
    ] {
        let found =
            workload(&format!("{namespace}{}", pod("a", labels, "", "podIP: 10.0.0.1")), "a").unwrap();
        assert_eq!((found.egress, found.egress_problem.is_none()), (expected, sound), "{labels}");
    }
    assert_eq!(workload(&pod("a", "", "", "podIP: 10.0.0.1"), "a").unwrap().egress, Egress::Any);
}

#[test]
fn the_owner_is_what_a_person_deployed() {
    let owned = |kind: &str, name: &str, labels: &str| {
        format!(
            "labels: {{{labels}}}, ownerReferences: [{{apiVersion: v1, kind: {kind}, name: {name}, uid: x, controller: true}}]"
        )
    };
    for (metadata, kind, name) in [
        (String::new(), "pod", "a"),
        (owned("ReplicaSet", "web-5d4f8c7b9", "pod-template-hash: 5d4f8c7b9"), "deployment", "web"),
        (owned("ReplicaSet", "web-5d4f8c7b9", ""), "deployment", "web"),
        (owned("ReplicaSet", "web-frontend", ""), "deployment", "web-frontend"),
        (owned("ReplicaSet", "web-other", "pod-template-hash: 5d4f8c7b9"), "deployment", "web-other"),
        (owned("Job", "backup-28512345", ""), "cronjob", "backup"),
        (owned("Job", "backup-1", ""), "job", "backup-1"),
        (owned("StatefulSet", "db", ""), "pod", "a"),
    ] {
        let found = workload(&pod("a", &metadata, "", "podIP: 10.0.0.1"), "a").unwrap();
        assert_eq!((found.owner_kind.as_str(), found.owner_name.as_str()), (kind, name), "{metadata}");
    }
}

/// Returns the endpoints of the first port of the first service, as `address:port`, those not ready with a `!`.
fn endpoints(text: &str) -> Vec<String> {
    let snapshot = snapshot(text);
    let service: &Service = snapshot.services().next().unwrap();
    let describe = |endpoint: &ambit_core::Endpoint| {
        format!("{}{}:{}", if endpoint.ready { "" } else { "!" }, endpoint.address, endpoint.port)
    };
    service.ports[0].endpoints.iter().map(describe).collect()
}

fn service(spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{clusterIP: 10.96.0.1, {spec}}}\n"
    )
}

#[test]
fn without_slices_a_selector_finds_the_pods() {
    let web = "labels: {app: web}";
    let ready = |ready: &str, address: &str| {
        format!("podIP: {address}, conditions: [{{type: Ready, status: \"{ready}\"}}]")
    };
    let container = "initContainers: [{name: c, ports: [{name: http, containerPort: 8081}]}]";
    let pods = pod("a", web, container, &ready("True", "10.0.0.1"))
        + &pod("b", web, "", &ready("False", "10.0.0.2"))
        + &pod("c", "labels: {app: db}", "", "podIP: 10.0.0.3")
        + &pod("d", "labels: {app: web}, namespace: other", "", "podIP: 10.0.0.4")
        + &pod("e", web, "", "podIP: 10.0.0.5").replace(
            "containers: []",
            "containers: [{name: c, ports: [{name: http, protocol: UDP, containerPort: 1}, {name: http, containerPort: 8080}]}]",
        );
    for (ports, expected) in [
        ("ports: [{port: 80}]", vec!["10.0.0.1:80", "!10.0.0.2:80", "10.0.0.5:80"]),
        ("ports: [{port: 80, targetPort: 8000}]", vec!["10.0.0.1:8000", "!10.0.0.2:8000", "10.0.0.5:8000"]),
        ("ports: [{port: 80, targetPort: http}]", vec!["10.0.0.5:8080"]),
        (
            "ports: [{port: 53, protocol: UDP}, {port: 81}]",
            vec!["10.0.0.1:81", "!10.0.0.2:81", "10.0.0.5:81"],
        ),
        (
            "publishNotReadyAddresses: true, ports: [{port: 80}]",
            vec!["10.0.0.1:80", "10.0.0.2:80", "10.0.0.5:80"],
        ),
    ] {
        let text = format!("{pods}{}", service(&format!("selector: {{app: web}}, {ports}")));
        assert_eq!(endpoints(&text), expected, "{ports}");
    }
    assert_eq!(endpoints(&(pods.clone() + &service("ports: [{port: 80}]"))), Vec::<String>::new());
}

#[test]
fn slices_are_matched_by_label_and_port_name() {
    let slice = |name: &str, service: &str, rest: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n{rest}"
        )
    };
    let text = service("selector: {app: web}, ports: [{name: http, port: 80}, {name: admin, port: 81}]")
        + &pod("a", "labels: {app: web}", "", "podIP: 10.0.0.9")
        + &slice(
            "s1",
            "web",
            "addressType: IPv4\nports: [{name: http, port: 8080}, {name: admin, port: 9}, {name: http, protocol: UDP, port: 7}]\n\
             endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]\n",
        )
        + &slice(
            "s2",
            "web",
            "addressType: IPv6\nports: [{name: http, port: 8080}]\nendpoints: [{addresses: [\"fd00::1\"]}]\n",
        )
        + &slice(
            "s3",
            "other",
            "addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints: [{addresses: [10.0.0.8]}]\n",
        )
        + &slice(
            "s4",
            "web",
            "addressType: FQDN\nports: [{name: http, port: 8080}]\nendpoints: [{addresses: [example.org]}]\n",
        );
    assert_eq!(endpoints(&text), ["10.0.0.1:8080", "!10.0.0.2:8080", "fd00::1:8080"]);
}

#[test]
fn a_headless_service_has_no_address_and_an_external_name_is_none() {
    let headless = service("ports: [{port: 80}]").replace("10.96.0.1", "None");
    assert_eq!(snapshot(&headless).services().next().unwrap().vips, Vec::<std::net::IpAddr>::new());
    let external =
        service("type: ExternalName, externalName: example.org").replace("clusterIP: 10.96.0.1, ", "");
    assert_eq!(snapshot(&external).services().count(), 0);
}
