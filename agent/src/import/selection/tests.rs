//! Tests of selections: what is said of two of them holds for whatever labels.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn selector() -> impl Strategy<Value = Selector> {
    let key = || prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned);
    let value = || prop::sample::select(vec!["1", "2"]).prop_map(str::to_owned);
    let requirement = (key(), vec(value(), 1..3), 0..4).prop_map(|(key, values, which)| match which {
        0 => Requirement::In { key, values },
        1 => Requirement::NotIn { key, values },
        2 => Requirement::Exists { key },
        _ => Requirement::DoesNotExist { key },
    });
    (btree_map(key(), value(), 0..3), vec(requirement, 0..3))
        .prop_map(|(match_labels, match_expressions)| Selector { match_labels, match_expressions })
}

fn every_labels() -> Vec<BTreeMap<String, String>> {
    let values = [None, Some("1"), Some("2"), Some("3")];
    let mut all = Vec::new();
    for a in values {
        for b in values {
            let pairs = [("a", a), ("b", b)]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            all.push(pairs.collect());
        }
    }
    all
}

proptest! {
    #[test]
    fn what_is_said_of_two_selectors_holds(left in selector(), right in selector()) {
        for labels in every_labels() {
            let (in_left, in_right) = (left.matches(&labels), right.matches(&labels));
            if in_left && in_right {
                prop_assert!(may_overlap(&left, &right), "{:?}", labels);
            }
            if in_left && within(&left, &right) {
                prop_assert!(in_right, "{:?}", labels);
            }
            if let Some(narrowed) = without(&left, &right) {
                prop_assert_eq!(narrowed.matches(&labels), in_left && !in_right, "{:?}", labels);
            }
        }
    }
}

#[test]
fn namespaces_count() {
    let of = |namespace: Option<&str>| Selection {
        namespace: namespace.map(str::to_owned),
        selector: exactly(&BTreeMap::from([("app".to_owned(), "web".to_owned())])),
    };
    assert!(!of(Some("a")).may_overlap(&of(Some("b"))) && of(None).may_overlap(&of(Some("b"))));
    assert!(of(Some("a")).within(&of(None)) && !of(None).within(&of(Some("a"))));
    assert_eq!(of(Some("a")).describe(), "the pods of the namespace a with app: web");
    assert_eq!(Selection::default().describe(), "every pod of all namespaces");
}
