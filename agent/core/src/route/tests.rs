//! Tests of `route`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::identity::SpiffeId;
use crate::model::{Egress, Mode, Model};

fn pod(name: &str, address: &str, mode: Mode) -> Workload {
    Workload {
        namespace: "shop".into(),
        name: name.into(),
        uid: "1".into(),
        identity: SpiffeId::new("cluster.local", "shop", name).unwrap(),
        addresses: vec![address.parse().unwrap()],
        node: "n1".into(),
        mode,
        mode_problem: None,
        egress: Egress::Any,
        egress_problem: None,
        labels: BTreeMap::new(),
        host_network: false,
        netns: None,
        owner_kind: "pod".into(),
        owner_name: name.into(),
    }
}

fn service(name: &str, vips: &[&str], endpoints: &[(&str, bool)]) -> Service {
    let endpoints = endpoints.iter().map(|(address, ready)| Endpoint {
        address: address.parse().unwrap(),
        port: 8080,
        ready: *ready,
    });
    let ports = vec![ServicePort { name: None, port: 80, endpoints: endpoints.collect() }];
    let vips = vips.iter().map(|vip| vip.parse::<IpAddr>().unwrap()).collect();
    Service { namespace: "shop".into(), name: name.into(), vips, ports }
}

fn snapshot() -> Snapshot {
    let model = Model {
        workloads: vec![
            pod("in", "10.0.0.1", Mode::Strict),
            pod("out", "10.0.0.2", Mode::None),
            pod("six", "fd00::1", Mode::Audit),
        ],
        services: vec![
            service("both", &["10.96.0.1"], &[("10.0.0.1", true), ("10.0.0.2", true), ("10.0.0.3", false)]),
            service("dead", &["10.96.0.2"], &[("10.0.0.1", false)]),
            service("none", &["10.96.0.3"], &[]),
            service("dual", &["10.96.0.4", "fd00:96::4"], &[("10.0.0.1", true), ("fd00::1", true)]),
        ],
        ..Model::default()
    };
    Snapshot::build(1, model).unwrap()
}

/// Describes a route as `way address destination service`.
fn described(dialled: &str, random: u64) -> String {
    let name = |service: Option<Arc<Service>>| {
        service.map_or_else(|| "-".to_owned(), |service| service.name.clone())
    };
    match route(&snapshot(), dialled.parse().unwrap(), random) {
        Route::Tunnel { address, destination, service } => {
            format!("tunnel {address} {} {}", destination.name, name(service))
        }
        Route::Direct { address, service } => format!("direct {address} - {}", name(service)),
        Route::Refuse { reason } => format!("refuse: {} ({reason})", reason.code()),
    }
}

#[test]
fn a_dialled_address_has_one_way() {
    for (dialled, random, expected) in [
        ("10.0.0.1:5432", 0, "tunnel 10.0.0.1:5432 in -"),
        ("[::ffff:10.0.0.1]:5432", 0, "tunnel 10.0.0.1:5432 in -"),
        ("10.0.0.2:5432", 0, "direct 10.0.0.2:5432 - -"),
        ("192.0.2.7:443", 0, "direct 192.0.2.7:443 - -"),
        ("10.96.0.1:80", 0, "tunnel 10.0.0.1:8080 in both"),
        ("10.96.0.1:80", 1, "direct 10.0.0.2:8080 - both"),
        ("10.96.0.1:80", 2, "tunnel 10.0.0.1:8080 in both"),
        ("10.96.0.1:80", u64::MAX, "direct 10.0.0.2:8080 - both"),
        ("10.96.0.1:81", 0, "direct 10.96.0.1:81 - -"),
        ("10.96.0.2:80", 0, "refuse: no-ready-endpoint (service shop/dead has no ready endpoint)"),
        ("10.96.0.3:80", 0, "refuse: no-ready-endpoint (service shop/none has no ready endpoint)"),
    ] {
        assert_eq!(described(dialled, random), expected, "{dialled} with {random}");
    }
}

#[test]
fn an_endpoint_has_the_family_that_was_dialled() {
    for random in 0..4 {
        assert_eq!(described("10.96.0.4:80", random), "tunnel 10.0.0.1:8080 in dual");
        assert_eq!(described("[fd00:96::4]:80", random), "tunnel [fd00::1]:8080 six dual");
    }
}
