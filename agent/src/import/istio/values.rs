//! The values of Istio's fields: principals, namespaces, service accounts, networks and ports.
//!
//! Reads one value at a time. A value that Istio reads otherwise than it looks is refused, never guessed at.

use ambit_core::{IdentityPattern, ServiceAccount, SpiffeId};
use ipnet::IpNet;

use super::rules::Reader;
use crate::control::fields::check_name;
use crate::control::node::Cursor;
use crate::import::callers::Pattern;
use crate::import::{networks, ports};

/// The trust domain that stands for Istio's own, whatever its name is.
const OWN_ALIAS: &str = "cluster.local";

/// A value with at most one `*`, which stands at an end.
enum Shape<'t> {
    Exact(&'t str),
    Presence,
    Prefix(&'t str),
    Suffix(&'t str),
}

impl<'a> Reader<'_, 'a> {
    /// Reads a principal: a SPIFFE identity without its scheme, or a pattern of one.
    pub(super) fn principal(&mut self, at: &Cursor<'a>, text: &str) -> Option<Pattern> {
        if text.starts_with("spiffe://") {
            let message = format!("{text:?} matches nobody in Istio: principals stand without `spiffe://`");
            return self.refuse(at, message, "remove `spiffe://`");
        }
        match self.shape(at, text)? {
            Shape::Presence => Some(Pattern::anybody()),
            Shape::Suffix(suffix) => Some(wildcard("spiffe://".to_owned(), suffix)),
            Shape::Prefix(prefix) => {
                let own = self.options.trust_domain.clone();
                let Some((domain, rest)) = prefix.split_once('/') else {
                    if own != OWN_ALIAS && OWN_ALIAS.starts_with(prefix) {
                        let message =
                            format!("{text:?} may mean the trust domain {OWN_ALIAS}, which is {own} here");
                        return self.refuse(at, message, "write the trust domain out");
                    }
                    return Some(wildcard(format!("spiffe://{prefix}"), ""));
                };
                let domain = self.trust_domain(at, domain);
                let namespace = rest.strip_prefix("ns/").and_then(|rest| rest.split_once('/'));
                if let Some((namespace, "" | "sa/")) = namespace
                    && domain == own
                    && check_name(namespace).is_ok()
                {
                    return Some(Pattern::Namespace(namespace.to_owned()));
                }
                Some(wildcard(format!("spiffe://{domain}/{rest}"), ""))
            }
            Shape::Exact(text) => {
                let (domain, rest) = text.split_once('/').unwrap_or((text, ""));
                let domain = self.trust_domain(at, domain);
                let Ok(id) = SpiffeId::parse(&format!("spiffe://{domain}/{rest}")) else {
                    let message = format!("{text:?} is the identity of no pod");
                    return self.refuse(at, message, "write TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT");
                };
                let named = check_name(id.namespace()).is_ok() && check_name(id.service_account()).is_ok();
                if named && id.trust_domain() == self.options.trust_domain {
                    let (namespace, name) = (id.namespace().to_owned(), id.service_account().to_owned());
                    return Some(Pattern::Account(ServiceAccount { namespace, name }));
                }
                Some(Pattern::Identity(IdentityPattern::Exact(id)))
            }
        }
    }

    /// Reads the namespace of a caller.
    pub(super) fn namespace(&mut self, at: &Cursor<'a>, text: &str) -> Option<Pattern> {
        match self.shape(at, text)? {
            Shape::Presence => Some(Pattern::anybody()),
            Shape::Exact(text) if check_name(text).is_ok() => Some(Pattern::Namespace(text.to_owned())),
            Shape::Prefix(prefix) if check_name(prefix.trim_end_matches('-')).is_ok() => {
                Some(wildcard(format!("spiffe://{}/ns/{prefix}", self.options.trust_domain), ""))
            }
            Shape::Suffix(_) => {
                let message = format!("{text:?}: no policy of ambit says how a namespace's name ends");
                self.refuse(at, message, "name the namespaces")
            }
            Shape::Exact(_) | Shape::Prefix(_) => {
                self.refuse(at, format!("{text:?} is the name of no namespace"), "correct it")
            }
        }
    }

    /// Returns the same namespaces in the other trust domains that agents trust.
    pub(super) fn in_aliases(&self, own: &Pattern) -> Vec<Pattern> {
        let scheme = format!("spiffe://{}/", self.options.trust_domain);
        let Some(IdentityPattern::Wildcard { prefix, suffix }) = own.identity(&self.options.trust_domain)
        else {
            return Vec::new();
        };
        let Some(rest) = prefix.strip_prefix(&scheme) else { return Vec::new() };
        let aliases = self.options.trust_aliases.iter();
        aliases.map(|alias| wildcard(format!("spiffe://{alias}/{rest}"), &suffix)).collect()
    }

    /// Reads a service account, with its namespace or of the policy's; its trust domain may be any.
    pub(super) fn service_account(&mut self, at: &Cursor<'a>, text: &str) -> Option<Pattern> {
        let (namespace, name) = text.split_once('/').unwrap_or((&self.object.namespace, text));
        if check_name(namespace).is_err() || check_name(name).is_err() {
            let message = format!("{text:?} is no service account");
            return self.refuse(at, message, "write NAME or NAMESPACE/NAME, without `*`");
        }
        Some(wildcard("spiffe://".to_owned(), &format!("/ns/{namespace}/sa/{name}")))
    }

    /// Reads a network or an address.
    pub(super) fn network(&mut self, at: &Cursor<'a>, text: &str) -> Option<IpNet> {
        match networks::parse(text) {
            Ok(network) => Some(network),
            Err(message) => {
                self.findings.error(at.finding(message).with_hint("write 10.0.0.0/8, or 10.0.0.1"));
                None
            }
        }
    }

    /// Reads a port.
    pub(super) fn port(&mut self, at: &Cursor<'a>, text: &str) -> Option<u16> {
        let port = ports::parse(text).or_else(|| (text == "0").then_some(0));
        if port.is_none() {
            let finding = at.finding(format!("{text:?} is no port"));
            self.findings.error(finding.with_hint("write a number from 1 to 65535"));
        }
        port
    }

    /// Returns the trust domain that is meant, and says where it has another name in ambit.
    fn trust_domain(&mut self, at: &Cursor<'a>, written: &str) -> String {
        let own = &self.options.trust_domain;
        if written == OWN_ALIAS && own != OWN_ALIAS {
            let message =
                format!("the trust domain {OWN_ALIAS} stands for Istio's own, and is read as {own}");
            self.report.differs(
                self.object,
                at,
                message,
                "if another one is meant, write its identity by hand",
            );
            return own.clone();
        }
        if written != own {
            let message = format!("the trust domain {written} is not ambit's, which is {own}");
            let hint = "callers of another one are known only if agents trust it; or say --trust-domain";
            self.report.differs(self.object, at, message, hint);
        }
        written.to_owned()
    }

    fn shape<'t>(&mut self, at: &Cursor<'a>, text: &'t str) -> Option<Shape<'t>> {
        let shape = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            _ if text.is_empty() => {
                return self.refuse(at, "an empty value matches nobody", "remove it");
            }
            (Some(""), _) => Shape::Presence,
            (Some(rest), _) => Shape::Suffix(rest),
            (None, Some(rest)) => Shape::Prefix(rest),
            (None, None) => Shape::Exact(text),
        };
        let (Shape::Exact(rest) | Shape::Prefix(rest) | Shape::Suffix(rest)) = shape else {
            return Some(shape);
        };
        if rest.contains('*') {
            let message = format!("{text:?}: a `*` means something only at one end");
            return self.refuse(at, message, "write the values out");
        }
        Some(shape)
    }
}

fn wildcard(prefix: String, suffix: &str) -> Pattern {
    Pattern::Identity(IdentityPattern::Wildcard { prefix, suffix: suffix.to_owned() })
}
