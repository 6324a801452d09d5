//! Tests of Linkerd's rules.

use ambit_core::Protocol;

use crate::import::testing::{allows, caller, decide, imported, imported_with, policies, says, try_import};
use crate::import::{Access, LineKind, Options, Outcome};

const WEB: (&str, &[(&str, &str)]) = ("shop", &[("app", "web")]);

fn object(api: &str, kind: &str, name: &str, more: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy.linkerd.io/{api}\nkind: {kind}\n\
         metadata: {{namespace: shop, name: {name}{more}}}\nspec: {spec}\n"
    )
}

fn server(name: &str, more: &str, labels: &str, port: &str) -> String {
    object(
        "v1beta3",
        "Server",
        name,
        more,
        &format!("{{podSelector: {{matchLabels: {{{labels}}}}}, port: {port}}}"),
    )
}

fn grant(server: &str, client: &str) -> String {
    let name = format!("{server}-grant");
    object(
        "v1beta1",
        "ServerAuthorization",
        &name,
        "",
        &format!("{{server: {{name: {server}}}, client: {client}}}"),
    )
}

fn policy(target: &str, refs: &str) -> String {
    object(
        "v1alpha1",
        "AuthorizationPolicy",
        "p",
        "",
        &format!("{{targetRef: {target}, requiredAuthenticationRefs: {refs}}}"),
    )
}

fn web() -> String {
    server("web", "", "app: web", "80")
}

const SERVER: &str = "{group: policy.linkerd.io, kind: Server, name: web}";
const MESH: &str = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m}";
const NET: &str = "{group: policy.linkerd.io, kind: NetworkAuthentication, name: n}";

#[track_caller]
fn check(outcome: &Outcome, pod: (&str, &[(&str, &str)]), calls: &str) {
    for call in calls.split(", ") {
        let (who, rest) = call.split_once(" to ").unwrap();
        let (port, verdict) = rest.split_once(' ').unwrap();
        let found = allows(outcome, pod, &caller(who), port.parse().unwrap());
        assert_eq!(found, verdict == "yes", "{call}\n{}\n{:#?}", outcome.yaml(), outcome.report);
    }
}

