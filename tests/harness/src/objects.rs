//! Renders the testbed as Kubernetes objects, the way `kubectl get -o yaml` shows them. Writes no file.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bed::State;
use crate::netns;
use crate::pod::PodRecord;
use crate::service::Service;

/// Returns the files of the objects folder that the harness owns, by name.
pub(crate) fn files(state: &State) -> Result<BTreeMap<String, String>> {
    let mut labels = state.namespaces.clone();
    for pod in &state.pods {
        labels.entry(pod.spec().namespace).or_default();
    }
    let namespaces = labels.iter().map(|(name, labels)| namespace(name, labels)).collect::<Vec<_>>();
    let mut workloads: Vec<Value> = state.pods.iter().map(|p| pod(p)).collect();
    for entry in &state.services {
        let endpoints = entry.endpoints(&state.pods);
        workloads.push(service(entry));
        workloads.push(slice(entry, &endpoints, "IPv4"));
        workloads.push(slice(entry, &endpoints, "IPv6"));
    }
    let mut files = BTreeMap::new();
    for (name, objects) in [("namespaces.yaml", namespaces), ("workloads.yaml", workloads)] {
        files.insert(name.to_string(), yaml(&objects)?);
    }
    Ok(files)
}

fn yaml(objects: &[Value]) -> Result<String> {
    let documents = objects.iter().map(|o| serde_saphyr::to_string(o).context("write an object as YAML"));
    Ok(documents.collect::<Result<Vec<_>>>()?.join("---\n"))
}

fn namespace(name: &str, labels: &BTreeMap<String, String>) -> Value {
    let mut labels = labels.clone();
    labels.insert("kubernetes.io/metadata.name".into(), name.into());
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn uid(pod: &PodRecord) -> String {
    format!("00000000-0000-4000-8000-{:012x}", pod.instance)
}

fn pod(pod: &PodRecord) -> Value {
    let spec = pod.spec();
    let mut annotations = spec.annotations;
    annotations
        .entry("ambit.dev/netns".into())
        .or_insert_with(|| netns::path(&pod.netns).display().to_string());
    let ready = if spec.unready { "False" } else { "True" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": spec.namespace, "name": spec.name, "uid": uid(pod),
            "labels": spec.labels, "annotations": annotations,
        },
        "spec": {
            "nodeName": pod.node.name,
            "serviceAccountName": spec.service_account,
            "containers": [{"name": "app", "image": "ambit.dev/testbed"}],
        },
        "status": {
            "phase": "Running",
            "hostIP": pod.node.ip4(),
            "podIP": pod.ip4,
            "podIPs": [{"ip": pod.ip4}, {"ip": pod.ip6}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    })
}

fn port_name(index: usize) -> String {
    format!("port-{index}")
}

fn service(service: &Service) -> Value {
    let spec = &service.spec;
    let ports = spec.ports.iter().enumerate().map(|(index, (port, target))| {
        json!({"name": port_name(index), "protocol": "TCP", "port": port, "targetPort": target})
    });
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": spec.namespace, "name": spec.name},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": service.ip4,
            "clusterIPs": [service.ip4.to_string(), service.ip6.to_string()],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "selector": spec.selector,
            "ports": ports.collect::<Vec<_>>(),
        },
    })
}

fn slice(service: &Service, pods: &[&PodRecord], family: &str) -> Value {
    let spec = &service.spec;
    let endpoints = pods.iter().map(|pod| {
        let facts = pod.spec();
        let address = if family == "IPv4" { pod.ip4.to_string() } else { pod.ip6.to_string() };
        json!({
            "addresses": [address],
            "conditions": {"ready": !facts.unready, "serving": !facts.unready, "terminating": false},
            "nodeName": pod.node.name,
            "targetRef": {"kind": "Pod", "namespace": facts.namespace, "name": facts.name, "uid": uid(pod)},
        })
    });
    let ports = spec
        .ports
        .iter()
        .enumerate()
        .map(|(index, (_, target))| json!({"name": port_name(index), "protocol": "TCP", "port": target}));
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": spec.namespace,
            "name": format!("{}-{}", spec.name, family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": spec.name},
        },
        "addressType": family,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "ports": ports.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_shows_its_mode_label() {
        let labels = BTreeMap::from([("ambit.dev/mode".to_string(), "strict".to_string())]);
        let text = yaml(&[namespace("shop", &labels)]).unwrap();
        assert!(text.contains("ambit.dev/mode: strict") && text.contains("name: shop"), "{text}");
    }

    #[test]
    fn documents_are_separated() {
        let none = BTreeMap::new();
        let text = yaml(&[namespace("a", &none), namespace("b", &none)]).unwrap();
        assert_eq!(text.matches("---\n").count(), 1, "{text}");
    }
}
