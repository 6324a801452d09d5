//! Certificates of the peer, right or wrong in one respect, signed with the testbed's own root.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

const HOUR: Duration = Duration::from_secs(3600);

/// Who the peer says it is, and how it proves it.
#[derive(Clone, clap::Args)]
pub(crate) struct Credentials {
    /// The folder of the testbed's root certificate and key.
    #[arg(long)]
    ca: PathBuf,
    /// The SPIFFE id of the peer.
    #[arg(long, default_value = "spiffe://cluster.local/ns/elsewhere/sa/peer")]
    id: String,
    /// What is wrong with its certificate.
    #[arg(long, value_enum, default_value_t = Kind::Valid)]
    cert: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Nothing.
    Valid,
    /// It expired an hour ago.
    Expired,
    /// It is valid from an hour on.
    Future,
    /// Another root of the same name signed it.
    Foreign,
    /// It names two identities.
    TwoUris,
    /// It names no identity, but a host.
    NoUri,
    /// There is none.
    None,
}

/// A chain, leaf first, and its key.
pub(crate) type Certified = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Credentials {
    /// Reads the root certificate.
    pub(crate) fn root(&self) -> Result<CertificateDer<'static>> {
        let pem = read(&self.ca, "root-cert.pem")?;
        CertificateDer::from_pem_slice(pem.as_bytes()).context("parse the root certificate")
    }

    /// Issues the certificate; `None` when the peer is to show none.
    pub(crate) fn issue(&self) -> Result<Option<Certified>> {
        if self.cert == Kind::None {
            return Ok(None);
        }
        let authority = match self.cert {
            Kind::Foreign => KeyPair::generate().context("make a foreign root's key")?,
            _ => KeyPair::from_pem(&read(&self.ca, "root-key.pem")?).context("parse the root key")?,
        };
        let issuer = Issuer::from_ca_cert_pem(&read(&self.ca, "root-cert.pem")?, authority)
            .context("take up the root")?;
        let key = KeyPair::generate().context("make a key")?;
        let leaf = self.content()?.signed_by(&key, &issuer).context("sign the certificate")?;
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Some((vec![leaf.into(), self.root()?], der.into())))
    }

    fn content(&self) -> Result<CertificateParams> {
        let uri = |text: &str| text.to_owned().try_into().map(SanType::URI).context("name an identity");
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = match self.cert {
            Kind::Expired => (now - 2 * HOUR, now - HOUR),
            Kind::Future => (now + HOUR, now + 2 * HOUR),
            _ => (now - HOUR / 60, now + HOUR),
        };
        params.subject_alt_names = match self.cert {
            Kind::NoUri => vec![SanType::DnsName("peer.elsewhere.svc".to_owned().try_into()?)],
            Kind::TwoUris => vec![uri(&self.id)?, uri("spiffe://cluster.local/ns/elsewhere/sa/other")?],
            _ => vec![uri(&self.id)?],
        };
        Ok(params)
    }
}

fn read(folder: &Path, name: &str) -> Result<String> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}