#[test]
fn authorizations_admit_as_in_linkerd() {
    let id = |account: &str| format!("{account}.serviceaccount.identity.linkerd.cluster.local");
    let tls = |spec: &str| object("v1alpha1", "MeshTLSAuthentication", "m", "", spec);
    let net = |spec: &str| object("v1alpha1", "NetworkAuthentication", "n", "", spec);
    for (more, calls) in [
        (String::new(), "shop/a to 80 no, - to 80 no, - to 81 yes"),
        (grant("web", "{unauthenticated: true}"), "- to 80 yes, - from 8.8.8.8 to 80 no, shop/a to 80 yes"),
        (
            grant(
                "web",
                "{unauthenticated: true, networks: [{cidr: 0.0.0.0/0, except: [9.0.0.0/8]}, {cidr: '::/0'}]}",
            ),
            "- from 8.8.8.8 to 80 yes, - from 9.9.9.9 to 80 no",
        ),
        (
            grant("web", &format!("{{meshTLS: {{identities: ['{}']}}}}", id("a.shop"))),
            "shop/a to 80 yes, shop/b to 80 no, - to 80 no, shop/a from 8.8.8.8 to 80 no, shop/a from fd00::1 to 80 yes",
        ),
        (
            grant("web", "{meshTLS: {serviceAccounts: [{name: a}, {name: b, namespace: other}]}}"),
            "shop/a to 80 yes, other/b to 80 yes, other/a to 80 no",
        ),
        (grant("web", "{meshTLS: {identities: ['*']}}"), "other/x to 80 yes, - to 80 no"),
        (grant("web", "{meshTLS: {unauthenticatedTLS: true}}"), "other/x to 80 yes, - to 80 no"),
        (
            grant("web", &format!("{{meshTLS: {{identities: ['*.{}']}}}}", id("shop"))),
            "shop/x to 80 yes, other/x to 80 no",
        ),
        (
            grant("web", &format!("{{meshTLS: {{identities: ['*.{}']}}}}", id("b.shop"))),
            "shop/a.b to 80 yes, shop/b to 80 no, other/a.b to 80 no",
        ),
        (
            grant("web", "{meshTLS: {identities: ['*.cluster.local']}}"),
            "other/x to 80 yes, evil://o/x to 80 no, - to 80 no",
        ),
        (
            grant("web", "{meshTLS: {identities: [mathfanboy]}}"),
            "shop/mathfanboy to 80 yes, other/mathfanboy to 80 no",
        ),
        // Linkerd rejects it.
        (grant("web", "{meshTLS: {}}"), "shop/a to 80 no"),
        (grant("web", "{}"), "shop/a to 80 no"),
        (
            object(
                "v1beta1",
                "ServerAuthorization",
                "s",
                "",
                "{server: {selector: {matchLabels: {x: y}}}, client: {unauthenticated: true}}",
            ),
            "- to 80 no",
        ),
        // Everyone.
        (policy(SERVER, "[]"), "- from 8.8.8.8 to 80 yes, shop/a to 80 yes"),
        (policy("{kind: Namespace, name: shop}", "[]"), "- to 80 yes"),
        (
            policy(SERVER, "[{kind: ServiceAccount, name: a}]"),
            "shop/a from 8.8.8.8 to 80 yes, shop/b to 80 no, - to 80 no",
        ),
        (policy(SERVER, &format!("[{MESH}]")), "shop/a to 80 no, - to 80 no"),
        (policy(SERVER, &format!("[{MESH}]")) + &tls("{identities: []}"), "shop/a to 80 no"),
        (
            policy(SERVER, &format!("[{MESH}]"))
                + &tls("{identityRefs: [{kind: ServiceAccount, name: a}, {kind: Namespace, name: other}]}"),
            "shop/a to 80 yes, other/x to 80 yes, shop/b to 80 no",
        ),
        (
            policy(SERVER, &format!("[{NET}]")) + &net("{networks: [{cidr: 10.0.0.0/8}]}"),
            "- from 10.1.1.1 to 80 yes, - from 8.8.8.8 to 80 no",
        ),
        // All of them must hold.
        (
            policy(SERVER, &format!("[{NET}, {MESH}]"))
                + &net("{networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}, {cidr: 9.9.9.9}]}")
                + &tls("{identities: ['*']}"),
            "shop/a from 10.2.0.1 to 80 yes, shop/a from 10.1.0.1 to 80 no, shop/a from 9.9.9.9 to 80 yes, - from 10.2.0.1 to 80 no",
        ),
        (policy(SERVER, &format!("[{NET}, {MESH}]")) + &tls("{identities: ['*']}"), "shop/a to 80 no"),
    ] {
        let outcome = imported(&(web() + &more));
        assert_eq!(outcome.refused, 0, "{more}: {:#?}", outcome.report);
        check(&outcome, WEB, calls);
    }
}

#[test]
fn a_refused_authorization_only_narrows() {
    let id = "a.shop.serviceaccount.identity.elsewhere.cluster.local";
    let mesh = "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: m2}";
    let tls = |name: &str| object("v1alpha1", "MeshTLSAuthentication", name, "", "{identities: ['*']}");
    for (more, said) in [
        (grant("web", &format!("{{meshTLS: {{identities: ['{id}']}}}}")), "--linkerd-namespace=elsewhere"),
        (grant("web", "{meshTLS: {identities: ['*foo']}}"), "no identity of Linkerd's"),
        (grant("web", "{meshTLS: {identities: [a.shop]}}"), "no identity of Linkerd's"),
        (policy("{group: policy.linkerd.io, kind: HTTPRoute, name: r}", "[]"), "about requests"),
        (policy("{kind: Namespace, name: other}", "[]"), "a policy is for its own namespace"),
        (policy(SERVER, &format!("[{MESH}, {mesh}]")) + &tls("m") + &tls("m2"), "two lists of one kind"),
    ] {
        let outcome = imported(&(web() + &more));
        assert_eq!((policies(&outcome), outcome.refused), (1, 1), "{more}: {:#?}", outcome.report);
        assert!(says(&outcome, LineKind::Refused, said), "{more}: {:#?}", outcome.report);
        check(&outcome, WEB, "shop/a to 80 no, - to 80 no");
    }
}

