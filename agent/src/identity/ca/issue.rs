//! Issue: the content of a workload's certificate.
//!
//! It owns key, serial and validity of a leaf. It keeps nothing: what it makes belongs to the caller.

use std::time::{Duration, SystemTime};

use ambit_core::identity::SpiffeId;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{CLOCK_SKEW, CaError, CertificateAuthority, Issued, LONGEST_LIFETIME, SHORTEST_LIFETIME};
use crate::identity::tls;

#[cfg(test)]
mod tests;

/// 16 bytes, as most authorities use; RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;

impl CertificateAuthority {
    /// Issues a certificate for `id` with a fresh key: P-256, the URI as its only name, for both sides of TLS.
    ///
    /// It is valid from `CLOCK_SKEW` before `now` until `lifetime` after `now`, or until the root expires.
    ///
    /// # Errors
    /// `ForeignIdentity`, `Lifetime` (shorter than `SHORTEST_LIFETIME`, longer than `LONGEST_LIFETIME`),
    /// `RootExpired`, or a failure of the cryptographic library.
    pub fn issue(&self, id: &SpiffeId, lifetime: Duration, now: SystemTime) -> Result<Issued, CaError> {
        if id.trust_domain() != self.trust_domain {
            return Err(CaError::ForeignIdentity { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        check_lifetime(lifetime)?;
        if now >= self.root_not_after {
            return Err(CaError::RootExpired { id: id.clone(), not_after: self.root_not_after });
        }
        let make = |what| move |source| CaError::Make { what, source };
        let serial = random_serial()?;
        let not_before = whole_seconds(now - CLOCK_SKEW);
        // Rounded up: a life of 2 s is at least 2 s, although certificates count whole seconds.
        let not_after = whole_seconds(now + lifetime + Duration::from_nanos(999_999_999));
        let not_after = not_after.min(self.root_not_after);

        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = id.to_string().try_into().map_err(make("a SPIFFE name"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::from(not_before);
        params.not_after = OffsetDateTime::from(not_after);
        let hex = serial.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        params.serial_number = Some(serial);

        // Wiped when it goes out of scope, on every path; the provider wipes the copy that it is given.
        let key =
            Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make("a workload key"))?);
        let cert = params.signed_by(&*key, &self.issuer).map_err(make("a workload certificate"))?;
        let der = PrivatePkcs8KeyDer::from(key.serialized_der().to_vec());
        let key = tls::provider()
            .key_provider
            .load_private_key(der.into())
            .map_err(|source| CaError::Provider { action: "load a fresh workload key", source })?;
        Ok(Issued { chain: vec![cert.into()], key, issued_at: now, not_before, not_after, serial: hex })
    }
}

/// Refuses a lifetime that no certificate can have.
pub(crate) fn check_lifetime(asked: Duration) -> Result<(), CaError> {
    if (SHORTEST_LIFETIME..=LONGEST_LIFETIME).contains(&asked) {
        Ok(())
    } else {
        Err(CaError::Lifetime { asked })
    }
}

/// Draws a positive serial number of full length.
pub(super) fn random_serial() -> Result<SerialNumber, CaError> {
    let mut bytes = [0; SERIAL_BYTES];
    tls::provider().secure_random.fill(&mut bytes).map_err(|_| CaError::Provider {
        action: "draw a serial number",
        source: rustls::Error::FailedToGetRandomBytes,
    })?;
    // The sign bit is 0 as RFC 5280 (4.1.2.2) demands, and the next is 1, so that none is written shorter.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Converts the seconds since 1970 of a certificate.
pub(crate) fn from_timestamp(seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Cuts an instant to the whole second, which is all that a certificate can hold.
fn whole_seconds(at: SystemTime) -> SystemTime {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
