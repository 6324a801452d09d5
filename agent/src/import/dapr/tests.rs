//! Tests of Dapr's rules.

use std::collections::BTreeMap;

use ambit_core::ServiceAccount;

use crate::import::testing::{allows, caller, imported, imported_with, policies, says, try_import};
use crate::import::{LineKind, Options, Outcome};

const WEB: (&str, &[(&str, &str)]) = ("shop", &[("app", "web")]);

fn list(control: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{namespace: shop, name: web}}\n\
         spec: {{tracing: {{samplingRate: '1'}}, accessControl: {control}}}\n"
    )
}

fn application(id: &str, more: &str) -> String {
    format!("{{appId: {id}, trustDomain: public, namespace: shop{more}}}")
}

fn options() -> Options {
    Options { target: BTreeMap::from([("app".to_owned(), "web".to_owned())]), ..Options::default() }
}

#[track_caller]
fn check(outcome: &Outcome, calls: &str) {
    for call in calls.split(", ") {
        let (who, verdict) = call.split_once(' ').unwrap();
        assert_eq!(allows(outcome, WEB, &caller(who), 80), verdict == "yes", "{call}\n{}", outcome.yaml());
    }
}

#[test]
fn lists_allow_and_deny_as_in_dapr() {
    let (a, b) = (application("a", ", defaultAction: allow"), application("b", ", defaultAction: deny"));
    let quiet = application("c", "");
    for (control, calls) in [
        ("{}".to_owned(), "shop/a yes, - yes"),
        ("{policies: []}".to_owned(), "shop/a yes, - yes"),
        ("{trustDomain: public, policies: []}".to_owned(), "shop/a yes, - yes"),
        ("{defaultAction: deny}".to_owned(), "shop/a no, - no"),
        ("{defaultAction: allow}".to_owned(), "shop/a yes, - yes"),
        ("{defaultAction: ALLOW}".to_owned(), "shop/a yes"),
        ("{defaultAction: permit}".to_owned(), "shop/a no"),
        (format!("{{policies: [{a}]}}"), "shop/a yes, shop/x no, other/a no, - no"),
        (
            format!("{{defaultAction: deny, policies: [{a}, {b}, {quiet}]}}"),
            "shop/a yes, shop/b no, shop/c no, shop/x no, - no",
        ),
        (
            format!("{{defaultAction: allow, policies: [{a}, {b}, {quiet}]}}"),
            "shop/a yes, shop/b no, shop/c yes, shop/x yes, - yes",
        ),
        (
            format!("{{defaultAction: deny, policies: [{}]}}", application("a", ", defaultAction: Allow")),
            "shop/a yes",
        ),
        (
            format!("{{defaultAction: deny, policies: [{}]}}", application("a", ", defaultAction: allows")),
            "shop/a no",
        ),
        (
            format!(
                "{{policies: [{}]}}",
                application(
                    "a",
                    ", defaultAction: allow, operations: [{name: /x, httpVerb: ['*'], action: allow}]"
                )
            ),
            "shop/a yes, shop/b no",
        ),
    ] {
        let outcome = imported_with(&list(&control), &options());
        assert_eq!(outcome.refused, 0, "{control}: {:#?}", outcome.report);
        check(&outcome, calls);
    }
}

#[test]
fn operations_and_what_is_not_known_are_refused() {
    let partly =
        application("a", ", defaultAction: allow, operations: [{name: /x, httpVerb: [GET], action: deny}]");
    let foreign = "{appId: b, trustDomain: other, namespace: shop, defaultAction: allow}";
    let both = format!("{}, {foreign}", application("a", ", defaultAction: allow"));
    for (control, said) in [
        (format!("{{defaultAction: deny, policies: [{partly}]}}"), "operations are about requests"),
        ("{trustDomain: public}".to_owned(), "its code nobody"),
        (format!("{{policies: [{both}]}}"), "would become one"),
        (format!("{{policies: [{}]}}", application("App_1", "")), "can be no service account"),
    ] {
        let outcome = imported_with(&list(&control), &options());
        assert_eq!((policies(&outcome), outcome.refused), (0, 1), "{control}: {:#?}", outcome.report);
        assert!(
            says(&outcome, LineKind::Refused, said) && says(&outcome, LineKind::Refused, "NO POLICY"),
            "{control}"
        );
    }
    let strict = Options { deny_requests_by_port: true, ..options() };
    let outcome = imported_with(&list(&format!("{{defaultAction: allow, policies: [{partly}]}}")), &strict);
    assert_eq!(outcome.refused, 0);
    check(&outcome, "shop/a no, shop/b yes");
}