#[test]
fn other_ports_keep_their_default() {
    let namespace = |policy: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  annotations: {{config.linkerd.io/default-inbound-policy: {policy}}}\n"
        )
    };
    for (policy, calls) in [
        ("all-unauthenticated", "- from 8.8.8.8 to 81 yes, - to 80 no"),
        ("audit", "- from 8.8.8.8 to 81 yes, - to 80 no"),
        ("all-authenticated", "shop/a from 8.8.8.8 to 81 yes, - to 81 no, shop/a to 80 no"),
        ("cluster-authenticated", "shop/a to 81 yes, shop/a from 8.8.8.8 to 81 no, - to 81 no"),
        ("cluster-unauthenticated", "- to 81 yes, - from 8.8.8.8 to 81 no, - to 80 no"),
        ("deny", "shop/a to 81 no, - to 81 no"),
    ] {
        let outcome = imported(&(web() + &namespace(policy)));
        assert_eq!(outcome.refused, 0);
        check(&outcome, WEB, calls);
        // A pod without a Server.
        let db = calls.replace("to 80 no", "to 80 yes");
        let db = if policy.contains("unauthenticated") || policy == "audit" {
            db
        } else {
            calls.replace(", shop/a to 80 no", "")
        };
        check(&outcome, ("shop", &[("app", "db")]), &db);
        let open = matches!(policy, "all-unauthenticated" | "audit");
        assert_eq!(decide(&outcome, WEB, &caller("-"), (Protocol::Udp, 53)), open, "{policy}");
        let options =
            Options { default_inbound_policy: Access::parse(policy).unwrap(), ..Options::default() };
        check(&imported_with(&web(), &options), WEB, calls);
    }
    let pod = |name: &str, policy: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  namespace: shop\n  name: {name}\n  labels: {{app: {name}}}\n  \
             annotations: {{config.linkerd.io/default-inbound-policy: {policy}}}\n"
        )
    };
    let outcome = imported(&(web() + &pod("web", "deny")));
    assert_eq!(outcome.refused, 0, "{:#?}", outcome.report);
    check(&outcome, WEB, "shop/a to 81 no");
    let outcome = imported(&(web() + &pod("db", "deny")));
    assert_eq!((policies(&outcome), outcome.refused), (1, 1));
    assert!(says(
        &outcome,
        LineKind::Refused,
        "NO POLICY IS WRITTEN for the pods of the namespace shop with app: db"
    ));
}

#[test]
fn servers_of_one_pod_keep_to_their_ports() {
    let pod: (&str, &[(&str, &str)]) = ("shop", &[("app", "web"), ("tier", "front")]);
    let text = web()
        + &server("admin", "", "tier: front", "90")
        + &grant("admin", "{meshTLS: {serviceAccounts: [{name: a}]}}");
    let outcome = imported(&text);
    check(&outcome, pod, "- to 81 yes, shop/a to 80 no, shop/a to 90 yes, shop/b to 90 no, - to 90 no");
    check(&outcome, WEB, "- to 90 yes, - to 80 no, shop/a to 80 no");
    check(&outcome, ("shop", &[("tier", "front")]), "- to 80 yes, - to 90 no, shop/a to 90 yes");
    // No selector says `not (a and b)`: narrower, and told.
    let both = web() + &server("admin", "", "tier: front, zone: a", "90");
    let outcome = imported(&both);
    check(&outcome, WEB, "- to 90 no, - to 81 yes");
    assert!(says(&outcome, LineKind::Differs, "port 90 stays refused"), "{:#?}", outcome.report);
}

