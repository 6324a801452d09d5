//! Which policies select which pods, found without trying every policy on every pod.
//!
//! Indexes policies by namespace and by one label of their selector. Never evaluates a rule.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::Workload;
use crate::policy::{Policy, PolicySet, Selector};

type Labels = BTreeMap<String, String>;

/// Returns, for each workload in its order, the policies that select it; workloads with the same policies share them.
pub(super) fn select(
    policies: &[Arc<Policy>],
    workloads: &[Arc<Workload>],
    namespaces: &BTreeMap<String, Labels>,
) -> Vec<Arc<PolicySet>> {
    let mut everywhere = LabelIndex::default();
    let mut by_namespace_labels = LabelIndex::default();
    let mut namespaced: HashMap<&str, LabelIndex<'_>> = HashMap::new();
    for (position, policy) in policies.iter().enumerate() {
        match (&policy.id.namespace, &policy.namespace_selector) {
            (Some(namespace), _) => namespaced.entry(namespace).or_default().add(position, &policy.selector),
            (None, None) => everywhere.add(position, &policy.selector),
            (None, Some(selector)) => by_namespace_labels.add(position, selector),
        }
    }

    let no_labels = Labels::new();
    let mut covering: HashMap<&str, LabelIndex<'_>> = HashMap::new();
    let mut sets: HashMap<Vec<usize>, Arc<PolicySet>> = HashMap::new();
    let mut selections = Vec::with_capacity(workloads.len());
    for workload in workloads {
        let covering = covering.entry(workload.namespace.as_str()).or_insert_with(|| {
            let labels = namespaces.get(&workload.namespace).unwrap_or(&no_labels);
            let mut index = LabelIndex::default();
            for position in by_namespace_labels.matching(labels) {
                index.add(position, &policies[position].selector);
            }
            index
        });
        let own = namespaced.get(workload.namespace.as_str());
        let mut positions: Vec<usize> = everywhere.matching(&workload.labels).collect();
        positions.extend(covering.matching(&workload.labels));
        positions.extend(own.into_iter().flat_map(|index| index.matching(&workload.labels)));
        positions.sort_unstable();
        let set = sets.entry(positions).or_insert_with_key(|positions| {
            Arc::new(positions.iter().map(|position| Arc::clone(&policies[*position])).collect())
        });
        selections.push(Arc::clone(set));
    }
    selections
}

/// Policies by one label that their selector demands.
#[derive(Default)]
struct LabelIndex<'a> {
    by_label: HashMap<(&'a str, &'a str), Vec<(usize, &'a Selector)>>,
    without_label: Vec<(usize, &'a Selector)>,
}

impl<'a> LabelIndex<'a> {
    /// Adds the policy at this position, selecting by `selector`.
    fn add(&mut self, position: usize, selector: &'a Selector) {
        match selector.match_labels.iter().next() {
            Some((key, value)) => self.by_label.entry((key, value)).or_default().push((position, selector)),
            None => self.without_label.push((position, selector)),
        }
    }

    /// Returns the positions of the policies that select these labels.
    fn matching<'b>(&'b self, labels: &'b Labels) -> impl Iterator<Item = usize> + 'b {
        labels
            .iter()
            .filter_map(|(key, value)| self.by_label.get(&(key.as_str(), value.as_str())))
            .flatten()
            .chain(&self.without_label)
            .filter(|(_, selector)| selector.matches(labels))
            .map(|(position, _)| *position)
    }
}
