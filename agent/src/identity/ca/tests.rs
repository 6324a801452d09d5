//! The rules of the root directory, of the root, and of what it issues.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::Barrier;
use std::thread;

use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;

const DOMAIN: &str = "cluster.local";
const HOUR: Duration = Duration::from_secs(3600);

fn open(dir: &Path) -> Result<CertificateAuthority, CaError> {
    CertificateAuthority::open_or_create(dir, DOMAIN)
}

/// Returns a directory that holds a root, and what keeps it.
fn with_root() -> (TempDir, PathBuf) {
    let holder = tempfile::tempdir().unwrap();
    let dir = holder.path().join("ca");
    open(&dir).unwrap();
    (holder, dir)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

fn id(service_account: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, "shop", service_account).unwrap()
}

#[test]
fn a_new_directory_is_its_owners_alone() {
    let (_holder, dir) = with_root();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("root-key.pem")), 0o600);
    assert_eq!(mode(&dir.join("root-cert.pem")), 0o644);
}

#[test]
fn a_root_is_an_authority_for_its_trust_domain_and_nothing_else() {
    let (_holder, dir) = with_root();
    let pem = fs::read(dir.join("root-cert.pem")).unwrap();
    let der = CertificateDer::from_pem_slice(&pem).unwrap();
    let (_, root) = X509Certificate::from_der(&der).unwrap();
    let basic = root.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(0));
    let usage = root.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
    let names = &root.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names[..], [GeneralName::URI("spiffe://cluster.local")]);
    let life = root.validity().not_after.timestamp() - root.validity().not_before.timestamp();
    assert_eq!(life, 10 * 365 * 24 * 3600 + 60);
    assert_eq!(root.public_key().parsed().unwrap().key_size(), 256);
}

#[test]
fn a_root_is_opened_again_not_made_again() {
    let (_holder, dir) = with_root();
    let before = fs::read(dir.join("root-key.pem")).unwrap();
    let (first, second) = (open(&dir).unwrap(), open(&dir).unwrap());
    assert_eq!(first.root(), second.root());
    assert_eq!(fs::read(dir.join("root-key.pem")).unwrap(), before);
}

#[test]
fn agents_that_start_together_share_one_root() {
    let holder = tempfile::tempdir().unwrap();
    let dir = holder.path().join("deep").join("ca");
    let start = Barrier::new(16);
    let roots: Vec<CertificateDer<'static>> = thread::scope(|scope| {
        let agents: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    open(&dir).unwrap().root().clone()
                })
            })
            .collect();
        agents.into_iter().map(|agent| agent.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
    assert_eq!(open(&dir).unwrap().root(), &roots[0]);
}

#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let holder = tempfile::tempdir().unwrap();
    for loose in [0o755, 0o750, 0o701, 0o770, 0o1777] {
        let dir = holder.path().join(format!("{loose:o}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(loose)).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, CaError::DirMode { mode, .. } if mode == loose), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("chmod 700 {}", dir.display())), "{text}");
        assert_eq!(mode(&dir), loose, "the directory was changed");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "something was written");
    }
}

#[test]
fn what_belongs_to_someone_else_is_refused() {
    let (_holder, dir) = with_root();
    chown(dir.join("root-key.pem"), Some(12_345), None).unwrap();
    assert!(matches!(open(&dir), Err(CaError::Owner { owner: 12_345, .. })));
    chown(dir.join("root-key.pem"), Some(0), None).unwrap();
    open(&dir).unwrap();
    chown(&dir, Some(12_345), None).unwrap();
    assert!(matches!(open(&dir), Err(CaError::Owner { owner: 12_345, .. })));
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let holder = tempfile::tempdir().unwrap();
    let file = holder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file), Err(CaError::Io { .. })));
    assert!(matches!(open(&file.join("below")), Err(CaError::Io { .. })));
}

#[test]
fn a_file_that_others_can_use_is_refused() {
    for (name, loose) in [("root-key.pem", 0o640), ("root-key.pem", 0o604), ("root-cert.pem", 0o664)] {
        let (_holder, dir) = with_root();
        fs::set_permissions(dir.join(name), Permissions::from_mode(loose)).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, CaError::FileMode { .. }), "{name} {loose:o}: {error}");
        assert!(error.to_string().contains("chmod 6"), "{error}");
    }
}

