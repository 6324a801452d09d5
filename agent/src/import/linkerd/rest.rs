//! The ports that no Server speaks for: they keep their default, though an Allow policy turns every port of its pods to deny.
//!
//! Says which pods keep which ports. Never opens a port that is a Server's for any of them: where no selector tells such pods
//! apart, the port stays refused, and the report says so.

use std::collections::BTreeSet;

use ambit_core::{Destination, Protocol, Rule, Selector};

use super::access::Access;
use super::servers::Server;
use crate::import::ports::PortSet;
use crate::import::report::Report;
use crate::import::selection::{may_overlap, within, without};
use crate::import::source::Object;

/// Pods that an Allow policy is written for.
pub(super) struct Anchor<'s> {
    pub(super) selector: &'s Selector,
    /// The port that the policy speaks of.
    pub(super) port: Option<u16>,
    /// What stands on their other ports.
    pub(super) access: Access,
}

/// How their other ports stay as they were.
pub(super) struct Rest {
    /// A rule for the same pods.
    pub(super) rule: Option<Rule>,
    /// Rules for some of them, on ports that are a Server's for the others.
    pub(super) further: Vec<(Selector, Rule)>,
    /// Ports that stay refused where they were open.
    refused: BTreeSet<u16>,
}

impl Rest {
    pub(super) fn of(anchor: &Anchor<'_>, servers: &[Server<'_>]) -> Self {
        let near: Vec<&Server<'_>> =
            servers.iter().filter(|server| may_overlap(&server.selector, anchor.selector)).collect();
        let taken: BTreeSet<u16> = near.iter().map(|server| server.port).chain(anchor.port).collect();
        let open = PortSet::of(taken.iter().copied()).complement();
        let mut rule = anchor.access.rule(&open);
        if let Some(to) = rule.as_mut().and_then(|rule| rule.to.as_mut())
            && anchor.access == Access::AllUnauthenticated
        {
            to.push(Destination { protocol: Protocol::Udp, ports: Vec::new() });
        }
        let (mut further, mut refused) = (Vec::<(Selector, Vec<u16>)>::new(), BTreeSet::new());
        for port in taken.into_iter().filter(|port| Some(*port) != anchor.port) {
            let of_port = || near.iter().filter(|server| server.port == port);
            if of_port().any(|server| within(anchor.selector, &server.selector)) {
                continue;
            }
            let left =
                of_port().try_fold(anchor.selector.clone(), |left, server| without(&left, &server.selector));
            match left {
                Some(left) => match further.iter_mut().find(|(known, _)| *known == left) {
                    Some((_, ports)) => ports.push(port),
                    None => further.push((left, vec![port])),
                },
                None => {
                    refused.insert(port);
                }
            }
        }
        if anchor.access == Access::Deny {
            refused.clear();
        }
        let further = further.into_iter().filter_map(|(selector, ports)| {
            anchor.access.rule(&PortSet::of(ports)).map(|rule| (selector, rule))
        });
        Self { rule, further: further.collect(), refused }
    }

    /// Says what stays open, and what does not.
    pub(super) fn report(&self, object: &Object, anchor: &Anchor<'_>, report: &mut Report) {
        let at = object.cursor();
        if anchor.port.is_some() && self.rule.is_some() {
            let udp = if anchor.access == Access::AllUnauthenticated { ", and for UDP," } else { "" };
            let message = format!(
                "a Server speaks for its port only: on the pods' other ports{udp} `{}` stays in force, and a rule says so",
                anchor.access
            );
            let finding = at.finding(message).with_hint("remove that rule to refuse them too");
            report.add(crate::import::report::Kind::Note, object, finding);
        }
        if anchor.access != Access::AllUnauthenticated {
            let message = "UDP is refused to these pods, which Linkerd lets pass";
            report.differs(
                object,
                &at,
                message,
                "name the ports in a rule with `protocol: UDP`, if they serve any",
            );
        }
        if !self.refused.is_empty() {
            let ports: Vec<String> = self.refused.iter().map(u16::to_string).collect();
            let message =
                format!("port {} stays refused on pods for which no Server has it", ports.join(", "));
            let hint =
                "no selector tells them apart from those for which one has; write an AccessPolicy for them";
            report.differs(object, &at, message, hint);
        }
    }
}
