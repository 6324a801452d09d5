//! Tests of what is kept back.

use crate::import::LineKind;
use crate::import::testing::{imported, policies, says};

fn istio(name: &str, app: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{selector: {{matchLabels: {{{app}}}}}, {spec}}}\n"
    )
}

#[test]
fn what_is_kept_back_opens_further_gaps() {
    let refused = istio("refused", "app: a", "action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]");
    let one = istio("one", "tier: x", "rules: []");
    let two = istio("two", "app: b", "rules: []");
    let far = istio("far", "app: b, tier: y", "rules: []");
    // `one` may select what is refused, and `two` what `one` selects; `far` is selected by `two`.
    let outcome = imported(&[refused.as_str(), &one, &two, &far].concat());
    assert_eq!((policies(&outcome), outcome.refused), (0, 4), "{:#?}", outcome.report);
    let outcome = imported(&[refused.as_str(), &two, &far].concat());
    assert_eq!((policies(&outcome), outcome.refused), (2, 1), "{:#?}", outcome.report);
}

#[test]
fn an_allow_that_is_kept_back_closes_no_gap() {
    let lost = istio("lost", "app: a, tier: x", "rules: [{to: [{operation: {methods: [GET]}}]}]");
    let closing = istio("closing", "app: a", "rules: []");
    assert_eq!(policies(&imported(&[lost.as_str(), &closing].concat())), 1);
    let deny =
        istio("deny", "app: a, tier: y", "action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]");
    let outcome = imported(&[lost.as_str(), &closing, &deny].concat());
    assert_eq!(policies(&outcome), 0, "{:#?}", outcome.report);
    assert!(says(&outcome, LineKind::Refused, "AuthorizationPolicy shop/lost: NO POLICY IS WRITTEN"));
}

#[test]
fn policies_of_two_meshes_do_not_add_up() {
    let server = "---\napiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {namespace: shop, name: s}\n\
                  spec: {podSelector: {matchLabels: {app: a}}, port: 80}\n";
    let outcome = imported(&(istio("one", "app: a", "rules: []") + server));
    assert_eq!(policies(&outcome), 0);
    assert!(says(&outcome, LineKind::Refused, "of another mesh admits callers to the same pods"));
    assert_eq!(policies(&imported(&(istio("one", "app: b", "rules: []") + server))), 2);
}

#[test]
fn what_stays_and_what_nobody_knows_is_told() {
    let network = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: shop, name: n}\nspec: {}\n";
    let service = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {namespace: shop, name: n}\n";
    let outcome = imported(&[network, service].concat());
    assert_eq!((outcome.objects.len(), outcome.refused), (0, 0));
    assert!(says(&outcome, LineKind::Note, "port 15008"), "{:#?}", outcome.report);
}