#[test]
fn a_link_or_directory_in_place_of_a_file_is_refused() {
    for name in ["root-key.pem", "root-cert.pem"] {
        let (holder, dir) = with_root();
        fs::rename(dir.join(name), holder.path().join(name)).unwrap();
        symlink(holder.path().join(name), dir.join(name)).unwrap();
        assert!(matches!(open(&dir), Err(CaError::NotAFile { .. })), "{name}");
        fs::remove_file(dir.join(name)).unwrap();
        fs::create_dir(dir.join(name)).unwrap();
        assert!(matches!(open(&dir), Err(CaError::NotAFile { .. })), "{name}");
    }
}

#[test]
fn a_damaged_key_is_refused_without_showing_it() {
    let (_holder, dir) = with_root();
    let path = dir.join("root-key.pem");
    let whole = fs::read_to_string(&path).unwrap();
    let body = whole.lines().nth(1).unwrap().to_owned();
    let rsa_like = whole.replace("PRIVATE KEY", "CERTIFICATE");
    let cut = whole[..whole.len() / 2].to_owned();
    let flipped = whole.replacen(&body[..8], "AAAAAAAA", 1);
    for damaged in [String::new(), "garbage".to_owned(), cut, flipped, rsa_like] {
        fs::write(&path, &damaged).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, CaError::KeyUnreadable { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains("backup"), "{text}");
        assert!(!text.contains(&body[8..24]) && !format!("{error:?}").contains(&body[8..24]));
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged, "the file was changed");
    }
}

#[test]
fn a_key_of_another_curve_is_refused() {
    let (_holder, dir) = with_root();
    let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    fs::write(dir.join("root-key.pem"), other.serialize_pem()).unwrap();
    assert!(matches!(open(&dir), Err(CaError::KeyUnreadable { .. })));
}

#[test]
fn a_damaged_certificate_is_refused_with_the_reason() {
    let (_holder, dir) = with_root();
    let path = dir.join("root-cert.pem");
    let whole = fs::read_to_string(&path).unwrap();
    let der = CertificateDer::from_pem_slice(whole.as_bytes()).unwrap();
    let repack = |der: &[u8]| {
        let pem = rcgen_pem(der);
        assert!(CertificateDer::from_pem_slice(pem.as_bytes()).is_ok());
        pem
    };
    let mut flipped = der.to_vec();
    let at = flipped.windows(10).position(|part| part == b"ambit root").unwrap();
    flipped[at] ^= 1;
    let table = [
        (String::new(), "holds no certificate"),
        ("garbage\n".to_owned(), "holds no certificate"),
        (whole[..whole.len() / 2].to_owned(), "PEM is incomplete"),
        (format!("{whole}{whole}"), "2 certificates"),
        (repack(&flipped), "signature does not hold"),
        (repack(&der[..der.len() - 9]), "cannot be parsed"),
        (repack(&[der.to_vec(), vec![0]].concat()), "bytes follow"),
    ];
    for (content, reason) in table {
        fs::write(&path, &content).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, CaError::CertUnusable { .. }), "{reason}: {error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), content, "the file was changed");
    }
}

#[test]
fn a_file_of_absurd_size_is_refused() {
    let (_holder, dir) = with_root();
    fs::write(dir.join("root-cert.pem"), vec![b'x'; 1 << 20]).unwrap();
    assert!(matches!(open(&dir), Err(CaError::TooLarge { .. })));
}

