//! What stands in for a policy that cannot be read, where nobody remembers a version of it that could.
//!
//! Of each part that is not certain it takes what refuses most: an action that may be Deny is Deny, a selector that is not
//! certain selects all. Never admits anybody, and never stands in for a policy of which it is not certain whose pods it is about.

use ambit_core::{Action, Peer, Policy, Rule, Selector};

use super::{CLUSTER_SPEC, METADATA, SPEC, TOP_LEVEL, read_action, read_id, selector};
use crate::control::fields::{Fields, boolean};
use crate::control::finding::Findings;
use crate::control::node::Cursor;

/// A part of a policy.
enum Part<T> {
    Absent,
    Read(T),
    Unread,
}

/// Returns what stands in for a policy; `None` if not even its name is certain.
pub(in crate::control) fn stand_in(object: &Cursor<'_>, cluster_wide: bool) -> Option<Policy> {
    let mut wrong = Findings::default();
    let metadata = once(object, "metadata")?;
    let known = Fields::of(&metadata, &METADATA, &mut wrong)?;
    metadata.find_duplicate_keys(&mut wrong.errors);
    if known.has_unknown || !wrong.errors.is_empty() {
        return None;
    }
    let top = Fields::of(object, &TOP_LEVEL, &mut wrong)?;
    let id = read_id(&top, cluster_wide, &mut wrong)?;
    let mut policy = Policy {
        id,
        action: Action::Deny,
        dry_run: false,
        namespace_selector: None,
        selector: Selector::default(),
        rules: vec![everyone()],
        egress_only: false,
        egress: Vec::new(),
    };
    let Some(spec) = once(object, "spec") else { return Some(policy) };
    let spec_fields: &[&str] = if cluster_wide { &CLUSTER_SPEC } else { &SPEC };
    let Some(fields) = Fields::of(&spec, spec_fields, &mut wrong) else { return Some(policy) };
    // A field that nobody knows may be any of those that are absent, mistyped.
    let certain = !fields.has_unknown && !top.has_unknown;
    if let Part::Read(read) = part(&spec, "selector", certain, selector::read) {
        policy.selector = read;
    }
    if let Part::Read(read) = part(&spec, "namespaceSelector", certain, selector::read) {
        policy.namespace_selector = Some(read);
    }
    policy.dry_run = matches!(part(&spec, "dryRun", certain, boolean), Part::Read(true));
    if let Part::Absent | Part::Read(Action::Allow) = part(&spec, "action", certain, read_action) {
        policy.action = Action::Allow;
        policy.rules = Vec::new();
        let about_callers = spec.entries().any(|entry| entry.key == "rules");
        policy.egress_only = certain && !about_callers && once(&spec, "egress").is_some();
    }
    Some(policy)
}

/// Returns a field that stands there exactly once.
fn once<'a>(cursor: &Cursor<'a>, key: &str) -> Option<Cursor<'a>> {
    let mut entries = cursor.entries().filter(|entry| entry.key == key);
    let entry = entries.next()?;
    entries.next().is_none().then(|| cursor.enter(entry))
}

/// Reads a part; it is absent only if that is `certain`.
fn part<'a, T>(
    spec: &Cursor<'a>,
    key: &str,
    certain: bool,
    read: impl FnOnce(&Cursor<'a>, &mut Findings) -> Option<T>,
) -> Part<T> {
    if spec.entries().all(|entry| entry.key != key) {
        return if certain { Part::Absent } else { Part::Unread };
    }
    let Some(field) = once(spec, key) else { return Part::Unread };
    let mut wrong = Findings::default();
    field.find_duplicate_keys(&mut wrong.errors);
    match read(&field, &mut wrong) {
        Some(read) if wrong.errors.is_empty() => Part::Read(read),
        _ => Part::Unread,
    }
}

/// Returns the rule of a Deny policy that refuses everyone.
fn everyone() -> Rule {
    Rule { from: Some(vec![Peer { anyone: true, ..Peer::default() }]), to: None }
}

#[cfg(test)]
mod tests;
