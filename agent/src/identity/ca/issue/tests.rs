//! The rules of a workload's certificate.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::PublicKeyData;
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;

const DOMAIN: &str = "cluster.local";
const HOUR: Duration = Duration::from_secs(3600);

fn open(dir: &Path) -> Result<CertificateAuthority, CaError> {
    CertificateAuthority::open_or_create(dir, DOMAIN)
}

fn with_root() -> (TempDir, PathBuf) {
    let holder = tempfile::tempdir().unwrap();
    let dir = holder.path().join("ca");
    open(&dir).unwrap();
    (holder, dir)
}

fn id(service_account: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, "shop", service_account).unwrap()
}

fn parse(issued: &Issued) -> X509Certificate<'_> {
    X509Certificate::from_der(&issued.chain[0]).unwrap().1
}

#[test]
fn a_leaf_names_one_identity_and_serves_both_sides() {
    let (_holder, dir) = with_root();
    let issued = open(&dir).unwrap().issue(&id("web"), HOUR, SystemTime::now()).unwrap();
    assert_eq!(issued.chain.len(), 1);
    let leaf = parse(&issued);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical, "RFC 5280 (4.1.2.6): critical, because the subject is empty");
    assert_eq!(names.value.general_names[..], [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
    assert_eq!(leaf.subject().iter().count(), 0);
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.key_encipherment());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && extended.server_auth && !extended.any);
    assert_eq!(leaf.public_key().parsed().unwrap().key_size(), 256);
    assert_eq!(leaf.tbs_certificate.raw_serial_as_string().replace(':', ""), issued.serial);
}

#[test]
fn a_leaf_tolerates_a_clock_that_is_a_minute_behind() {
    let (_holder, dir) = with_root();
    let now = SystemTime::now();
    let issued = open(&dir).unwrap().issue(&id("web"), Duration::from_secs(2), now).unwrap();
    let leaf = parse(&issued);
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert_eq!(leaf.validity().not_before.timestamp(), seconds(now) - 60);
    assert_eq!(leaf.validity().not_before.timestamp(), seconds(issued.not_before));
    assert_eq!(leaf.validity().not_after.timestamp(), seconds(issued.not_after));
    let life = issued.not_after.duration_since(now).unwrap();
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&life), "{life:?}");
}

#[test]
fn a_leaf_never_outlives_the_root() {
    let (_holder, dir) = with_root();
    let ca = open(&dir).unwrap();
    let now = SystemTime::now();
    let issued = ca.issue(&id("web"), LONGEST_LIFETIME, now + HOUR).unwrap();
    assert_eq!(issued.not_after, ca.root_not_after());
    let error = ca.issue(&id("web"), HOUR, ca.root_not_after()).unwrap_err();
    assert!(matches!(error, CaError::RootExpired { .. }), "{error}");
}

#[test]
fn no_two_leaves_share_a_key_or_a_serial() {
    let (_holder, dir) = with_root();
    let ca = open(&dir).unwrap();
    let issue = || ca.issue(&id("web"), HOUR, SystemTime::now()).unwrap();
    let (one, two) = (issue(), issue());
    assert_ne!(one.serial, two.serial);
    assert_ne!(parse(&one).public_key().raw, parse(&two).public_key().raw);
    assert_eq!(one.serial.len(), 32);
}

#[test]
fn an_identity_of_another_trust_domain_is_not_signed() {
    let (_holder, dir) = with_root();
    let foreign = SpiffeId::new("prod.example", "shop", "web").unwrap();
    let error = open(&dir).unwrap().issue(&foreign, HOUR, SystemTime::now()).unwrap_err();
    assert!(matches!(error, CaError::ForeignIdentity { .. }), "{error}");
}

#[test]
fn a_lifetime_out_of_range_is_refused() {
    let (_holder, dir) = with_root();
    let ca = open(&dir).unwrap();
    let now = SystemTime::now();
    let second = Duration::from_secs(1);
    for (lifetime, fits) in [
        (Duration::ZERO, false),
        (second, false),
        (2 * second, true),
        (LONGEST_LIFETIME, true),
        (LONGEST_LIFETIME + second, false),
        (Duration::MAX, false),
    ] {
        assert_eq!(ca.issue(&id("web"), lifetime, now).is_ok(), fits, "{lifetime:?}");
    }
}

#[test]
fn a_workload_key_is_neither_written_nor_printed() {
    let (_holder, dir) = with_root();
    let ca = open(&dir).unwrap();
    let files = || {
        let mut all: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    };
    let before = files();
    let issued = ca.issue(&id("web"), HOUR, SystemTime::now()).unwrap();
    assert_eq!(files(), before);
    let shown = format!("{issued:?} {ca:?}");
    assert!(!shown.to_lowercase().contains("key"), "{shown}");
    // The authority keeps its root key for signing, and no copy in a form that could be printed.
    assert!(ca.issuer.key().serialized_der().is_empty());
    assert!(!ca.issuer.key().subject_public_key_info().is_empty());
}
