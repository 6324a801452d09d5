//! The embedded certificate authority: one root per directory, a certificate per workload identity.
//!
//! It owns the root key and the content of every certificate. A workload's private key is made here, goes
//! straight into the TLS provider, and is never written, printed or handed out as bytes. It does not know
//! which identities a node needs (`store`), nor how peers are judged (`tls`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::SpiffeId;
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;
use tracing::warn;
use zeroize::Zeroize;

use root_dir::RootDir;

pub(super) mod issue;
pub(super) mod root;
mod root_dir;

#[cfg(test)]
mod tests;

/// A certificate is valid from this long before its issue, for peers whose clock is behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The shortest life that a certificate can have.
pub const SHORTEST_LIFETIME: Duration = Duration::from_secs(2);
/// The longest life that a certificate can have, and the life of the root.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A root that expires sooner than this is worth a warning at start.
const ROOT_WARNING: Duration = Duration::from_secs(90 * 24 * 3600);

/// What stands between the agent and a usable root or certificate; every text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Others than the owner can enter the directory.
    #[error("CA directory {} has mode {mode:04o}, which lets others than its owner in: make sure nobody else read its root key, then run `chmod 700 {0}`", path.display())]
    DirMode {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory or a file of it belongs to someone else.
    #[error("{} belongs to uid {owner}, and this process runs as uid {us}: run as its owner, give it away with `chown {us}`, or choose another CA directory", path.display())]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The user of this process.
        us: u32,
    },
    /// Others than the owner can read the key, or write the certificate.
    #[error("{} has mode {mode:04o}: make sure nobody else used it, then run `chmod {wanted:o} {0}`", path.display())]
    FileMode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        wanted: u32,
    },
    /// A symbolic link, directory or device stands where a file belongs.
    #[error("{} is not a regular file: move it away, or choose another CA directory", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// The file is far too large to be what its name says.
    #[error("{} is larger than {limit} bytes, so it is no PEM file of a root: restore it from a backup", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Someone holds the lock and does not finish.
    #[error("{} has been locked by another process for {} s: find it with `fuser {0}`, and end it if it hangs", path.display(), waited.as_secs())]
    LockBusy {
        /// The lock file.
        path: PathBuf,
        /// How long this process waited.
        waited: Duration,
    },
    /// The key file holds no P-256 key. The reason stays out, so that no byte of a key gets into a log.
    #[error("{} holds no ECDSA P-256 private key in PEM: restore it from a backup{renew}", path.display(), renew = RENEW_ROOT)]
    KeyUnreadable {
        /// The key file.
        path: PathBuf,
    },
    /// The certificate file holds no usable root certificate.
    #[error("{} is no root certificate of ambit ({reason}): restore it from a backup{renew}", path.display(), renew = RENEW_ROOT)]
    CertUnusable {
        /// The certificate file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is a certificate without its key.
    #[error("{} has no {} beside it: restore the key from a backup{renew}", path.display(), root_dir::KEY, renew = RENEW_ROOT)]
    KeyMissing {
        /// The certificate file.
        path: PathBuf,
    },
    /// The key is not the one that the certificate speaks of.
    #[error("{} was made for another key than {} beside it: restore both from one backup{renew}", path.display(), root_dir::KEY, renew = RENEW_ROOT)]
    KeyMismatch {
        /// The certificate file.
        path: PathBuf,
    },
    /// The root belongs to another trust domain.
    #[error("{} is the root of trust domain `{found}`, not of `{wanted}`: give the agent that trust domain, or another CA directory", path.display())]
    OtherTrustDomain {
        /// The certificate file.
        path: PathBuf,
        /// The trust domain in the certificate.
        found: String,
        /// The trust domain of this agent.
        wanted: String,
    },
    /// The root's time is over, or has not come.
    #[error("{} is valid from {} to {} only, and it is {} now: check the clock{renew}",
        path.display(), rfc3339(*not_before), rfc3339(*not_after), rfc3339(*now), renew = RENEW_ROOT)]
    RootNotValid {
        /// The certificate file.
        path: PathBuf,
        /// When its validity begins.
        not_before: SystemTime,
        /// When its validity ends.
        not_after: SystemTime,
        /// The time of the check.
        now: SystemTime,
    },
    /// The trust domain cannot stand in a SPIFFE ID.
    #[error("`{}` is no trust domain: use a name such as `cluster.local`", trust_domain.escape_default())]
    TrustDomain {
        /// What was given.
        trust_domain: String,
    },
    /// The identity belongs to a trust domain that this root does not speak for.
    #[error("issue a certificate for {id}: this authority signs for trust domain `{trust_domain}` alone")]
    ForeignIdentity {
        /// The identity asked for.
        id: SpiffeId,
        /// The trust domain of the root.
        trust_domain: String,
    },
    /// The life asked for is too short or too long.
    #[error("a certificate lifetime of {} is out of range: choose one from {} to {}",
        humantime::format_duration(*asked), humantime::format_duration(SHORTEST_LIFETIME),
        humantime::format_duration(LONGEST_LIFETIME))]
    Lifetime {
        /// The life asked for.
        asked: Duration,
    },
    /// The root expired while the agent ran.
    #[error("issue a certificate for {id}: the root expired at {}{renew}", rfc3339(*not_after), renew = RENEW_ROOT)]
    RootExpired {
        /// The identity asked for.
        id: SpiffeId,
        /// When the root expired.
        not_after: SystemTime,
    },
    /// The library could not make a key or a certificate.
    #[error("make {what}")]
    Make {
        /// What was being made.
        what: &'static str,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// The TLS provider refused the fresh key, or has no randomness.
    #[error("{action}")]
    Provider {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: rustls::Error,
    },
}

