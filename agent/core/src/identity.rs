//! The SPIFFE identity of a workload, `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
//!
//! Parses and prints it. Never looks at certificates: whoever builds a `SpiffeId` from a peer has verified it.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// The longest trust domain, as SPIFFE-ID section 2.1 bounds it.
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest namespace: a DNS label.
const MAX_NAMESPACE: usize = 63;
/// The longest service account: a DNS subdomain.
const MAX_SERVICE_ACCOUNT: usize = 253;

/// The identity of a service account in a trust domain.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

/// Why a text is not a SPIFFE identity of the form that ambit uses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// The text is no URI of the expected shape.
    #[error("expected spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>")]
    Shape,
    /// A part is empty.
    #[error("the {part} is empty")]
    Empty {
        /// Which part.
        part: &'static str,
    },
    /// A part is longer than its bound.
    #[error("the {part} is {length} bytes long, at most {limit} are allowed")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// A part holds a character that SPIFFE does not allow there.
    #[error("the {part} contains {character:?}, which is not allowed there")]
    Character {
        /// Which part.
        part: &'static str,
        /// The first character that is not allowed.
        character: char,
    },
    /// A part is `.` or `..`, which SPIFFE forbids as a path segment.
    #[error("the {part} is a relative path segment")]
    Relative {
        /// Which part.
        part: &'static str,
    },
}

impl SpiffeId {
    /// Builds an identity from its three parts.
    ///
    /// # Errors
    /// When a part is empty, too long, or holds a character that SPIFFE-ID section 2 does not allow.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, SpiffeIdError> {
        check("trust domain", trust_domain, MAX_TRUST_DOMAIN, |c| !c.is_ascii_uppercase())?;
        check("namespace", namespace, MAX_NAMESPACE, |_| true)?;
        check("service account", service_account, MAX_SERVICE_ACCOUNT, |_| true)?;
        Ok(Self {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        })
    }

    /// Parses a SPIFFE URI.
    ///
    /// # Errors
    /// When the text is not exactly `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`.
    pub fn parse(uri: &str) -> Result<Self, SpiffeIdError> {
        let mut segments = uri.strip_prefix("spiffe://").ok_or(SpiffeIdError::Shape)?.split('/');
        let mut next = || segments.next().ok_or(SpiffeIdError::Shape);
        let (trust_domain, ns, namespace, sa, service_account) =
            (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || segments.next().is_some() {
            return Err(SpiffeIdError::Shape);
        }
        Self::new(trust_domain, namespace, service_account)
    }

    /// Returns the trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Checks one part against SPIFFE's alphabet, narrowed by `allowed`, and against `limit` bytes.
fn check(
    part: &'static str,
    text: &str,
    limit: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<(), SpiffeIdError> {
    if text.is_empty() {
        return Err(SpiffeIdError::Empty { part });
    }
    if text.len() > limit {
        return Err(SpiffeIdError::TooLong { part, length: text.len(), limit });
    }
    let in_alphabet = |c: char| (c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) && allowed(c);
    if let Some(character) = text.chars().find(|c| !in_alphabet(*c)) {
        return Err(SpiffeIdError::Character { part, character });
    }
    if text == "." || text == ".." {
        return Err(SpiffeIdError::Relative { part });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
