//! What the tests of this module share: authorities on disk, certificates of any shape, and a handshake.
//!
//! Nothing here stands in for the real thing: keys, chains and TLS are real.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ambit_core::identity::SpiffeId;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::ca::CertificateAuthority;
use super::tls::{self, Configs, PeerIdentity, TlsError, Trust};

pub(super) const TRUST_DOMAIN: &str = "cluster.local";
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Returns the identity of a service account of namespace `shop`.
pub(super) fn id(service_account: &str) -> SpiffeId {
    SpiffeId::new(TRUST_DOMAIN, "shop", service_account).unwrap()
}

/// An authority in a directory of its own.
pub(super) struct Authority {
    pub(super) ca: Arc<CertificateAuthority>,
    pub(super) dir: PathBuf,
    _holder: TempDir,
}

/// Makes an authority for the trust domain of the tests.
pub(super) fn authority() -> Authority {
    let holder = tempfile::tempdir().unwrap();
    let dir = holder.path().join("ca");
    let ca = Arc::new(CertificateAuthority::open_or_create(&dir, TRUST_DOMAIN).unwrap());
    Authority { ca, dir, _holder: holder }
}

/// A certificate to be made by hand, because the authority would not make it.
pub(super) struct Leaf {
    pub(super) uris: Vec<&'static str>,
    pub(super) dns: Vec<&'static str>,
    pub(super) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(super) validity: (SystemTime, SystemTime),
}

impl Default for Leaf {
    fn default() -> Self {
        let now = SystemTime::now();
        Self {
            uris: vec!["spiffe://cluster.local/ns/shop/sa/odd"],
            dns: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            validity: (now - HOUR, now + HOUR),
        }
    }
}

impl Leaf {
    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uris = self.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let dns = self.dns.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(dns).collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = self.usages.clone();
        (params.not_before, params.not_after) = (self.validity.0.into(), self.validity.1.into());
        params
    }

    /// Signs it with the root in `dir`.
    pub(super) fn signed_by(&self, dir: &Path) -> CertifiedKey {
        let root_key = std::fs::read_to_string(dir.join("root-key.pem")).unwrap();
        let root_cert = std::fs::read_to_string(dir.join("root-cert.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&root_cert, KeyPair::from_pem(&root_key).unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = self.params().signed_by(&key, &issuer).unwrap();
        certified(vec![cert.into()], &key)
    }

    /// Signs it with the key of a workload, which sends its own certificate along as if it were an authority.
    pub(super) fn signed_by_workload(&self, dir: &Path) -> CertifiedKey {
        let root_key = std::fs::read_to_string(dir.join("root-key.pem")).unwrap();
        let root_cert = std::fs::read_to_string(dir.join("root-cert.pem")).unwrap();
        let root = Issuer::from_ca_cert_pem(&root_cert, KeyPair::from_pem(&root_key).unwrap()).unwrap();
        let workload_key = KeyPair::generate().unwrap();
        let workload: CertificateDer<'static> =
            Leaf::default().params().signed_by(&workload_key, &root).unwrap().into();
        let issuer = Issuer::from_ca_cert_der(&workload, workload_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = self.params().signed_by(&key, &issuer).unwrap();
        certified(vec![cert.into(), workload], &key)
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> CertifiedKey {
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    CertifiedKey::new(chain, tls::provider().key_provider.load_private_key(der.into()).unwrap())
}

/// Trusts the trust domain of the tests, and `aliases`, under the root of `authority`.
pub(super) fn trust(authority: &Authority, aliases: &[&str]) -> Trust {
    let domains: BTreeSet<String> =
        aliases.iter().chain(&[TRUST_DOMAIN]).map(|domain| (*domain).to_owned()).collect();
    Trust::new(authority.ca.root(), domains).unwrap()
}

/// Returns the configurations of a certificate that the authority issues for `id`.
pub(super) fn issued(authority: &Authority, trust: &Trust, id: &SpiffeId) -> Configs {
    let issued = authority.ca.issue(id, HOUR, SystemTime::now()).unwrap();
    Configs::new(trust, CertifiedKey::new(issued.chain, issued.key), issued.not_after).unwrap()
}

/// Returns the configurations of a hand-made certificate, offered whether it is valid or not.
pub(super) fn offered(trust: &Trust, certified: CertifiedKey) -> Configs {
    Configs::new(trust, certified, SystemTime::now() + HOUR).unwrap()
}

/// A connection whose two ends have proved themselves to each other.
pub(super) struct Connected {
    pub(super) client: tls::Secured<DuplexStream>,
    pub(super) server: tls::Secured<DuplexStream>,
    /// Who the client saw.
    pub(super) seen_by_client: PeerIdentity,
    /// Who the server saw.
    pub(super) seen_by_server: PeerIdentity,
}

impl Connected {
    /// Sends bytes through the connection and back.
    pub(super) async fn echo(&mut self) {
        let mut got = [0; 4];
        self.client.write_all(b"ping").await.unwrap();
        self.server.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
        self.server.write_all(b"pong").await.unwrap();
        self.client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"pong");
    }
}

/// Returns both ends of a connection, the connecting one first.
pub(crate) async fn secured() -> (tls::Secured<DuplexStream>, tls::Secured<DuplexStream>) {
    let authority = authority();
    let trust = trust(&authority, &[]);
    let (web, cart) = (issued(&authority, &trust, &id("web")), issued(&authority, &trust, &id("cart")));
    let connected = handshake(web.client(&[id("cart")]), cart.server()).await.ok().unwrap();
    (connected.client, connected.server)
}

/// What each end made of a handshake that did not succeed on both.
pub(super) struct Refused {
    /// The error of the connecting side: of the handshake, or of the first read.
    pub(super) client: Result<PeerIdentity, TlsError>,
    /// The error of the accepting side.
    pub(super) server: Result<PeerIdentity, TlsError>,
}

impl Refused {
    /// Returns what the connecting side reports, with its causes.
    pub(super) fn client_error(&self) -> String {
        text(self.client.as_ref().unwrap_err())
    }

    /// Returns what the accepting side reports, with its causes.
    pub(super) fn server_error(&self) -> String {
        text(self.server.as_ref().unwrap_err())
    }

    /// Returns the alert that one of the two sides received.
    pub(super) fn alert(&self) -> Option<AlertDescription> {
        [&self.client, &self.server].into_iter().find_map(|side| match side {
            Err(TlsError::Handshake { source }) => {
                match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                    Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
                    _ => None,
                }
            }
            _ => None,
        })
    }
}

fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}

/// Connects two configurations over a pipe in memory.
pub(super) async fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<Connected, Refused> {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (connected, accepted) = tokio::join!(tls::connect(near, client), tls::accept(far, server));
    match (connected, accepted) {
        (Ok((client, seen_by_client)), Ok((server, seen_by_server))) => {
            Ok(Connected { client, server, seen_by_client, seen_by_server })
        }
        (Ok((mut client, seen)), Err(error)) => {
            // The connecting side learns of the refusal when it reads.
            let told = match client.read_u8().await {
                Ok(_) => Ok(seen),
                Err(source) => Err(TlsError::Handshake { source }),
            };
            Err(Refused { client: told, server: Err(error) })
        }
        (Err(error), accepted) => Err(Refused { client: Err(error), server: accepted.map(|(_, seen)| seen) }),
    }
}

/// Expects a handshake to fail.
pub(super) async fn refusal(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Refused {
    match handshake(client, server).await {
        Ok(connected) => {
            panic!("accepted: {} and {}", connected.seen_by_client.id, connected.seen_by_server.id)
        }
        Err(refused) => refused,
    }
}