/// How to get out of a broken root for good.
const RENEW_ROOT: &str = "; or start over with a new root: stop every agent of this CA directory, \
                          remove root-cert.pem and root-key.pem, start them again";

/// A fresh certificate with the only handle to its private key.
pub struct Issued {
    /// The certificate; the root is not part of it, because every peer has it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key, inside the TLS provider. Its bytes cannot be had from here.
    pub key: Arc<dyn SigningKey>,
    /// When it was issued.
    pub issued_at: SystemTime,
    /// When its validity begins: `CLOCK_SKEW` before `issued_at`, in whole seconds.
    pub not_before: SystemTime,
    /// When its validity ends, in whole seconds, rounded up; never after the root.
    pub not_after: SystemTime,
    /// Its serial number in hexadecimal.
    pub serial: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &self.serial)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The root of a trust domain, able to sign.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    root_not_after: SystemTime,
    trust_domain: String,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("trust_domain", &self.trust_domain)
            .field("root_not_after", &self.root_not_after)
            .finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Opens the root in `dir`, or makes one for `trust_domain` if there is none.
    ///
    /// Agents that start at the same instant on one directory end with one root. Waits up to 10 s for
    /// another agent that holds the directory's lock, so call it before the async runtime is busy.
    ///
    /// # Errors
    /// The directory or a file in it is not its owner's alone, the root is of another trust domain, not
    /// valid now or damaged, or a file operation failed. Nothing of an existing root is ever overwritten.
    pub fn open_or_create(dir: &Path, trust_domain: &str) -> Result<Self, CaError> {
        Self::open_at(dir, trust_domain, LONGEST_LIFETIME, SystemTime::now())
    }

    pub(super) fn open_at(
        dir: &Path,
        trust_domain: &str,
        root_life: Duration,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        root::check_trust_domain(trust_domain)?;
        let dir = RootDir::open(dir)?;
        let (mut key, root) = root::load_or_make(&dir, trust_domain, root_life, now)?;
        let root_not_after = root::check(&root, &key, trust_domain, now, &dir.file(root_dir::CERT))?;
        if root_not_after.duration_since(now).unwrap_or_default() < ROOT_WARNING {
            let not_after = rfc3339(root_not_after);
            warn!(path = %dir.file(root_dir::CERT).display(), %not_after, "root certificate expires soon");
        }
        // The signing half stays inside the library; the serialised copy has served.
        key.zeroize();
        let issuer = Issuer::from_ca_cert_der(&root, key)
            .map_err(|source| CaError::Make { what: "an issuer of the root certificate", source })?;
        Ok(Self { issuer, root, root_not_after, trust_domain: trust_domain.to_owned() })
    }

    /// Returns the trust domain that this root speaks for.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Returns the root certificate: the trust bundle.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// Returns when the root expires; no certificate outlives it.
    pub fn root_not_after(&self) -> SystemTime {
        self.root_not_after
    }
}

fn rfc3339(at: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_seconds(at)
}