#[test]
fn a_certificate_that_is_no_authority_is_refused() {
    let (_holder, dir) = with_root();
    let key = KeyPair::from_pem(&fs::read_to_string(dir.join("root-key.pem")).unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://cluster.local".try_into().unwrap())];
    fs::write(dir.join("root-cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(error.to_string().contains("CA:true"), "{error}");
}

#[test]
fn a_key_that_does_not_fit_the_certificate_is_refused() {
    let ((_one, dir), (_two, other)) = (with_root(), with_root());
    fs::copy(other.join("root-key.pem"), dir.join("root-key.pem")).unwrap();
    assert!(matches!(open(&dir), Err(CaError::KeyMismatch { .. })));
}

#[test]
fn the_root_of_another_trust_domain_is_refused() {
    let (_holder, dir) = with_root();
    let error = CertificateAuthority::open_or_create(&dir, "prod.example").unwrap_err();
    assert!(
        matches!(&error, CaError::OtherTrustDomain { found, wanted, .. }
            if found == DOMAIN && wanted == "prod.example"),
        "{error}"
    );
}

#[test]
fn a_root_out_of_its_time_is_refused() {
    let (_holder, dir) = with_root();
    let now = SystemTime::now();
    for now in [now + LONGEST_LIFETIME + HOUR, now - HOUR] {
        let error = CertificateAuthority::open_at(&dir, DOMAIN, LONGEST_LIFETIME, now).unwrap_err();
        assert!(matches!(error, CaError::RootNotValid { .. }), "{error}");
        assert!(error.to_string().contains("check the clock"), "{error}");
    }
}

#[test]
fn a_name_that_is_no_trust_domain_is_refused_before_anything_is_written() {
    let holder = tempfile::tempdir().unwrap();
    let dir = holder.path().join("ca");
    for name in ["", "a/b", "Cluster.Local", "spiffe://x", "a b", "x/ns/y/sa/z", "ü", &"a".repeat(300)] {
        let error = CertificateAuthority::open_or_create(&dir, name).unwrap_err();
        assert!(matches!(error, CaError::TrustDomain { .. }), "{name}: {error}");
    }
    assert!(!dir.exists());
}

#[test]
fn a_root_whose_certificate_was_never_written_is_completed() {
    let (_holder, dir) = with_root();
    let before = open(&dir).unwrap();
    let leaf = before.issue(&id("web"), HOUR, SystemTime::now()).unwrap();
    let key = fs::read(dir.join("root-key.pem")).unwrap();
    fs::remove_file(dir.join("root-cert.pem")).unwrap();
    let after = open(&dir).unwrap();
    assert_eq!(fs::read(dir.join("root-key.pem")).unwrap(), key);
    // What was issued before still chains to what peers read now.
    let anchor = webpki::anchor_from_trusted_cert(after.root()).unwrap();
    let leaf = webpki::EndEntityCert::try_from(&leaf.chain[0]).unwrap();
    leaf.verify_for_usage(
        &[webpki::aws_lc_rs::ECDSA_P256_SHA256],
        &[anchor],
        &[],
        rustls::pki_types::UnixTime::now(),
        webpki::KeyUsage::client_auth(),
        None,
        None,
    )
    .unwrap();
}

#[test]
fn what_a_killed_agent_left_behind_is_replaced() {
    let holder = tempfile::tempdir().unwrap();
    let dir = holder.path().join("ca");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    for name in ["root-key.pem", "root-cert.pem"] {
        fs::write(dir.join(format!(".{name}.new")), "-----BEGIN half").unwrap();
    }
    open(&dir).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [".lock", "root-cert.pem", "root-key.pem"]);
}

#[test]
fn a_certificate_without_its_key_is_refused_and_kept() {
    let (_holder, dir) = with_root();
    fs::remove_file(dir.join("root-key.pem")).unwrap();
    let cert = fs::read(dir.join("root-cert.pem")).unwrap();
    assert!(matches!(open(&dir), Err(CaError::KeyMissing { .. })));
    assert_eq!(fs::read(dir.join("root-cert.pem")).unwrap(), cert);
    assert!(!dir.join("root-key.pem").exists());
}

/// Writes DER as a PEM certificate.
fn rcgen_pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for part in der.chunks(3) {
        let word = u32::from_be_bytes([
            0,
            part[0],
            part.get(1).copied().unwrap_or(0),
            part.get(2).copied().unwrap_or(0),
        ]);
        for digit in 0..4 {
            let index = word >> (18 - 6 * digit) & 0x3f;
            body.push(if digit > part.len() { '=' } else { ALPHABET[index as usize] as char });
        }
    }
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
