//! Writes an AuthorizationPolicy in ambit's words, or says what of it has none.
//!
//! Exact, or narrower with a line in the report. Never wider: whatever would be is refused.

use ambit_core::{Action, Peer, Rule};

use super::rules::{Operation, Rule as Theirs, Source};
use super::{Authorization, Options};
use crate::control::finding::Finding;
use crate::import::callers::{Pattern, all_of, any_of};
use crate::import::networks;
use crate::import::ports::PortSet;
use crate::import::report::{Report, refusal};

const WHOLE_PORT: &str =
    "import with --deny-l7=port to refuse the whole port to these callers, or decide in the application";

/// A policy in ambit's words.
pub(super) struct Expressed {
    pub(super) action: Action,
    pub(super) rules: Vec<Rule>,
    /// Whether there is anything to write.
    pub(super) written: bool,
    /// The rules of a Deny policy beside it.
    pub(super) except: Vec<Rule>,
}

/// What one policy is being written with.
struct Writer<'r, 'p, 'a> {
    policy: &'p Authorization<'a>,
    /// Whether no other policy admits callers to its pods.
    alone: bool,
    options: &'r Options,
    report: &'r mut Report,
    refusals: Vec<Finding>,
    except: Vec<Rule>,
}

/// Expresses a policy.
///
/// # Errors
/// Everything that keeps it from being expressed.
pub(super) fn express(
    policy: &Authorization<'_>,
    alone: &dyn Fn() -> bool,
    options: &Options,
    report: &mut Report,
) -> Result<Expressed, Vec<Finding>> {
    let action = if policy.action == super::Action::Allow { Action::Allow } else { Action::Deny };
    // A policy that names who is not meant has a meaning of its own only where no other one admits callers.
    let is_negative =
        policy.rules.iter().any(|rule| rule.sources.iter().any(|source| !source.nots.is_empty()));
    let alone = is_negative && alone();
    let mut writer = Writer { policy, alone, options, report, refusals: Vec::new(), except: Vec::new() };
    if action == Action::Deny && is_negative {
        return writer.gate();
    }
    if action == Action::Allow {
        writer.warn_about_split_rules();
    }
    let rules: Vec<Rule> = policy.rules.iter().filter_map(|rule| writer.rule(rule, action)).collect();
    if !writer.refusals.is_empty() {
        return Err(writer.refusals);
    }
    let written = action == Action::Allow || !rules.is_empty();
    if !written {
        let message = "a DENY without a rule that matches refuses nobody: nothing is written";
        writer.report.note(policy.object, &policy.object.at(&["spec", "rules"]), message);
    }
    Ok(Expressed { action, rules, written, except: writer.except })
}

impl<'a> Writer<'_, '_, 'a> {
    fn rule(&mut self, rule: &Theirs<'a>, action: Action) -> Option<Rule> {
        let peers: Vec<Option<Peer>> =
            rule.sources.iter().map(|source| self.peer(rule, source, action)).collect();
        let ports = self.ports(&rule.operations, action);
        let peers: Vec<Peer> = peers.into_iter().flatten().collect();
        if peers.is_empty() || ports.is_empty() {
            if self.refusals.is_empty() {
                self.report.note(self.policy.object, &rule.at, "the rule matches nobody, and is left out");
            }
            return None;
        }
        let anyone = Peer { anyone: true, ..Peer::default() };
        let from = if peers.contains(&anyone) { vec![anyone] } else { peers };
        if action == Action::Deny {
            self.tell_about_deny(rule, &from);
        }
        Some(Rule { from: Some(from), to: ports.destinations() })
    }

