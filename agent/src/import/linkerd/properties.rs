//! Whatever Linkerd's policies are, what is written admits whom they admit, and never anybody else.
//!
//! Linkerd's side is decided here, directly on what was generated.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::import::testing::{Caller, allows, caller, imported};
use crate::import::{LineKind, Outcome, testing};

#[derive(Clone, Debug)]
struct Server {
    labels: &'static [(&'static str, &'static str)],
    port: u16,
    year: u16,
    access: &'static str,
}

#[derive(Clone, Debug)]
struct Grant {
    /// The Server; absent: those of the namespace.
    server: Option<usize>,
    /// A ServerAuthorization.
    old: bool,
    identities: Option<Vec<&'static str>>,
    /// Networks, each with those that are not meant.
    networks: Option<Vec<(&'static str, Vec<&'static str>)>>,
    /// Whether what it refers to is there.
    found: bool,
}

type Labels = &'static [(&'static str, &'static str)];

const SELECTORS: [Labels; 5] =
    [&[], &[("app", "web")], &[("tier", "front")], &[("app", "web"), ("tier", "front")], &[("app", "db")]];
const ACCESS: [&str; 6] = [
    "deny",
    "all-unauthenticated",
    "all-authenticated",
    "cluster-authenticated",
    "cluster-unauthenticated",
    "audit",
];
const IDENTITIES: [&str; 7] = [
    "*",
    "a.shop.serviceaccount.identity.linkerd.cluster.local",
    "b.other.serviceaccount.identity.linkerd.cluster.local",
    "*.shop.serviceaccount.identity.linkerd.cluster.local",
    "*.cluster.local",
    "b.shop.serviceaccount.identity.linkerd.evil",
    "a",
];
const CLUSTER: [&str; 5] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];

fn server() -> impl Strategy<Value = Server> {
    let access = prop_oneof![3 => Just("deny"), 1 => prop::sample::select(&ACCESS[..])];
    (prop::sample::select(&SELECTORS[..]), prop_oneof![Just(80u16), Just(90)], 2020u16..2024, access)
        .prop_map(|(labels, port, year, access)| Server { labels, port, year, access })
}

fn grant() -> impl Strategy<Value = Grant> {
    let network = (
        prop::sample::select(vec!["10.0.0.0/8", "0.0.0.0/0", "::/0", "9.0.0.0/8"]),
        vec(prop::sample::select(vec!["10.1.0.0/16", "9.9.0.0/16"]), 0..2),
    );
    (
        proptest::option::weighted(0.8, 0usize..3),
        any::<bool>(),
        proptest::option::weighted(0.7, vec(prop::sample::select(&IDENTITIES[..]), 1..3)),
        proptest::option::weighted(0.4, vec(network, 1..3)),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(server, old, identities, networks, found)| {
            let old = old && server.is_some();
            Grant { server, old, identities, networks, found: found || old }
        })
}

fn yaml(servers: &[Server], grants: &[Grant], default: &str) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  \
         annotations: {{config.linkerd.io/default-inbound-policy: {default}}}\n"
    );
    let mut object = |api: &str, kind: &str, name: &str, more: &str, spec: &str| {
        text.push_str(&format!(
            "---\napiVersion: policy.linkerd.io/{api}\nkind: {kind}\nmetadata: {{namespace: shop, name: {name}{more}}}\nspec: {spec}\n"
        ));
    };
    for (number, server) in servers.iter().enumerate() {
        let labels: Vec<String> =
            server.labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let spec = format!(
            "{{podSelector: {{matchLabels: {{{}}}}}, port: {}, accessPolicy: {}}}",
            labels.join(", "),
            server.port,
            server.access
        );
        let made = format!(", creationTimestamp: '{}-01-01T00:00:00Z'", server.year);
        object("v1beta3", "Server", &format!("s{number}"), &made, &spec);
    }
    for (number, grant) in grants.iter().enumerate() {
        let quoted =
            |values: &[&str]| values.iter().map(|value| format!("'{value}'")).collect::<Vec<_>>().join(", ");
        let networks = grant.networks.as_ref().map(|networks| {
            let written = networks
                .iter()
                .map(|(cidr, except)| format!("{{cidr: '{cidr}', except: [{}]}}", quoted(except)));
            format!("networks: [{}]", written.collect::<Vec<_>>().join(", "))
        });
        let identities =
            grant.identities.as_ref().map(|identities| format!("identities: [{}]", quoted(identities)));
        let server = grant.server.map(|server| format!("s{server}"));
        if let (true, Some(server)) = (grant.old, &server) {
            let who =
                identities.map_or("unauthenticated: true".to_owned(), |list| format!("meshTLS: {{{list}}}"));
            let client = networks.map_or(who.clone(), |networks| format!("{who}, {networks}"));
            let spec = format!("{{server: {{name: {server}}}, client: {{{client}}}}}");
            object("v1beta1", "ServerAuthorization", &format!("g{number}"), "", &spec);
            continue;
        }
        let target = server.map_or("{kind: Namespace, name: shop}".to_owned(), |server| {
            format!("{{group: policy.linkerd.io, kind: Server, name: {server}}}")
        });
        let mut refs = Vec::new();
        for (kind, spec) in [("MeshTLSAuthentication", identities), ("NetworkAuthentication", networks)] {
            let Some(spec) = spec else { continue };
            refs.push(format!("{{group: policy.linkerd.io, kind: {kind}, name: r{number}}}"));
            if grant.found {
                object("v1alpha1", kind, &format!("r{number}"), "", &format!("{{{spec}}}"));
            }
        }
        let spec = format!("{{targetRef: {target}, requiredAuthenticationRefs: [{}]}}", refs.join(", "));
        object("v1alpha1", "AuthorizationPolicy", &format!("g{number}"), "", &spec);
    }
    text
}