#[test]
fn the_callee_is_named_by_the_command_line_or_by_pods() {
    let text = list(&format!("{{policies: [{}]}}", application("a", ", defaultAction: allow")));
    let outcome = imported(&text);
    assert_eq!((policies(&outcome), outcome.refused), (0, 1));
    assert!(says(&outcome, LineKind::Refused, "--target=LABEL=VALUE"), "{:#?}", outcome.report);
    let pod = |name: &str, app: &str, config: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  namespace: shop\n  name: {name}\n  labels: {{app: {app}}}\n  \
             annotations: {{dapr.io/config: {config}}}\n"
        )
    };
    let outcome = imported(
        &(text.clone() + &pod("w-1", "web", "web") + &pod("w-2", "web", "web") + &pod("d", "db", "x")),
    );
    assert_eq!(outcome.refused, 0, "{:#?}", outcome.report);
    check(&outcome, "shop/a yes, shop/b no");
    assert!(allows(&outcome, ("shop", &[("app", "db")]), &caller("shop/b"), 80));
    // The label would select a pod that has another Configuration.
    let outcome = imported(&(text.clone() + &pod("w-1", "web", "web") + &pod("w-2", "web", "other")));
    assert_eq!(policies(&outcome), 0);
    let two = text.clone() + "---\n" + &text.replace("name: web", "name: db");
    assert_eq!(policies(&imported_with(&two, &options())), 0);
}

#[test]
fn applications_become_service_accounts() {
    let text = list(&format!("{{policies: [{}]}}", application("a", ", defaultAction: allow")));
    let outcome = imported_with(&text, &options());
    assert!(says(&outcome, LineKind::Differs, "the application a is read as the service account shop/a"));
    assert!(says(&outcome, LineKind::Differs, "the trust domain public"), "{:#?}", outcome.report);
    let account = ServiceAccount { namespace: "x".to_owned(), name: "runner".to_owned() };
    let app_identities = BTreeMap::from([("a".to_owned(), account.clone()), ("zebra".to_owned(), account)]);
    let outcome = imported_with(&text, &Options { app_identities, ..options() });
    check(&outcome, "x/runner yes, shop/a no");
    assert!(says(&outcome, LineKind::Differs, "--app-identity zebra"), "{:#?}", outcome.report);
}

#[test]
fn mistakes_have_file_line_and_field() {
    for (control, field, said) in [
        (
            "{policies: [{appId: a, namespace: shop}]}",
            "spec.accessControl.policies[0].trustDomain",
            "Dapr does not start",
        ),
        (
            "{policies: [{trustDomain: a, namespace: shop}]}",
            "spec.accessControl.policies[0].appId",
            "Dapr does not start",
        ),
        ("{policys: []}", "spec.accessControl.policys", "did you mean `policies`?"),
        ("{defaultAction: true}", "spec.accessControl.defaultAction", "put it in quotes"),
        ("[]", "spec.accessControl", "expected a mapping"),
    ] {
        let errors = try_import(&list(control), &options()).unwrap_err();
        assert_eq!(errors[0].field, field, "{control}: {errors:?}");
        assert!(errors[0].line == 4 && errors[0].to_string().contains(said), "{control}: {errors:?}");
    }
    let twice = format!("{{policies: [{}, {}]}}", application("a", ""), application("a", ""));
    assert!(try_import(&list(&twice), &options()).unwrap_err()[0].to_string().contains("two policies"));
}
