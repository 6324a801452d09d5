//! Tests of what is printed; that it reads back as the same is checked wherever a test imports.

use crate::import::testing::imported;

#[test]
fn texts_that_yaml_takes_for_something_else_are_quoted() {
    for (text, written) in [
        ("web", "web"),
        ("true", "\"true\""),
        ("Off", "\"Off\""),
        ("123", "\"123\""),
        ("1e3", "\"1e3\""),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("fd00::/8", "\"fd00::/8\""),
        ("spiffe://a/*", "\"spiffe://a/*\""),
        ("a: b", "\"a: b\""),
        ("", "\"\""),
        ("ü", "\"ü\""),
    ] {
        assert_eq!(super::scalar(text), written);
    }
}

#[test]
fn documents_say_where_they_come_from() {
    let outcome = imported(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {namespace: shop, name: '123'}\n\
         spec: {selector: {matchLabels: {'true': '1', a/b: 'x y'}}, action: DENY, rules: [{to: [{operation: {notPorts: ['80']}}]}]}\n",
    );
    let expected = "# from AuthorizationPolicy shop/123 (in.yaml:1)\napiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata:\n  \
                    name: \"123\"\n  namespace: shop\nspec:\n  action: Deny\n  rules:\n  - from:\n    - anyone: true\n    to:\n    \
                    - ports: [\"1-79\", \"81-65535\"]\n  selector:\n    matchLabels:\n      a/b: \"x y\"\n      \"true\": \"1\"\n";
    assert_eq!(outcome.yaml(), expected);
}
