//! Callers and ports in as few words as they can be said in.
//!
//! Never leaves anybody out without saying how many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ambit_core::PortRange;

use super::reached::{HOST, OUTSIDE};

/// The most names of one list.
const LISTED: usize = 12;
/// A list of more names than this that is all the rest is called so.
const REST: usize = 3;

/// Callers of whom the same is said; `true` for those of whom only a part is meant.
pub(super) type Callers = BTreeMap<Arc<str>, bool>;

/// How many ports there are.
const ALL_PORTS: u32 = 1 << 16;

/// Writes ports: what is more than half of all as all but the others.
pub(super) fn ports(ranges: &[PortRange]) -> String {
    let count: u32 = ranges.iter().map(|range| u32::from(range.last - range.first) + 1).sum();
    let list = |ranges: &[PortRange]| {
        let texts: Vec<String> = ranges.iter().map(PortRange::to_string).collect();
        texts.join(", ")
    };
    match count {
        ALL_PORTS => "all".to_owned(),
        many if many > ALL_PORTS / 2 => format!("all but {}", list(&others(ranges))),
        _ => list(ranges),
    }
}

/// Returns the ranges between those that are given in order.
fn others(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut rest = Vec::new();
    let mut next = Some(0);
    for range in ranges {
        if let Some(first) = next.filter(|first| *first < range.first) {
            rest.push(PortRange { first, last: range.first - 1 });
        }
        next = range.last.checked_add(1);
    }
    rest.extend(next.map(|first| PortRange { first, last: u16::MAX }));
    rest
}

/// Everybody who may be listed.
pub(super) struct Everybody {
    /// The owners of each namespace.
    namespaces: BTreeMap<String, BTreeSet<Arc<str>>>,
}

impl Everybody {
    /// Knows these callers.
    pub(super) fn new<'a>(callers: impl Iterator<Item = &'a str>) -> Self {
        let mut namespaces: BTreeMap<String, BTreeSet<Arc<str>>> = BTreeMap::new();
        for caller in callers {
            if let Some((namespace, _)) = owner(caller) {
                namespaces.entry(namespace.to_owned()).or_default().insert(caller.into());
            }
        }
        Self { namespaces }
    }

    /// Writes each of several lists that together are all callers; the longest as all the rest.
    pub(super) fn lists(&self, lists: &[Callers]) -> Vec<String> {
        let longest = lists.iter().enumerate().max_by_key(|(index, list)| (list.len(), usize::MAX - index));
        let longest = longest.map(|(index, _)| index);
        let write = |(index, list): (usize, &Callers)| {
            let partial: Callers =
                list.iter().filter(|(_, part)| **part).map(|(name, _)| (name.clone(), true)).collect();
            let whole = list.len() - partial.len();
            if longest != Some(index) || whole <= REST {
                return self.list(list);
            }
            let word = if lists.len() == 1 { "everyone" } else { "everyone else" };
            let also = if partial.is_empty() { String::new() } else { format!(", {}", self.list(&partial)) };
            format!("{word} ({whole}){also}")
        };
        lists.iter().enumerate().map(write).collect()
    }

    /// Writes one list: a whole namespace as `namespace/*`.
    pub(super) fn list(&self, callers: &Callers) -> String {
        let mut names: Vec<String> = Vec::new();
        let mut covered: BTreeSet<&str> = BTreeSet::new();
        for (namespace, owners) in &self.namespaces {
            let all = owners.iter().all(|owner| callers.get(owner) == Some(&false));
            if owners.len() > 1 && all {
                covered.insert(namespace);
                names.push(format!("{namespace}/*"));
            }
        }
        for (caller, part) in callers {
            if owner(caller).is_some_and(|(namespace, _)| covered.contains(namespace)) {
                continue;
            }
            names.push(if *part { format!("some of {caller}") } else { caller.to_string() });
        }
        names.sort();
        let more = names.len().saturating_sub(LISTED);
        names.truncate(LISTED);
        let also = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{also}", names.join(", "))
    }
}

/// Splits the name of an owner; the host and the outside are none.
fn owner(caller: &str) -> Option<(&str, &str)> {
    if caller == HOST || caller == OUTSIDE || caller.starts_with("outside ") {
        return None;
    }
    caller.split_once('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn ports_are_written_as_the_shorter_of_two_lists() {
        for (ranges, expected) in [
            (vec![range(0, u16::MAX)], "all"),
            (vec![range(80, 80)], "80"),
            (vec![range(80, 80), range(8000, 8080)], "80, 8000-8080"),
            (vec![range(0, 79), range(81, u16::MAX)], "all but 80"),
            (vec![range(1, u16::MAX)], "all but 0"),
            (vec![range(0, 65000), range(65002, 65003)], "all but 65001, 65004-65535"),
        ] {
            assert_eq!(ports(&ranges), expected, "{ranges:?}");
        }
    }

    #[test]
    fn whole_namespaces_and_the_rest_are_said_in_one_word() {
        let names = ["a/x", "a/y", "b/x", "b/y", "c/z", HOST, OUTSIDE];
        let everybody = Everybody::new(names.into_iter());
        let callers = |names: &[&str], part: &[&str]| -> Callers {
            let whole = names.iter().map(|name| (Arc::from(*name), false));
            whole.chain(part.iter().map(|name| (Arc::from(*name), true))).collect()
        };
        let lists = [callers(&["a/x"], &["c/z"]), callers(&["a/y", "b/x", "b/y", HOST, OUTSIDE], &["c/z"])];
        assert_eq!(everybody.lists(&lists), ["a/x, some of c/z", "everyone else (5), some of c/z"]);
        assert_eq!(everybody.lists(&[callers(&names, &[])]), ["everyone (7)"]);
        assert_eq!(everybody.list(&callers(&["a/x", "a/y", "b/x", "c/z"], &[])), "a/*, b/x, c/z");
        // A namespace of which one owner is meant in part is not whole.
        assert_eq!(everybody.list(&callers(&["a/x"], &["a/y"])), "a/x, some of a/y");
        let many: Vec<String> = (0..20).map(|number| format!("n{number:02}/x")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(everybody.list(&callers(&many, &[])).ends_with("n11/x and 8 more"));
    }
}
