//! Label selectors.
//!
//! Matches labels as Kubernetes does. Never parses: an operator that is not known never reaches this type.

use std::collections::BTreeMap;

/// Selects pods or namespaces by their labels; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Labels that must have exactly these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements, AND-ed.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// The label is there and has one of the values.
    In {
        /// The label's key.
        key: String,
        /// The values.
        values: Vec<String>,
    },
    /// The label is absent or has none of the values.
    NotIn {
        /// The label's key.
        key: String,
        /// The values.
        values: Vec<String>,
    },
    /// The label is there.
    Exists {
        /// The label's key.
        key: String,
    },
    /// The label is absent.
    DoesNotExist {
        /// The label's key.
        key: String,
    },
}

impl Selector {
    /// Tells whether something with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    /// Tells whether the requirement holds for these labels.
    pub(super) fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In { key, values } => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn { key, values } => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists { key } => labels.contains_key(key),
            Self::DoesNotExist { key } => !labels.contains_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(Selector::default().matches(&labels(&[])));
        assert!(Selector::default().matches(&labels(&[("app", "web")])));
    }

    #[test]
    fn requirements_hold_as_in_kubernetes() {
        let key = || "app".to_owned();
        let values = || vec!["web".to_owned(), "api".to_owned()];
        let (web, other, absent) =
            (labels(&[("app", "web")]), labels(&[("app", "db")]), labels(&[("x", "web")]));
        for (requirement, expected) in [
            (Requirement::In { key: key(), values: values() }, [true, false, false]),
            (Requirement::NotIn { key: key(), values: values() }, [false, true, true]),
            (Requirement::Exists { key: key() }, [true, true, false]),
            (Requirement::DoesNotExist { key: key() }, [false, false, true]),
        ] {
            let selector = Selector { match_expressions: vec![requirement.clone()], ..Selector::default() };
            let found = [&web, &other, &absent].map(|labels| selector.matches(labels));
            assert_eq!(found, expected, "{requirement:?}");
        }
    }

    #[test]
    fn labels_and_expressions_are_and_ed() {
        let selector = Selector {
            match_labels: labels(&[("app", "web")]),
            match_expressions: vec![Requirement::Exists { key: "tier".to_owned() }],
        };
        assert!(selector.matches(&labels(&[("app", "web"), ("tier", "front")])));
        assert!(!selector.matches(&labels(&[("app", "web")])));
        assert!(!selector.matches(&labels(&[("tier", "front")])));
    }
}