fn in_networks(networks: &[(&str, Vec<&str>)], caller: &Caller) -> bool {
    let contains = |text: &str| text.parse::<ipnet::IpNet>().unwrap().contains(&caller.address);
    networks.iter().any(|(cidr, except)| contains(cidr) && !except.iter().any(|text| contains(text)))
}

fn admits(access: &str, caller: &Caller) -> bool {
    let cluster: Vec<(&str, Vec<&str>)> = CLUSTER.iter().map(|cidr| (*cidr, Vec::new())).collect();
    match access {
        "deny" => false,
        "all-authenticated" => caller.id.is_some(),
        "cluster-authenticated" => caller.id.is_some() && in_networks(&cluster, caller),
        "cluster-unauthenticated" => in_networks(&cluster, caller),
        _ => true,
    }
}

impl Grant {
    fn admits(&self, caller: &Caller) -> bool {
        let refers = self.identities.is_some() || self.networks.is_some();
        if !self.old && refers && !self.found {
            return false;
        }
        let who = self.identities.as_ref().is_none_or(|identities| {
            let name = caller.id.as_ref().map(|id| {
                let (account, namespace, domain) = (id.service_account(), id.namespace(), id.trust_domain());
                format!("{account}.{namespace}.serviceaccount.identity.linkerd.{domain}")
            });
            name.is_some_and(|name| {
                identities.iter().any(|identity| match identity.strip_prefix('*') {
                    Some(suffix) => name.ends_with(suffix),
                    // A bare name is read as a service account of the namespace.
                    None if !identity.contains('.') => {
                        name == format!("{identity}.shop.serviceaccount.identity.linkerd.cluster.local")
                    }
                    None => name == *identity,
                })
            })
        });
        let cluster = CLUSTER.iter().map(|cidr| (*cidr, Vec::new())).collect();
        let networks = match &self.networks {
            Some(networks) => Some(networks.clone()),
            None if self.old => Some(cluster),
            None => None,
        };
        who && networks.is_none_or(|networks| in_networks(&networks, caller))
    }
}

fn linkerd_allows(
    servers: &[Server],
    grants: &[Grant],
    default: &str,
    pod: Labels,
    caller: &Caller,
    port: u16,
) -> bool {
    let selected = servers
        .iter()
        .enumerate()
        .filter(|(_, server)| server.port == port && server.labels.iter().all(|label| pod.contains(label)));
    match selected.min_by_key(|(number, server)| (server.year, *number)) {
        None => admits(default, caller),
        Some((number, server)) => {
            let mut granted = grants.iter().filter(|grant| grant.server.is_none_or(|of| of == number));
            admits(server.access, caller) || granted.any(|grant| grant.admits(caller))
        }
    }
}

fn has_policy(outcome: &Outcome, pod: Labels) -> bool {
    let labels = pod.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    outcome
        .objects
        .iter()
        .filter_map(|object| object.policy.as_ref())
        .any(|policy| policy.selector.matches(&labels))
}

proptest! {
    #[test]
    fn what_is_written_admits_whom_linkerd_admits(
        servers in vec(server(), 0..4),
        grants in vec(grant(), 0..4),
        default in prop_oneof![2 => Just("all-unauthenticated"), 1 => prop::sample::select(&ACCESS[..])],
    ) {
        let outcome = imported(&yaml(&servers, &grants, default));
        let told = testing::says(&outcome, LineKind::Differs, "stays refused");
        let pods: [Labels; 4] = [
            &[("app", "web")],
            &[("app", "web"), ("tier", "front")],
            &[("app", "db"), ("tier", "front")],
            &[("app", "none")],
        ];
        for who in ["shop/a", "shop/b", "other/b", "evil://shop/b", "-"] {
            for address in ["10.0.0.1", "10.1.0.1", "9.9.0.1", "9.0.0.1", "fd00::1", "2001:db8::1"] {
                let caller = caller(&format!("{who} from {address}"));
                for pod in pods {
                    for port in [80, 90, 91] {
                        let theirs = linkerd_allows(&servers, &grants, default, pod, &caller, port);
                        let ours = allows(&outcome, ("shop", pod), &caller, port);
                        let call = format!("{who} from {address} to {pod:?}:{port}\n{}\n{:#?}", outcome.yaml(), outcome.report);
                        if outcome.refused == 0 || has_policy(&outcome, pod) {
                            prop_assert!(!ours || theirs, "wider: {}", call);
                        }
                        if outcome.refused == 0 && !told {
                            prop_assert_eq!(ours, theirs, "narrower: {}", call);
                        }
                    }
                }
            }
        }
    }
}
