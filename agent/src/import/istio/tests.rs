//! Tests of Istio's rules, one table for what they admit and one for what is refused.

use crate::import::testing::{allows, caller, imported, imported_with, policies, says, try_import};
use crate::import::{LineKind, Options, Outcome};

const WEB: (&str, &[(&str, &str)]) = ("shop", &[("app", "web")]);

/// An AuthorizationPolicy for `app: web` in `shop`, with this after its selector.
fn policy(spec: &str) -> String {
    named("shop", "web", &format!("{{selector: {{matchLabels: {{app: web}}}}, {spec}}}"))
}

fn named(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: {namespace}, name: {name}}}\nspec: {spec}\n"
    )
}

#[track_caller]
fn check(what: &str, outcome: &Outcome, calls: &str) {
    for call in calls.split(", ") {
        let (who, rest) = call.split_once(" to ").unwrap();
        let (port, verdict) = rest.split_once(' ').unwrap();
        let found = allows(outcome, WEB, &caller(who), port.parse().unwrap());
        assert_eq!(found, verdict == "yes", "{what}: {call}\n{}", outcome.yaml());
    }
}

#[test]
fn rules_admit_and_refuse_as_in_istio() {
    for (spec, calls) in [
        ("action: ALLOW", "shop/a to 80 no, - to 80 no"),
        ("rules: []", "shop/a to 80 no"),
        ("rules: [{}]", "shop/a to 80 yes, - to 80 yes, other/x to 9 yes"),
        ("action: DENY", "shop/a to 80 yes, - to 80 yes"),
        ("action: DENY, rules: [{}]", "shop/a to 80 no, - to 80 no"),
        (
            "rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}], to: [{operation: {ports: ['80']}}]}]",
            "shop/a to 80 yes, shop/a to 81 no, shop/b to 80 no, - to 80 no, evil://shop/a to 80 no",
        ),
        (
            "rules: [{from: [{source: {principals: ['*']}}]}]",
            "other/x to 9 yes, - to 9 no, evil://o/x to 9 yes",
        ),
        (
            "rules: [{from: [{source: {principals: ['cluster.local/ns/shop/*']}}]}]",
            "shop/a to 1 yes, shop2/a to 1 no, evil://shop/a to 1 no",
        ),
        (
            "rules: [{from: [{source: {principals: ['cluster.local/ns/sh*']}}]}]",
            "shop/a to 1 yes, shoe/a to 1 yes, other/a to 1 no",
        ),
        (
            "rules: [{from: [{source: {principals: ['*/sa/a']}}]}]",
            "shop/a to 1 yes, other/a to 1 yes, shop/ba to 1 no, evil://shop/a to 1 yes",
        ),
        ("rules: [{from: [{source: {principals: ['*/cluster.local/ns/shop/sa/a']}}]}]", "shop/a to 1 no"),
        ("rules: [{from: [{source: {namespaces: [shop]}}]}]", "shop/a to 1 yes, other/a to 1 no, - to 1 no"),
        ("rules: [{from: [{source: {namespaces: ['sh*']}}]}]", "shop/a to 1 yes, other/a to 1 no, - to 1 no"),
        (
            "rules: [{from: [{source: {serviceAccounts: [a, other/b]}}]}]",
            "shop/a to 1 yes, other/b to 1 yes, shop/b to 1 no, evil://shop/a to 1 yes, - to 1 no",
        ),
        (
            "rules: [{from: [{source: {namespaces: [shop], principals: ['*/sa/a', '*/sa/b']}}]}]",
            "shop/a to 1 yes, other/a to 1 no, shop/c to 1 no",
        ),
        (
            "rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]",
            "- from 10.1.1.1 to 1 yes, - from 9.1.1.1 to 1 no, shop/a from 9.1.1.1 to 1 no",
        ),
        (
            "rules: [{from: [{source: {ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]}}]}]",
            "- from 10.2.1.1 to 1 yes, - from 10.1.1.1 to 1 no",
        ),
        (
            "action: DENY, rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}]}]",
            "- from 10.2.1.1 to 1 yes, - from 9.1.1.1 to 1 no, shop/a from 9.1.1.1 to 1 no",
        ),
        ("rules: [{to: [{operation: {notPorts: ['80']}}]}]", "- to 80 no, - to 81 yes, shop/a to 1 yes"),
        (
            "rules: [{from: [{source: {namespaces: [shop]}}], when: [{key: destination.port, values: ['80', '81'], notValues: ['81']}]}]",
            "shop/a to 80 yes, shop/a to 81 no, other/a to 80 no",
        ),
        (
            "rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}], when: [{key: source.ip, values: [10.1.0.0/16]}]}]",
            "- from 10.1.0.1 to 1 yes, - from 10.2.0.1 to 1 no",
        ),
        (
            "rules: [{when: [{key: source.principal, values: ['cluster.local/ns/shop/sa/a']}, {key: source.namespace, values: [other]}]}]",
            "shop/a to 1 no, other/a to 1 no",
        ),
        // Who is not meant.
        (
            "rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/a]}}]}]",
            "shop/a to 1 no, shop/b to 1 yes, - to 1 no",
        ),
        (
            "rules: [{from: [{source: {namespaces: [shop], notPrincipals: ['*/sa/a']}}], to: [{operation: {ports: ['80']}}]}]",
            "shop/a to 80 no, shop/b to 80 yes, other/b to 80 no, shop/b to 81 no",
        ),
        (
            "action: DENY, rules: [{from: [{source: {notNamespaces: [shop]}}], to: [{operation: {ports: ['80']}}]}]",
            "shop/a to 80 yes, other/a to 80 no, - to 80 no, other/a to 81 yes, - to 81 yes",
        ),
        ("action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]", "other/a to 1 yes, - to 1 no"),
        (
            "action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]}]",
            "shop/a to 1 no, shop/b to 1 yes, - to 1 yes",
        ),
    ] {
        let outcome = imported(&policy(spec));
        assert_eq!(outcome.refused, 0, "{spec}: {:#?}", outcome.report);
        check(spec, &outcome, calls);
    }
}

