//! Whatever a list of Dapr's is, what is written admits whom it admits, and never anybody else.
//!
//! Dapr's side is decided here, directly on what was generated.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::import::Options;
use crate::import::testing::{allows, caller, imported_with, policies};

#[derive(Clone, Debug)]
struct Application {
    id: &'static str,
    namespace: &'static str,
    action: Option<&'static str>,
    operation: Option<&'static str>,
}

const ACTIONS: [&str; 5] = ["allow", "Allow", "deny", "DENY", "permit"];

fn action() -> impl Strategy<Value = Option<&'static str>> {
    proptest::option::of(prop::sample::select(&ACTIONS[..]))
}

fn applications() -> impl Strategy<Value = Vec<Application>> {
    let one = (
        prop::sample::select(vec!["a", "b"]),
        prop::sample::select(vec!["shop", "other"]),
        action(),
        proptest::option::weighted(0.15, prop::sample::select(&ACTIONS[..])),
    );
    let one =
        one.prop_map(|(id, namespace, action, operation)| Application { id, namespace, action, operation });
    vec(one, 0..5).prop_map(|mut list| {
        list.sort_by_key(|one| (one.id, one.namespace));
        list.dedup_by_key(|one| (one.id, one.namespace));
        list
    })
}

fn yaml(default: Option<&str>, applications: &[Application]) -> String {
    let field =
        |key: &str, value: Option<&str>| value.map_or(String::new(), |value| format!(", {key}: {value}"));
    let policies = applications.iter().map(|one| {
        let operations =
            one.operation.map(|action| format!("[{{name: /x, httpVerb: [GET], action: {action}}}]"));
        format!(
            "{{appId: {}, namespace: {}, trustDomain: public{}{}}}",
            one.id,
            one.namespace,
            field("defaultAction", one.action),
            field("operations", operations.as_deref())
        )
    });
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{namespace: shop, name: web}}\n\
         spec: {{accessControl: {{policies: [{}]{}}}}}\n",
        policies.collect::<Vec<_>>().join(", "),
        field("defaultAction", default)
    )
}

/// Decides as Dapr does about what no operation names; `x` is what the operation names.
fn dapr_allows(default: Option<&str>, applications: &[Application], who: &str) -> (bool, bool) {
    let allow = |action: &str| action.eq_ignore_ascii_case("allow");
    let others = match default {
        Some(action) => allow(action),
        None => applications.is_empty(),
    };
    let named = applications.iter().find(|one| who == format!("{}/{}", one.namespace, one.id));
    let usual = named.and_then(|one| one.action).map_or(others, allow);
    (usual, named.and_then(|one| one.operation).map_or(usual, allow))
}

proptest! {
    #[test]
    fn what_is_written_admits_whom_dapr_admits(
        default in action(),
        applications in applications(),
        by_port in any::<bool>(),
    ) {
        let target = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        let options = Options { target, deny_requests_by_port: by_port, ..Options::default() };
        let outcome = imported_with(&yaml(default, &applications), &options);
        if outcome.refused > 0 {
            prop_assert_eq!(policies(&outcome), 0);
            return Ok(());
        }
        for who in ["shop/a", "shop/b", "other/a", "other/b", "shop/x", "-"] {
            let (usual, operation) = dapr_allows(default, &applications, who);
            let ours = allows(&outcome, ("shop", &[("app", "web")]), &caller(who), 80);
            prop_assert_eq!(ours, usual && operation, "{}: {}", who, outcome.yaml());
            prop_assert!(by_port || usual == operation, "{}: an operation is left out", who);
        }
    }
}
