//! PeerAuthentication: which mode becomes of which.

use crate::import::testing::{imported, says};
use crate::import::{LineKind, Outcome};

fn peer(namespace: &str, name: &str, more: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
         metadata: {{namespace: {namespace}, name: {name}{more}}}\nspec: {spec}\n"
    )
}

fn pod(name: &str, app: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{namespace: shop, name: {name}, labels: {{app: {app}}}}}\n"
    )
}

fn namespace(name: &str, label: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{label}}}}}\n")
}

/// The modes that are written, as `Namespace shop strict`.
fn modes(outcome: &Outcome) -> Vec<String> {
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let labelled = outcome.objects.iter().filter(|imported| imported.policy.is_none());
    labelled
        .map(|imported| {
            let metadata = &imported.object["metadata"];
            let mode = &metadata["labels"]["ambit.dev/mode"];
            format!("{} {} {}", word(&imported.object["kind"]), word(&metadata["name"]), word(mode))
        })
        .collect()
}

const STRICT: &str = "{mtls: {mode: STRICT}}";
const PERMISSIVE: &str = "{mtls: {mode: PERMISSIVE}}";

#[test]
fn a_workload_overrides_its_namespace_which_overrides_the_mesh() {
    let of = |app: &str, mode: &str| {
        format!("{{selector: {{matchLabels: {{app: {app}}}}}, mtls: {{mode: {mode}}}}}")
    };
    for (text, expected) in [
        (peer("shop", "a", "", STRICT), &["Namespace shop strict"][..]),
        (peer("shop", "a", "", "{mtls: {mode: DISABLE}}"), &["Namespace shop permissive"]),
        (peer("shop", "a", "", "{}"), &[]),
        (peer("istio-system", "a", "", STRICT), &[]),
        (
            peer("istio-system", "a", "", STRICT) + &peer("shop", "a", "", "{mtls: {mode: UNSET}}"),
            &["Namespace shop strict"],
        ),
        (
            peer("istio-system", "a", "", STRICT) + &peer("shop", "a", "", PERMISSIVE),
            &["Namespace shop permissive"],
        ),
        (
            peer("istio-system", "a", "", STRICT)
                + &namespace("web", "istio-injection: enabled")
                + &namespace("not", "a: b"),
            &["Namespace web strict"],
        ),
        (
            peer("shop", "a", "", STRICT)
                + &peer("shop", "b", "", &of("web", "DISABLE"))
                + &pod("w-1", "web")
                + &pod("d-1", "db"),
            &["Namespace shop strict", "Pod w-1 permissive"],
        ),
        (
            peer("shop", "a", "", STRICT) + &peer("shop", "b", "", &of("web", "STRICT")),
            &["Namespace shop strict"],
        ),
        (peer("istio-system", "a", "", &of("web", "STRICT")), &[]),
        (peer("shop", "a", "", PERMISSIVE) + &namespace("shop", "ambit.dev/mode: strict"), &[]),
    ] {
        let outcome = imported(&text);
        assert_eq!(modes(&outcome), expected, "{text}: {:#?}", outcome.report);
        assert_eq!(outcome.refused, 0, "{text}");
    }
}

#[test]
fn the_oldest_of_a_scope_is_in_force() {
    let at = |year: u16| format!(", creationTimestamp: '{year}-01-01T00:00:00Z'");
    let both = |strict: &str, permissive: &str| {
        peer("shop", "b", permissive, PERMISSIVE) + &peer("shop", "a", strict, STRICT)
    };
    assert_eq!(modes(&imported(&both(&at(2024), &at(2023)))), ["Namespace shop permissive"]);
    assert_eq!(modes(&imported(&both(&at(2023), &at(2024)))), ["Namespace shop strict"]);
    // Not known: the strictest.
    let outcome = imported(&both("", ""));
    assert_eq!(modes(&outcome), ["Namespace shop strict"]);
    assert!(says(&outcome, LineKind::Differs, "not in force"), "{:#?}", outcome.report);
    assert_eq!(modes(&imported(&both("", &at(2023)))), ["Namespace shop strict"]);
    let unset = peer("shop", "b", "", "{}")
        + &peer("shop", "a", "", PERMISSIVE)
        + &peer("istio-system", "m", "", STRICT);
    assert_eq!(modes(&imported(&unset)), ["Namespace shop strict"]);
}

#[test]
fn a_mode_that_no_label_says_is_refused() {
    let of = |more: &str| format!("{{selector: {{matchLabels: {{app: web}}}}, {more}}}");
    let policy = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                  metadata: {namespace: shop, name: web}\nspec: {rules: []}\n";
    for (spec, above, opens) in [
        // Stricter than what is left without it.
        ("mtls: {mode: STRICT}", PERMISSIVE, true),
        ("mtls: {mode: PERMISSIVE}, portLevelMtls: {80: {mode: STRICT}}", PERMISSIVE, true),
        // Not stricter.
        ("mtls: {mode: PERMISSIVE}", STRICT, false),
        ("portLevelMtls: {80: {mode: DISABLE}}", STRICT, false),
    ] {
        let outcome = imported(&(peer("shop", "n", "", above) + &peer("shop", "w", "", &of(spec)) + policy));
        let kept = outcome.objects.iter().any(|object| object.policy.is_some());
        assert_eq!(kept, !opens, "{spec}: {:#?}", outcome.report);
        assert!(
            outcome.refused >= 1 && says(&outcome, LineKind::Refused, "PeerAuthentication shop/w"),
            "{spec}"
        );
    }
    let outcome =
        imported(&peer("shop", "n", "", "{mtls: {mode: STRICT}, portLevelMtls: {80: {mode: DISABLE}}}"));
    assert_eq!((modes(&outcome), outcome.refused), (vec!["Namespace shop strict".to_owned()], 0));
    assert!(says(&outcome, LineKind::Note, "ignores the modes of ports without a selector"));
}