#[test]
fn what_has_no_words_in_ambit_is_refused_and_leaves_no_policy() {
    for (spec, said) in [
        ("action: CUSTOM, provider: {name: x}, rules: [{}]", "external authorizer"),
        ("targetRefs: [{kind: Service, group: '', name: web}], rules: [{}]", "waypoints"),
        ("rules: [{to: [{operation: {methods: [GET]}}]}]", "only a request answers this"),
        ("rules: [{to: [{operation: {ports: ['80'], notPaths: [/x]}}]}]", "only a request answers this"),
        ("rules: [{from: [{source: {requestPrincipals: ['*']}}]}]", "only a request answers this"),
        ("rules: [{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}]", "only a request answers this"),
        ("rules: [{when: [{key: 'request.headers[x]', values: [y]}]}]", "only a request answers this"),
        ("rules: [{when: [{key: destination.ip, values: [10.0.0.1]}]}]", "only a request answers this"),
        ("action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]", "--deny-l7=port"),
        ("action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]", "--deny-l7=port"),
        (
            "rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/a/sa/b']}}]}]",
            "remove `spiffe://`",
        ),
        ("rules: [{from: [{source: {principals: ['cluster.local/ns/*/sa/b']}}]}]", "only at one end"),
        ("rules: [{from: [{source: {principals: [cluster.local/ns/a]}}]}]", "the identity of no pod"),
        ("rules: [{from: [{source: {principals: ['']}}]}]", "an empty value"),
        ("rules: [{from: [{source: {namespaces: ['*-shop']}}]}]", "how a namespace's name ends"),
        ("rules: [{from: [{source: {serviceAccounts: ['shop/*']}}]}]", "no service account"),
        ("rules: [{from: [{source: {}}]}]", "says nothing"),
        ("rules: [{from: [{}]}]", "an entry without `source`"),
        ("rules: [{to: [{operation: {}}]}]", "says nothing"),
        (
            "rules: [{from: [{source: {principals: ['*/sa/a'], serviceAccounts: [b]}}]}]",
            "two lists of identities must hold at once",
        ),
        (
            "rules: [{from: [{source: {notPrincipals: ['*/sa/a']}}]}, {from: [{source: {namespaces: [shop]}}]}]",
            "a Deny policy would have to say who is not meant",
        ),
        (
            "action: DENY, rules: [{from: [{source: {namespaces: [shop], notPrincipals: ['*/sa/a']}}]}]",
            "no Deny policy of ambit refuses everybody but some",
        ),
    ] {
        let outcome = imported(&policy(spec));
        assert_eq!((policies(&outcome), outcome.refused), (0, 1), "{spec}: {:#?}", outcome.report);
        assert!(says(&outcome, LineKind::Refused, said), "{spec}: {:#?}", outcome.report);
        assert!(
            says(&outcome, LineKind::Refused, "NO POLICY IS WRITTEN for "),
            "{spec}: {:#?}",
            outcome.report
        );
    }
}

