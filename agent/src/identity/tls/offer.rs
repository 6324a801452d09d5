//! The certificate that this side shows: on both sides, until it expires, and to HTTP/2 peers alone.
//!
//! It owns one certified key. It judges no certificate of a peer.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{debug, warn};

/// One certificate on offer.
pub(super) struct Offer {
    certified: Arc<CertifiedKey>,
    not_after: SystemTime,
}

impl Offer {
    /// Offers `certified` until `not_after`.
    pub(super) fn new(certified: CertifiedKey, not_after: SystemTime) -> Self {
        Self { certified: Arc::new(certified), not_after }
    }

    /// Returns the certificate while it is valid. A configuration can outlive its certificate in the hands of
    /// a slow caller; showing an expired one would only move the failure to the peer.
    fn valid(&self) -> Option<Arc<CertifiedKey>> {
        if SystemTime::now() <= self.not_after {
            return Some(Arc::clone(&self.certified));
        }
        warn!(not_after = %humantime::format_rfc3339_seconds(self.not_after), "expired certificate not offered");
        None
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Offer {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls itself refuses a client that offers other protocols only, with the alert for it, but lets one
        // pass that offers none.
        if hello.alpn().is_none() {
            debug!("handshake refused: the client offers no application protocol, h2 is required");
            return None;
        }
        self.valid()
    }
}

impl ResolvesClientCert for Offer {
    fn resolve(&self, _roots: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified.key.choose_scheme(schemes)?;
        self.valid()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
