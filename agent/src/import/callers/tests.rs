//! Tests of sets of identities.

use super::*;

const OWN: &str = "cluster.local";

fn account(namespace: &str, name: &str) -> Pattern {
    Pattern::Account(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn namespace(name: &str) -> Pattern {
    Pattern::Namespace(name.to_owned())
}

fn pattern(text: &str) -> Pattern {
    Pattern::Identity(IdentityPattern::parse(text).unwrap())
}

#[test]
fn lists_of_one_kind_become_one_entry_each() {
    let peers = any_of(&[account("a", "x"), namespace("b"), pattern("*/sa/y"), account("a", "x")]);
    assert_eq!(peers.len(), 3);
    assert_eq!(peers[0].service_accounts.len(), 1);
    assert_eq!(any_of(&[account("a", "x"), Pattern::anybody()]).len(), 1);
}

#[test]
fn all_of_says_what_is_on_every_list() {
    let exact =
        all_of(&[vec![account("a", "x"), account("b", "x")], vec![namespace("a")]], OWN).unwrap().unwrap();
    assert_eq!(exact.service_accounts, [ServiceAccount { namespace: "a".to_owned(), name: "x".to_owned() }]);
    assert_eq!(all_of(&[vec![account("a", "x")], vec![namespace("b")]], OWN), Ok(None));
    assert_eq!(all_of(&[vec![namespace("a")], vec![namespace("b")]], OWN), Ok(None));
    let both = all_of(&[vec![namespace("a")], vec![pattern("*/sa/y")]], OWN).unwrap().unwrap();
    assert_eq!((both.namespaces.len(), both.identities.len()), (1, 1));
    let mixed = all_of(&[vec![account("a", "x"), pattern("*/sa/y")]], OWN).unwrap().unwrap();
    assert_eq!(mixed.identities.len(), 2);
    assert_eq!(all_of(&[vec![pattern("*/sa/y")], vec![pattern("*/sa/z")]], OWN), Err(Inexpressible));
    let anybody = all_of(&[vec![Pattern::anybody()], vec![Pattern::anybody()]], OWN).unwrap().unwrap();
    assert_eq!(anybody.identities.len(), 1);
    assert_eq!(
        all_of(&[vec![Pattern::anybody()], vec![namespace("a")]], OWN).unwrap().unwrap().namespaces,
        ["a"]
    );
}