#[test]
fn a_refused_policy_takes_the_others_of_its_pods_with_it() {
    let all = named("shop", "all", "{rules: [{from: [{source: {namespaces: [shop]}}]}]}");
    let other = named("shop", "db", "{selector: {matchLabels: {app: db}}, rules: [{}]}");
    let refused = policy("action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]");
    // `all` selects web too, is kept back, and then db would have half of its policies.
    let outcome = imported(&[all.as_str(), &other, &refused].concat());
    assert_eq!((policies(&outcome), outcome.refused), (0, 3), "{:#?}", outcome.report);
    let outcome = imported(&[other.as_str(), &refused].concat());
    assert_eq!((policies(&outcome), outcome.refused), (1, 1), "{:#?}", outcome.report);
    assert!(allows(&outcome, ("shop", &[("app", "db")]), &caller("-"), 1));
}

#[test]
fn a_refused_allow_does_no_harm_where_another_one_refuses_the_rest() {
    let refused = policy("rules: [{to: [{operation: {methods: [GET]}}]}]");
    let all = named("shop", "all", "{rules: []}");
    let outcome = imported(&[refused.as_str(), &all].concat());
    assert_eq!((policies(&outcome), outcome.refused), (1, 1), "{:#?}", outcome.report);
    assert!(!allows(&outcome, WEB, &caller("shop/a"), 80));
    // The mesh's own refuses the rest in every namespace; one of another namespace does not.
    let root = named("istio-system", "all", "{rules: []}");
    assert_eq!(policies(&imported(&[refused.as_str(), &root].concat())), 1);
    let elsewhere = named("other", "all", "{rules: []}");
    let outcome = imported(&[refused.as_str(), &elsewhere].concat());
    assert!(says(
        &outcome,
        LineKind::Refused,
        "NO POLICY IS WRITTEN for the pods of the namespace shop with app: web"
    ));
    assert_eq!(policies(&outcome), 1);
}

#[test]
fn audit_and_dry_run_protect_nobody() {
    let outcome = imported(&policy("action: AUDIT, rules: [{}]"));
    assert_eq!((policies(&outcome), outcome.refused), (0, 1));
    assert!(!says(&outcome, LineKind::Refused, "NO POLICY"));
    let dry = policy("action: DENY, rules: [{}]")
        .replace("name: web}", "name: web, annotations: {istio.io/dry-run: 'true'}}");
    let outcome = imported(&dry);
    assert!(outcome.yaml().contains("dryRun: true"), "{}", outcome.yaml());
    assert!(allows(&outcome, WEB, &caller("-"), 80));
    let refused = dry.replace("rules: [{}]", "rules: [{to: [{operation: {methods: [GET]}}]}]");
    assert!(!says(&imported(&refused), LineKind::Refused, "NO POLICY"));
}

#[test]
fn deny_l7_port_refuses_the_whole_port() {
    let options = Options { deny_requests_by_port: true, ..Options::default() };
    for (spec, calls) in [
        (
            "action: DENY, rules: [{from: [{source: {namespaces: [shop]}}], to: [{operation: {ports: ['80'], methods: [GET]}}]}]",
            "shop/a to 80 no, shop/a to 81 yes, other/a to 80 yes",
        ),
        (
            "action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {ports: ['80']}}]}]",
            "shop/a to 80 no, - to 80 no, - to 81 yes",
        ),
        (
            "action: DENY, rules: [{to: [{operation: {paths: [/x]}}, {operation: {ports: ['80']}}]}]",
            "- to 9 no",
        ),
    ] {
        let outcome = imported_with(&policy(spec), &options);
        assert_eq!(outcome.refused, 0, "{spec}: {:#?}", outcome.report);
        assert!(says(&outcome, LineKind::Differs, "the whole port is refused"), "{spec}");
        check(spec, &outcome, calls);
    }
    let allow = policy("rules: [{to: [{operation: {methods: [GET]}}]}]");
    assert_eq!(imported_with(&allow, &options).refused, 1, "an ALLOW is not widened");
}

#[test]
fn the_root_namespace_speaks_for_all() {
    let outcome =
        imported(&named("istio-system", "all", "{rules: [{from: [{source: {serviceAccounts: [a]}}]}]}"));
    assert!(outcome.yaml().contains("kind: ClusterAccessPolicy"));
    check("root", &outcome, "istio-system/a to 1 yes, shop/a to 1 no");
    let options = Options { root_namespace: "shop".to_owned(), ..Options::default() };
    assert!(imported_with(&policy("rules: []"), &options).yaml().contains("kind: ClusterAccessPolicy"));
}