#[test]
fn the_oldest_server_of_a_port_is_in_force_then_the_name() {
    let at = |year: u16| format!(", creationTimestamp: '{year}-01-01T00:00:00Z'");
    let pod: (&str, &[(&str, &str)]) = ("shop", &[("app", "web"), ("tier", "front")]);
    let grants = grant("a", "{meshTLS: {serviceAccounts: [{name: a}]}}")
        + &grant("b", "{meshTLS: {serviceAccounts: [{name: b}]}}");
    for (a, b, wins) in [
        (at(2023), at(2024), "a"),
        (at(2024), at(2023), "b"),
        (at(2023), at(2023), "a"),
        (String::new(), String::new(), "a"),
    ] {
        let text = server("a", &a, "app: web", "80") + &server("b", &b, "tier: front", "80") + &grants;
        let outcome = imported(&text);
        assert_eq!(outcome.refused, 0, "{:#?}", outcome.report);
        for account in ["a", "b"] {
            let found = allows(&outcome, pod, &caller(&format!("shop/{account}")), 80);
            assert_eq!(found, account == wins, "{account}: {}", outcome.yaml());
        }
        check(&outcome, WEB, "shop/a to 80 yes, shop/b to 80 no, - to 81 yes");
        check(&outcome, ("shop", &[("tier", "front")]), "shop/b to 80 yes, shop/a to 80 no");
    }
    let same = server("a", &at(2023), "app: web", "80") + &server("b", &at(2024), "app: web", "80") + &grants;
    let outcome = imported(&same);
    check(&outcome, WEB, "shop/a to 80 yes, shop/b to 80 no");
    assert!(says(&outcome, LineKind::Note, "never in force"));
    let unknown = server("a", "", "app: web", "80") + &server("b", &at(2024), "tier: front", "80") + &grants;
    let outcome = imported(&unknown);
    assert_eq!(policies(&outcome), 0, "{:#?}", outcome.report);
    let tangled = server("a", &at(2023), "app: web, zone: a", "80")
        + &server("b", &at(2024), "tier: front", "80")
        + &grants;
    assert_eq!(policies(&imported(&tangled)), 0);
}

#[test]
fn what_a_server_cannot_say_is_refused() {
    let pod = |name: &str, port: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {{app: web}}}}\n\
             spec: {{containers: [{{name: c, ports: [{port}]}}]}}\n"
        )
    };
    let named = server("web", "", "app: web", "http");
    let outcome = imported(&(named.clone() + &pod("w", "{name: http, containerPort: 8080}")));
    check(&outcome, WEB, "shop/a to 8080 no, - to 80 yes");
    for text in [
        named.clone(),
        named.clone() + &pod("w", "{name: http, containerPort: 8080, protocol: UDP}"),
        named
            + &pod("w", "{name: http, containerPort: 8080}")
            + &pod("x", "{name: http, containerPort: 8081}"),
        web()
            + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {namespace: shop, name: r}\n\
                 spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}]}\n",
        web() + &object("v1", "Novelty", "x", "", "{}"),
    ] {
        let outcome = imported(&text);
        assert_eq!(policies(&outcome), 0, "{text}: {:#?}", outcome.report);
        assert!(outcome.refused > 0 && says(&outcome, LineKind::Refused, "NO POLICY IS WRITTEN"), "{text}");
    }
    let outcome = imported(&(web() + &object("v1alpha1", "HTTPLocalRateLimitPolicy", "x", "", "{}")));
    assert_eq!((policies(&outcome), outcome.refused), (1, 1));
}

#[test]
fn differences_and_mistakes_are_told() {
    let outcome = imported(&(web() + &grant("web", "{meshTLS: {identities: [mathfanboy]}}")));
    assert!(says(&outcome, LineKind::Differs, "a bare name matches nobody in Linkerd"));
    assert!(says(&outcome, LineKind::Note, "a Server speaks for its port only"));
    for (text, field, said) in [
        (web().replace("port: 80", "prot: 80"), "spec.prot", "did you mean `port`?"),
        (web().replace("port: 80", "port: 0"), "spec.port", "is no port"),
        (web().replace("port: 80", "port: [80]"), "spec.port", "expected a port"),
        (web().replace("v1beta3", "v2"), "apiVersion", "policy.linkerd.io/v1beta1"),
        (web() + &web(), "metadata.name", "stands twice"),
        (
            grant("web", "{networks: [{cidr: x}], unauthenticated: true}"),
            "spec.client.networks[0].cidr",
            "neither an address",
        ),
        (
            web().replace("name: web", "name: web, creationTimestamp: now"),
            "metadata.creationTimestamp",
            "is no time",
        ),
        (policy(SERVER, "{}"), "spec.requiredAuthenticationRefs", "expected a list"),
    ] {
        let errors = try_import(&text, &Options::default()).unwrap_err();
        assert_eq!(errors[0].field, field, "{text}: {errors:?}");
        assert!(errors[0].line > 0 && errors[0].to_string().contains(said), "{text}: {errors:?}");
    }
}
