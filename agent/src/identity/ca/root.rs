//! The root certificate and key: made once, read again, and checked before anything is signed with them.
//!
//! It owns what a root must look like. It writes through `root_dir` only, and signs nothing but the root.

use std::path::Path;
use std::time::{Duration, SystemTime};

use ambit_core::identity::SpiffeId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::{info, warn};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::root_dir::{self, RootDir};
use super::{CLOCK_SKEW, CaError, issue};

/// Refuses a name that cannot stand in a SPIFFE ID.
pub(crate) fn check_trust_domain(trust_domain: &str) -> Result<(), CaError> {
    match SpiffeId::parse(&format!("spiffe://{trust_domain}/ns/default/sa/default")) {
        Ok(id) if id.trust_domain() == trust_domain => Ok(()),
        _ => Err(CaError::TrustDomain { trust_domain: trust_domain.to_owned() }),
    }
}

/// Reads the root of the directory, completes a half-written one, or makes a new one.
pub(super) fn load_or_make(
    dir: &RootDir,
    trust_domain: &str,
    life: Duration,
    now: SystemTime,
) -> Result<(KeyPair, CertificateDer<'static>), CaError> {
    let key_path = dir.file(root_dir::KEY);
    let cert_path = dir.file(root_dir::CERT);
    let key = dir.read(root_dir::KEY, root_dir::KEY_MODE)?;
    let cert = dir.read(root_dir::CERT, root_dir::CERT_MODE)?;
    match (key, cert) {
        (Some(key), Some(cert)) => Ok((parse_key(&key, &key_path)?, parse_cert(&cert, &cert_path)?)),
        (Some(key), None) => {
            // The key is put in place before the certificate: an agent was killed in between. A certificate
            // made anew from the same key verifies what the lost one would have.
            let key = parse_key(&key, &key_path)?;
            warn!(path = %cert_path.display(), "root certificate is missing: made again from the root key");
            let cert = make_cert(dir, &key, trust_domain, life, now)?;
            Ok((key, cert))
        }
        (None, Some(_)) => Err(CaError::KeyMissing { path: cert_path }),
        (None, None) => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                .map_err(|source| CaError::Make { what: "a root key", source })?;
            let pem = Zeroizing::new(key.serialize_pem());
            dir.write(root_dir::KEY, root_dir::KEY_MODE, pem.as_bytes())?;
            let cert = make_cert(dir, &key, trust_domain, life, now)?;
            info!(path = %cert_path.display(), trust_domain, "root certificate created");
            Ok((key, cert))
        }
    }
}

/// Refuses a root that is damaged, foreign, not valid at `now`, or not the key's; returns when it expires.
pub(super) fn check(
    cert: &CertificateDer<'_>,
    key: &KeyPair,
    trust_domain: &str,
    now: SystemTime,
    path: &Path,
) -> Result<SystemTime, CaError> {
    let unusable = |reason: String| CaError::CertUnusable { path: path.to_owned(), reason };
    let (rest, parsed) =
        X509Certificate::from_der(cert).map_err(|_| unusable("its DER cannot be parsed".to_owned()))?;
    if !rest.is_empty() {
        return Err(unusable("bytes follow the certificate".to_owned()));
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(CaError::KeyMismatch { path: path.to_owned() });
    }
    check_usage(&parsed).map_err(unusable)?;
    check_signature(cert, &parsed).map_err(unusable)?;
    let found = trust_domain_of(&parsed).map_err(unusable)?;
    if found != trust_domain {
        return Err(CaError::OtherTrustDomain {
            path: path.to_owned(),
            found: found.escape_default().to_string(),
            wanted: trust_domain.to_owned(),
        });
    }
    let not_before = issue::from_timestamp(parsed.validity().not_before.timestamp());
    let not_after = issue::from_timestamp(parsed.validity().not_after.timestamp());
    if now < not_before || now > not_after {
        return Err(CaError::RootNotValid { path: path.to_owned(), not_before, not_after, now });
    }
    Ok(not_after)
}

fn parse_key(pem: &[u8], path: &Path) -> Result<KeyPair, CaError> {
    let unreadable = || CaError::KeyUnreadable { path: path.to_owned() };
    let key = Zeroizing::new(PrivateKeyDer::from_pem_slice(pem).map_err(|_| unreadable())?);
    KeyPair::from_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(|_| unreadable())
}

fn parse_cert(pem: &[u8], path: &Path) -> Result<CertificateDer<'static>, CaError> {
    let unusable = |reason: String| CaError::CertUnusable { path: path.to_owned(), reason };
    let mut certs = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| unusable("its PEM is incomplete or damaged".to_owned()))?;
    match (certs.pop(), certs.len()) {
        (Some(cert), 0) => Ok(cert),
        (None, _) => Err(unusable("it holds no certificate in PEM".to_owned())),
        (Some(_), more) => Err(unusable(format!("it holds {} certificates instead of one", more + 1))),
    }
}

fn make_cert(
    dir: &RootDir,
    key: &KeyPair,
    trust_domain: &str,
    life: Duration,
    now: SystemTime,
) -> Result<CertificateDer<'static>, CaError> {
    let make = |source| CaError::Make { what: "a root certificate", source };
    let mut params = CertificateParams::default();
    // The name follows from the key: a certificate made again fits the leaves that are already about, and a
    // leaf of another root is reported as of an unknown authority, not as one with a bad signature.
    let key_id: String =
        params.key_identifier(key).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, format!("ambit root {key_id}"));
    params.subject_alt_names =
        vec![SanType::URI(format!("spiffe://{trust_domain}").try_into().map_err(make)?)];
    // Path length 0: the root signs workloads, never another authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(issue::random_serial()?);
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + life).into();
    let cert = params.self_signed(key).map_err(make)?;
    dir.write(root_dir::CERT, root_dir::CERT_MODE, cert.pem().as_bytes())?;
    Ok(cert.der().clone())
}

fn check_usage(cert: &X509Certificate<'_>) -> Result<(), String> {
    if !cert.is_ca() {
        return Err("it is not marked as an authority (CA:true)".to_owned());
    }
    match cert.key_usage() {
        Ok(Some(usage)) if usage.value.key_cert_sign() => Ok(()),
        Ok(_) => Err("its key usage does not allow to sign certificates".to_owned()),
        Err(_) => Err("its key usage cannot be parsed".to_owned()),
    }
}

/// A root's own signature protects nothing, but it tells a damaged file from a whole one.
fn check_signature(der: &CertificateDer<'_>, cert: &X509Certificate<'_>) -> Result<(), String> {
    webpki::EndEntityCert::try_from(der)
        .and_then(|parsed| {
            parsed.verify_signature(
                webpki::aws_lc_rs::ECDSA_P256_SHA256,
                cert.tbs_certificate.as_ref(),
                &cert.signature_value.data,
            )
        })
        .map_err(|error| format!("its own signature does not hold: {error}"))
}

fn trust_domain_of<'a>(cert: &'a X509Certificate<'_>) -> Result<&'a str, String> {
    let names = cert
        .subject_alternative_name()
        .map_err(|_| "its alternative names cannot be parsed".to_owned())?
        .map_or(&[][..], |names| &names.value.general_names);
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(trust_domain), None) => Ok(trust_domain),
        _ => Err("it does not name exactly one SPIFFE trust domain".to_owned()),
    }
}