    /// Returns the ports of a rule, and reports the fields that only a request answers.
    fn ports(&mut self, operations: &[Operation<'a>], action: Action) -> PortSet {
        let mut ports = PortSet::of([]);
        for operation in operations {
            self.requests(&operation.requests, action);
            ports = ports.union(&operation.ports);
        }
        ports
    }

    /// Refuses what only a request answers, or leaves it out of a Deny, which then refuses more.
    fn requests(&mut self, fields: &[crate::control::node::Cursor<'a>], action: Action) {
        for field in fields {
            match (action, self.options.deny_requests_by_port) {
                (Action::Deny, true) => {
                    let message =
                        "left out: the whole port is refused to these callers, whatever they ask for";
                    self.report.differs(self.policy.object, field, message, "");
                }
                (Action::Deny, false) => {
                    let message = "only a request answers this, and ambit decides about connections; in Istio too this rule \
                                   refuses nobody at a proxy that does not read HTTP";
                    self.refusals.push(refusal(field, message, WHOLE_PORT));
                }
                (Action::Allow, _) => {
                    let message = "only a request answers this; without it, the rule would admit more";
                    let hint = "admit the callers to the whole port in an AccessPolicy, and decide about requests in the \
                                application";
                    self.refusals.push(refusal(field, message, hint));
                }
            }
        }
    }

    /// Returns the entry of `from` for a source; `None` when it is nobody, or when it is refused.
    fn peer(&mut self, rule: &Theirs<'a>, source: &Source<'a>, action: Action) -> Option<Peer> {
        self.requests(&source.requests, action);
        let mut peer = match source.who.as_slice() {
            [] => Peer::default(),
            lists => match all_of(lists, &self.options.trust_domain) {
                Ok(peer) => peer?,
                Err(_) => {
                    let message = "two lists of identities must hold at once, which no entry of `from` says";
                    self.refusals.push(refusal(&rule.at, message, "write the identities that are on both"));
                    return None;
                }
            },
        };
        let lists = source.networks.iter().cloned();
        if let Some(cidrs) = lists.reduce(|left, right| networks::intersect(&left, &right)) {
            if cidrs.is_empty() {
                return None;
            }
            peer.cidrs = cidrs;
        }
        peer.except_cidrs.clone_from(&source.except);
        if action == Action::Allow && !source.nots.is_empty() {
            return self.all_but(rule, source, peer);
        }
        if peer.is_empty() {
            peer.anyone = true;
        } else if action == Action::Allow && source.who.is_empty() && peer.cidrs.is_empty() {
            self.tell_about_plaintext(source);
        }
        Some(peer)
    }

    /// Admits the callers of a source but for some, whom a Deny policy refuses.
    fn all_but(&mut self, rule: &Theirs<'a>, source: &Source<'a>, mut peer: Peer) -> Option<Peer> {
        let only = self.policy.rules.len() == 1 && rule.sources.len() == 1;
        if !only || !self.alone {
            let message = "a Deny policy would have to say who is not meant, and would refuse them what another rule admits";
            for field in source.negative.iter().filter(|field| !field.path.ends_with("IpBlocks")) {
                self.refusals.push(refusal(field, message, "name who is meant"));
            }
            return None;
        }
        if source.who.is_empty() {
            self.tell_about_plaintext(source);
            peer.identities = any_of(&[Pattern::anybody()]).pop()?.identities;
        }
        let mut ports = PortSet::of([]);
        for operation in &rule.operations {
            ports = ports.union(&operation.ports);
        }
        if ports.is_empty() {
            return None;
        }
        self.except.push(Rule { from: Some(any_of(&source.nots)), to: ports.destinations() });
        if let Some(field) = source.negative.first() {
            let message = "who is not meant stands in a Deny policy of its own, which also refuses them what you admit later";
            self.report.differs(self.policy.object, field, message, "");
        }
        Some(peer)
    }

    /// Writes a DENY of everybody but some as an Allow policy for those, where no other one admits callers.
    fn gate(mut self) -> Result<Expressed, Vec<Finding>> {
        let policy = self.policy;
        let negative: Vec<_> =
            policy.rules.iter().flat_map(|rule| &rule.sources).flat_map(|source| &source.negative).collect();
        let single = match policy.rules.as_slice() {
            [rule] => match rule.sources.as_slice() {
                [source]
                    if source.who.is_empty() && source.networks.is_empty() && source.except.is_empty() =>
                {
                    Some((rule, source))
                }
                _ => None,
            },
            _ => None,
        };
        let Some((rule, source)) = single.filter(|_| self.alone) else {
            let message =
                "no Deny policy of ambit refuses everybody but some, and other rules speak of the same pods";
            let hint = "write an Allow policy that names who may call";
            return Err(negative.into_iter().map(|field| refusal(field, message, hint)).collect());
        };
        self.requests(&source.requests, Action::Deny);
        let ports = self.ports(&rule.operations, Action::Deny);
        if !self.refusals.is_empty() {
            return Err(self.refusals);
        }
        let named = Rule { from: Some(any_of(&source.nots)), to: ports.destinations() };
        let rest = ports.complement();
        let anyone = Peer { anyone: true, ..Peer::default() };
        let rest = (!rest.is_empty()).then(|| Rule { from: Some(vec![anyone]), to: rest.destinations() });
        for field in negative {
            let message = "written as an Allow policy for those who are not meant, since no other policy admits callers to these \
                           pods; the other ports stay open";
            let hint = "Allow policies that you add later add to it, where the DENY would have refused";
            self.report.differs(policy.object, field, message, hint);
        }
        let rules = if ports.is_empty() { Vec::new() } else { vec![named] };
        let rules = rules.into_iter().chain(rest).collect();
        Ok(Expressed { action: Action::Allow, rules, written: true, except: Vec::new() })
    }

    fn tell_about_plaintext(&mut self, source: &Source<'a>) {
        if let Some(field) = source.negative.first() {
            let message = "in Istio this admits callers without an identity too; ambit admits nobody for what they are not";
            let hint = "admit them with `anyone: true` or `cidrs`, if they are meant";
            self.report.differs(self.policy.object, field, message, hint);
        }
    }

    fn tell_about_deny(&mut self, rule: &Theirs<'a>, from: &[Peer]) {
        let has_identities = |peer: &Peer| {
            !peer.service_accounts.is_empty() || !peer.namespaces.is_empty() || !peer.identities.is_empty()
        };
        let object = self.policy.object;
        if !from.iter().all(has_identities) {
            let message =
                "this refuses the node's own processes too: the kubelet's probes of these ports fail";
            self.report.differs(object, &rule.at, message, "leave the probed ports out of the rule");
        }
    }

    /// Warns about `- from` followed by `- to`, which are two rules and OR-ed.
    fn warn_about_split_rules(&mut self) {
        for pair in self.policy.rules.windows(2) {
            if pair[0].written == (true, false) && pair[1].written == (false, true) {
                let message = "this is a rule of its own, in Istio as here: it admits everyone to these ports, and the callers of \
                               the rule before it to every port";
                let finding = pair[1].at.finding(message);
                let hint = "to restrict the rule before it, write `to` without the `-`";
                self.report.add(
                    crate::import::report::Kind::Note,
                    self.policy.object,
                    finding.with_hint(hint),
                );
            }
        }
    }
}
