//! Tests of `identity`.

use super::*;
use proptest::prelude::*;

#[test]
fn an_identity_prints_as_its_uri_and_parses_back() {
    let id = SpiffeId::new("cluster.local", "rest-calculator", "mathfanboy").unwrap();
    assert_eq!(id.to_string(), "spiffe://cluster.local/ns/rest-calculator/sa/mathfanboy");
    assert_eq!(SpiffeId::parse(&id.to_string()), Ok(id));
}

#[test]
fn malformed_identities_are_refused() {
    let long = "x".repeat(300);
    for uri in [
        "",
        "spiffe://",
        "https://cluster.local/ns/a/sa/b",
        "SPIFFE://cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a",
        "spiffe://cluster.local/ns/a/sa/b/",
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://cluster.local/sa/a/ns/b",
        "spiffe://cluster.local//a/sa/b",
        "spiffe:///ns/a/sa/b",
        "spiffe://cluster.local/ns//sa/b",
        "spiffe://cluster.local/ns/a/sa/",
        "spiffe://cluster.local/ns/../sa/b",
        "spiffe://Cluster.local/ns/a/sa/b",
        "spiffe://cluster.local:80/ns/a/sa/b",
        "spiffe://user@cluster.local/ns/a/sa/b",
        "spiffe://cluster.local/ns/a%2f/sa/b",
        "spiffe://cluster.local/ns/a/sa/b?x",
        "spiffe://cluster.local/ns/a/sa/b#x",
        "spiffe://cluster.local/ns/a/sa/b\0",
        "spiffe://cluster.local/ns/a/sa/ü",
        &format!("spiffe://cluster.local/ns/{long}/sa/b"),
        &format!("spiffe://cluster.local/ns/a/sa/{long}"),
        &format!("spiffe://{long}/ns/a/sa/b"),
    ] {
        assert!(SpiffeId::parse(uri).is_err(), "{uri} was accepted");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_accepts_only_what_it_prints(text in "(spiffe://)?[a-z./]{0,40}(/ns/)?\\PC{0,20}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
