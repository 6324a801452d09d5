//! The certificates that the node needs now: one per identity, issued at once, dropped when unneeded.
//!
//! It owns the current certificate of each identity and what `ambit status` says about it. When to renew is
//! `ambit_core::renew`; the task that does it is in `renewal`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use ambit_core::identity::SpiffeId;
use ambit_core::renew;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::error;

use super::ca::{CaError, CertificateAuthority, issue, root};
use super::tls::{Configs, TlsError, Trust, provider};

mod renewal;

#[cfg(test)]
mod tests;

/// Why the store could not be set up, or an identity has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The authority refused or failed.
    #[error(transparent)]
    Authority(#[from] CaError),
    /// The certificate could not be put to use.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// One certificate of one workload, ready for handshakes.
#[derive(Debug)]
pub struct WorkloadIdentity {
    /// Whose it is.
    pub id: SpiffeId,
    /// When its validity begins, set back for clock skew.
    pub not_before: SystemTime,
    /// When its validity ends.
    pub not_after: SystemTime,
    /// Its serial number in hexadecimal.
    pub serial: String,
    issued_at: SystemTime,
    configs: Configs,
    expiry_reported: AtomicBool,
}

impl WorkloadIdentity {
    /// Returns the configuration to accept connections as this workload.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.configs.server()
    }

    /// Returns a configuration to connect as this workload to `expected` and to nobody else.
    pub fn client_config(&self, expected: &SpiffeId) -> Arc<ClientConfig> {
        self.configs.client(std::slice::from_ref(expected))
    }

    /// Returns a configuration to connect as this workload to any one of `expected`.
    pub fn client_config_any(&self, expected: &[SpiffeId]) -> Arc<ClientConfig> {
        self.configs.client(expected)
    }

    fn is_expired(&self, now: SystemTime) -> bool {
        now > self.not_after
    }

    fn life(&self) -> Duration {
        self.not_after.duration_since(self.issued_at).unwrap_or_default()
    }
}

/// What `ambit status` shows of one identity; times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// The SPIFFE identity.
    pub id: String,
    /// Serial number of the current certificate; absent if none was ever issued.
    pub serial: Option<String>,
    /// When its validity begins.
    pub not_before: Option<String>,
    /// When its validity ends.
    pub not_after: Option<String>,
    /// When it is renewed, or the failed attempt repeated.
    pub renew_at: String,
    /// Why the last attempt failed; absent after a success.
    pub last_error: Option<String>,
}

/// An identity that is wanted, with its certificate unless none could be issued yet.
#[derive(Debug)]
struct Entry {
    current: Option<Arc<WorkloadIdentity>>,
    renew_at: SystemTime,
    failures: u32,
    last_error: Option<String>,
}

/// The certificates of the node.
#[derive(Debug)]
pub struct IdentityStore {
    authority: Arc<CertificateAuthority>,
    trust: Trust,
    lifetime: Duration,
    entries: RwLock<BTreeMap<SpiffeId, Entry>>,
    reconciling: Mutex<()>,
    changed: Notify,
}

impl IdentityStore {
    /// Makes an empty store whose certificates live for `lifetime`.
    ///
    /// Peers are trusted whose identity is of the authority's trust domain or of one of the `aliases`.
    ///
    /// # Errors
    /// The lifetime is out of range, an alias is no trust domain, or the root cannot be trusted by TLS.
    pub fn new<I>(
        authority: Arc<CertificateAuthority>,
        lifetime: Duration,
        aliases: I,
    ) -> Result<Arc<Self>, StoreError>
    where
        I: IntoIterator<Item: Into<String>>,
    {
        issue::check_lifetime(lifetime)?;
        let mut trust_domains = BTreeSet::from([authority.trust_domain().to_owned()]);
        for alias in aliases {
            let alias = alias.into();
            root::check_trust_domain(&alias)?;
            trust_domains.insert(alias);
        }
        let trust = Trust::new(authority.root(), trust_domains)?;
        Ok(Arc::new(Self {
            authority,
            trust,
            lifetime,
            entries: RwLock::default(),
            reconciling: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// Issues what is wanted and missing, at once, and drops what is no longer wanted.
    ///
    /// Returns the identities that are left without a certificate: the failure is logged and in `status`, and
    /// the renewal task keeps trying. A live connection does not notice that its identity is dropped.
    pub fn reconcile(&self, wanted: &BTreeSet<SpiffeId>) -> Vec<SpiffeId> {
        // One at a time, or a slow one could bring back what a later one has dropped.
        let _one = self.reconciling.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        self.entries.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| wanted.contains(id));
        let missing: Vec<SpiffeId> = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            let usable = |id: &SpiffeId| {
                entries
                    .get(id)
                    .and_then(|entry| entry.current.as_ref())
                    .is_some_and(|current| !current.is_expired(now))
            };
            wanted.iter().filter(|id| !usable(id)).cloned().collect()
        };
        let failed = missing.into_iter().filter(|id| !self.renew(id, renewal::Missing::Insert)).collect();
        self.changed.notify_one();
        failed
    }

    /// Returns the current certificate of an identity: `None` if it is not wanted, could not be issued, or has
    /// expired, which is logged as an error once.
    pub fn get(&self, id: &SpiffeId) -> Option<Arc<WorkloadIdentity>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let current = entries.get(id)?.current.as_ref()?;
        if !current.is_expired(SystemTime::now()) {
            return Some(Arc::clone(current));
        }
        if !current.expiry_reported.swap(true, Ordering::Relaxed) {
            let not_after = humantime::format_rfc3339_seconds(current.not_after);
            error!(src.id = %id, serial = %current.serial, %not_after, "certificate expired: connections of this identity fail until it is renewed");
        }
        None
    }

    /// Returns the state of each identity, in order.
    pub fn status(&self) -> Vec<IdentityStatus> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let shown = |at| humantime::format_rfc3339_seconds(at).to_string();
        entries
            .iter()
            .map(|(id, entry)| {
                let current = entry.current.as_deref();
                IdentityStatus {
                    id: id.to_string(),
                    serial: current.map(|current| current.serial.clone()),
                    not_before: current.map(|current| shown(current.not_before)),
                    not_after: current.map(|current| shown(current.not_after)),
                    renew_at: shown(entry.renew_at),
                    last_error: entry.last_error.clone(),
                }
            })
            .collect()
    }

    fn issue(&self, id: &SpiffeId, now: SystemTime) -> Result<WorkloadIdentity, StoreError> {
        let issued = self.authority.issue(id, self.lifetime, now)?;
        let certified = CertifiedKey::new(issued.chain, issued.key);
        Ok(WorkloadIdentity {
            id: id.clone(),
            not_before: issued.not_before,
            not_after: issued.not_after,
            serial: issued.serial,
            issued_at: issued.issued_at,
            configs: Configs::new(&self.trust, certified, issued.not_after)?,
            expiry_reported: AtomicBool::new(false),
        })
    }

    /// Half of the life asked for, counted from the issue: `not_before` is set back and `not_after` rounded up.
    fn renewal_of(&self, identity: &WorkloadIdentity) -> SystemTime {
        let until = identity.not_after.min(identity.issued_at + self.lifetime);
        renew::renew_at(identity.issued_at, until, jitter())
    }
}

/// Draws from -1.0 to 1.0, so that the nodes of a cluster do not renew together.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    match provider().secure_random.fill(&mut bytes) {
        Ok(()) => f64::from(i32::from_ne_bytes(bytes)) / f64::from(i32::MAX),
        // Without randomness no certificate can be issued either; the middle is as good as any.
        Err(_) => 0.0,
    }
}
