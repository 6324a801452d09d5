//! Who is authenticated: identities and networks, and the callers that are both.
//!
//! Reads lists. Never decides which Server they are for.

use ambit_core::Peer;
use ipnet::IpNet;

use super::identities;
use crate::control::fields::{self, Fields, check_name};
use crate::control::finding::{Finding, Findings};
use crate::control::node::{Cursor, Value};
use crate::import::Options;
use crate::import::callers::{Pattern, any_of};
use crate::import::networks;
use crate::import::report::{Report, refusal};
use crate::import::source::Object;

/// A network without some of it.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) cidr: IpNet,
    pub(super) except: Vec<IpNet>,
}

/// Why an authentication gives no callers.
pub(super) enum Stop {
    /// It is mistyped, which stands in the findings.
    Invalid,
    /// It cannot be expressed.
    Refused(Finding),
    /// Linkerd rejects it, and it admits nobody.
    Void(Finding),
}

/// Tells whether a field says anything at all.
pub(super) fn is_written(field: &Cursor<'_>) -> bool {
    field.node.value != Value::Null
}

/// Reads `identities`; an absent list is empty.
pub(super) fn identities<'a>(
    field: Option<Cursor<'a>>,
    object: &'a Object,
    options: &Options,
    report: &mut Report,
    findings: &mut Findings,
) -> Result<Vec<Pattern>, Stop> {
    let Some(field) = field.filter(is_written) else { return Ok(Vec::new()) };
    let mut patterns = Vec::new();
    for item in items(&field, findings)? {
        let text = fields::text(&item, findings).ok_or(Stop::Invalid)?;
        patterns.push(identities::read(text, &item, object, options, report).map_err(Stop::Refused)?);
    }
    Ok(patterns)
}

/// Reads a reference to a ServiceAccount: its name, and its namespace if it is not the object's.
pub(super) fn account(at: &Cursor<'_>, object: &Object, findings: &mut Findings) -> Result<Pattern, Stop> {
    let name = at
        .field("name")
        .ok_or_else(|| Stop::Refused(refusal(at, "a service account needs a `name`", "name it")))?;
    let name = fields::text(&name, findings).ok_or(Stop::Invalid)?;
    let namespace = match at.field("namespace").filter(is_written) {
        Some(field) => fields::text(&field, findings).ok_or(Stop::Invalid)?,
        None => &object.namespace,
    };
    if check_name(name).is_err() || check_name(namespace).is_err() {
        return Err(Stop::Refused(refusal(
            at,
            format!("{namespace}/{name} is no service account"),
            "correct it",
        )));
    }
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Ok(Pattern::Account(ambit_core::ServiceAccount { namespace, name }))
}

/// Reads `networks`.
pub(super) fn networks(field: &Cursor<'_>, findings: &mut Findings) -> Result<Vec<Network>, Stop> {
    let mut found = Vec::new();
    for item in items(field, findings)? {
        let known = Fields::of(&item, &["cidr", "except"], findings).ok_or(Stop::Invalid)?;
        let Some(cidr) = known.get("cidr") else {
            findings.error(item.follow(&["cidr"]).finding("a network needs a `cidr`"));
            return Err(Stop::Invalid);
        };
        let cidr = network(&cidr, findings)?;
        let mut except = Vec::new();
        if let Some(list) = known.get("except").filter(is_written) {
            for item in items(&list, findings)? {
                except.push(network(&item, findings)?);
            }
        }
        found.push(Network { cidr, except });
    }
    Ok(found)
}

/// Returns the callers that have one of the identities, if they are said, and call from one of the networks.
pub(super) fn callers(who: Option<&[Pattern]>, networks: &[Network]) -> Vec<Peer> {
    let whole: Vec<IpNet> =
        networks.iter().filter(|network| network.except.is_empty()).map(|network| network.cidr).collect();
    let identities = who.map_or_else(|| vec![Peer::default()], any_of);
    let mut places = Vec::new();
    if networks::is_everything(&whole) {
        places.push(Peer::default());
    } else {
        if !whole.is_empty() {
            places.push(Peer { cidrs: whole, ..Peer::default() });
        }
        for Network { cidr, except } in networks.iter().filter(|network| !network.except.is_empty()) {
            places.push(Peer { cidrs: vec![*cidr], except_cidrs: except.clone(), ..Peer::default() });
        }
    }
    let both = places.iter().flat_map(|place| {
        identities.iter().map(|identity| {
            let mut peer = identity.clone();
            peer.cidrs.clone_from(&place.cidrs);
            peer.except_cidrs.clone_from(&place.except_cidrs);
            peer.anyone = peer.is_empty();
            peer
        })
    });
    both.collect()
}

/// Returns every address of both families.
pub(super) fn everywhere() -> Vec<Network> {
    let cidrs = ["0.0.0.0/0", "::/0"].iter().filter_map(|text| networks::parse(text).ok());
    cidrs.map(|cidr| Network { cidr, except: Vec::new() }).collect()
}

/// Returns the items of a list.
pub(super) fn items<'a>(field: &Cursor<'a>, findings: &mut Findings) -> Result<Vec<Cursor<'a>>, Stop> {
    fields::list(field, findings, |_, _| Some(())).ok_or(Stop::Invalid)?;
    Ok(field.items().collect())
}

fn network(field: &Cursor<'_>, findings: &mut Findings) -> Result<IpNet, Stop> {
    let text = fields::text(field, findings).ok_or(Stop::Invalid)?;
    networks::parse(text).map_err(|message| {
        findings.error(field.finding(message).with_hint("write 10.0.0.0/8, or 10.0.0.1"));
        Stop::Invalid
    })
}