#[test]
fn differences_are_told() {
    for (spec, kind, said) in [
        (
            "rules: [{from: [{source: {notPrincipals: ['*/sa/a']}}]}]",
            LineKind::Differs,
            "without an identity too",
        ),
        (
            "rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}]}]",
            LineKind::Differs,
            "without an identity too",
        ),
        (
            "rules: [{from: [{source: {namespaces: [a]}}]}, {to: [{operation: {ports: ['80']}}]}]",
            LineKind::Note,
            "write `to` without the `-`",
        ),
        ("rules: [{}]", LineKind::Differs, "UDP"),
        ("action: DENY, rules: [{}]", LineKind::Differs, "probes"),
        ("action: DENY", LineKind::Note, "refuses nobody"),
        (
            "rules: [{from: [{source: {principals: [evil/ns/a/sa/b]}}]}]",
            LineKind::Differs,
            "the trust domain evil",
        ),
    ] {
        let outcome = imported(&policy(spec));
        assert!(says(&outcome, kind, said), "{spec}: {:#?}", outcome.report);
    }
    let options = Options { trust_domain: "mesh".to_owned(), ..Options::default() };
    let spec = "rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/a]}}]}]";
    let outcome = imported_with(&policy(spec), &options);
    assert!(outcome.yaml().contains("serviceAccounts: [a]"), "{}", outcome.yaml());
    assert!(says(&outcome, LineKind::Differs, "is read as mesh"));
}

#[test]
fn namespaces_are_those_of_every_trust_domain_that_agents_trust() {
    let options = Options { trust_aliases: vec!["old".to_owned()], ..Options::default() };
    for (spec, calls) in [
        (
            "rules: [{from: [{source: {namespaces: [shop]}}]}]",
            "shop/a to 1 yes, old://shop/a to 1 yes, old://b/a to 1 no",
        ),
        (
            "action: DENY, rules: [{from: [{source: {namespaces: ['sh*']}}]}]",
            "shop/a to 1 no, old://shop/a to 1 no, old://b/a to 1 yes, - to 1 yes",
        ),
        (
            "rules: [{from: [{source: {notNamespaces: [shop]}}]}]",
            "shop/a to 1 no, old://shop/a to 1 no, old://b/a to 1 yes",
        ),
        (
            "rules: [{from: [{source: {namespaces: [shop], principals: [cluster.local/ns/shop/sa/a]}}]}]",
            "shop/a to 1 yes, old://shop/a to 1 no",
        ),
    ] {
        let outcome = imported_with(&policy(spec), &options);
        assert_eq!(outcome.refused, 0, "{spec}: {:#?}", outcome.report);
        check(spec, &outcome, calls);
    }
    let spec = "rules: [{from: [{source: {namespaces: [shop]}}]}]";
    assert!(says(&imported(&policy(spec)), LineKind::Note, "--trust-domain-alias"));
}

#[test]
fn mistakes_have_file_line_and_field() {
    for (spec, field, said) in [
        ("action: allow", "spec.action", "did you mean `ALLOW`?"),
        ("rulez: []", "spec.rulez", "did you mean `rules`?"),
        ("rules: {}", "spec.rules", "expected a list"),
        ("rules: [x]", "spec.rules[0]", "expected a mapping"),
        ("rules: [{form: []}]", "spec.rules[0].form", "did you mean `from`?"),
        (
            "rules: [{to: [{operation: {ports: [80]}}]}]",
            "spec.rules[0].to[0].operation.ports[0]",
            "put it in quotes",
        ),
        (
            "rules: [{to: [{operation: {ports: ['http']}}]}]",
            "spec.rules[0].to[0].operation.ports[0]",
            "is no port",
        ),
        (
            "rules: [{from: [{source: {ipBlocks: [x]}}]}]",
            "spec.rules[0].from[0].source.ipBlocks[0]",
            "neither an address",
        ),
        (
            "rules: [{when: [{key: source.ipp, values: [x]}]}]",
            "spec.rules[0].when[0].key",
            "did you mean `source.ip`?",
        ),
        ("rules: [{when: [{key: source.ip}]}]", "spec.rules[0].when[0]", "needs `values` or `notValues`"),
    ] {
        let errors = try_import(&policy(spec), &Options::default()).unwrap_err();
        let error = errors[0].to_string();
        assert!(
            error.starts_with("in.yaml:5:") && errors[0].field == field && error.contains(said),
            "{spec}: {error}"
        );
    }
}

mod authentication;
