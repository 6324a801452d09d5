//! Mutual TLS between agents: what is offered, and the two ends of a handshake.
//!
//! It owns the cryptographic choices and the rustls configurations. How a peer's certificate is judged is in
//! `verify`; whether the peer may connect is policy, decided elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use ambit_core::identity::SpiffeId;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};

use offer::Offer;
use record::Records;
pub use secured::Secured;
pub(crate) use secured::{Arrival, Reading};
use verify::{PeerError, TrustedClients, TrustedServer};

mod handshake;
mod offer;
pub(crate) mod record;
mod secured;
pub mod verify;

#[cfg(test)]
mod tests;

/// The application protocol that every mesh speaks: HTTP/2, which carries HBONE tunnels.
pub const ALPN_H2: &[u8] = b"h2";
/// The application protocol between two agents of ambit.
pub const ALPN_TRUNK: &[u8] = b"ambit/1";

/// What two agents speak inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HBONE.
    Http2,
    /// Frames of ambit's own.
    Trunk,
}

/// Why a TLS configuration could not be built or a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The trust bundle or the key cannot be used.
    #[error("build the TLS configuration")]
    Config {
        /// Why.
        source: rustls::Error,
    },
    /// The bundle of the client verifier was refused.
    #[error("build the verifier of client certificates")]
    Verifier {
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
    /// The peer's certificate is good, but the peer is not who it must be.
    #[error("refuse the peer")]
    Peer {
        /// Why.
        source: PeerError,
    },
    /// The handshake failed: a certificate that does not verify, no common parameters, or a broken connection.
    #[error("TLS handshake{}", hint(source))]
    Handshake {
        /// Why.
        source: io::Error,
    },
}

/// Says in plain words what a failed handshake means for whoever runs the mesh; empty where nothing can be added.
fn hint(error: &io::Error) -> &'static str {
    use rustls::{CertificateError as Certificate, Error};
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return "" };
    match error {
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            " (the peer's certificate was signed by another root: do both nodes use the same --ca-dir?)"
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            " (the peer's certificate has expired: does its agent run, and do the clocks agree?)"
        }
        Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            " (the peer's certificate is not valid yet: do the clocks agree?)"
        }
        Error::NoCertificatesPresented => " (the peer shows no certificate: it is outside the mesh)",
        Error::PeerIncompatible(_) => " (the peer does not speak TLS 1.3 as the mesh does)",
        Error::AlertReceived(_) => " (the peer refuses this side: its log says why)",
        _ => "",
    }
}

/// Who a verified peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its SPIFFE identity.
    pub id: SpiffeId,
    /// When its certificate expires.
    pub not_after: SystemTime,
}

/// Returns the cryptography of the mesh: TLS 1.3 suites with AES-GCM, and a hybrid post-quantum key exchange first.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![
                aws_lc_rs::kx_group::X25519MLKEM768,
                aws_lc_rs::kx_group::X25519,
                aws_lc_rs::kx_group::SECP256R1,
            ],
            ..aws_lc_rs::default_provider()
        })
    });
    &PROVIDER
}

/// What a node trusts, shared by all its configurations: the bundle and the trust domains.
#[derive(Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    clients: Arc<TrustedClients>,
}

impl Trust {
    /// Trusts identities of `trust_domains` (the node's own and its aliases) that chain to `root`.
    ///
    /// # Errors
    /// When the root cannot be a trust anchor.
    pub fn new(root: &CertificateDer<'static>, trust_domains: BTreeSet<String>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).map_err(|source| TlsError::Config { source })?;
        let roots = Arc::new(roots);
        let clients = TrustedClients::new(Arc::clone(&roots), trust_domains)
            .map_err(|source| TlsError::Verifier { source })?;
        Ok(Self { roots, clients: Arc::new(clients) })
    }
}

/// The configurations of one certificate.
#[derive(Debug)]
pub(crate) struct Configs {
    roots: Arc<RootCertStore>,
    server: Arc<ServerConfig>,
    client: ClientConfig,
}

impl Configs {
    /// Builds the configurations that offer `certified` until `not_after`.
    pub(crate) fn new(
        trust: &Trust,
        certified: CertifiedKey,
        not_after: SystemTime,
    ) -> Result<Self, TlsError> {
        let offer = Arc::new(Offer::new(certified, not_after));
        let config = |source| TlsError::Config { source };

        let mut server = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .with_client_cert_verifier(Arc::clone(&trust.clients) as Arc<_>)
            .with_cert_resolver(Arc::clone(&offer) as Arc<_>);
        server.alpn_protocols = vec![ALPN_TRUNK.to_vec(), ALPN_H2.to_vec()];
        // No resumption on either side: a resumed session skips the certificates, and each connection must
        // prove an identity that is valid now. Tunnels are pooled, so few handshakes are lost by it.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        // The keys of a connection leave rustls for this process's own records.
        server.enable_secret_extraction = true;

        let mut client = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustedServer::new(Arc::clone(&trust.roots), &[])))
            .with_client_cert_resolver(offer);
        client.alpn_protocols = vec![ALPN_TRUNK.to_vec(), ALPN_H2.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_secret_extraction = true;
        // A name would tell the wire which service is called, and the peer has no use for it.
        client.enable_sni = false;

        Ok(Self { roots: Arc::clone(&trust.roots), server: Arc::new(server), client })
    }

    /// Returns the configuration of the accepting side.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Returns a configuration of the connecting side that accepts the peers `expected` and no other.
    ///
    /// Cheap: all that is costly (provider, roots, key) is shared with every other configuration.
    pub(crate) fn client(&self, expected: &[SpiffeId]) -> Arc<ClientConfig> {
        let mut client = self.client.clone();
        let verifier = TrustedServer::new(Arc::clone(&self.roots), expected);
        client.dangerous().set_certificate_verifier(Arc::new(verifier));
        Arc::new(client)
    }
}

/// Performs the accepting side of the handshake, and says who the peer is.
///
/// Has no time-out: the caller bounds how long a peer may take.
///
/// # Errors
/// `Handshake` or `Peer`; the peer has been told by an alert where TLS has one.
pub async fn accept<S>(stream: S, config: Arc<ServerConfig>) -> Result<(Secured<S>, PeerIdentity), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let side = UnbufferedServerConnection::new(config).map_err(|source| TlsError::Config { source })?;
    secure(side, stream).await
}

/// Performs the connecting side of the handshake, and says who the peer is.
///
/// In TLS 1.3 this side is done before the other has judged it: a refusal by the peer comes as an error of the
/// first read. Has no time-out: the caller bounds how long a peer may take.
///
/// # Errors
/// `Handshake` or `Peer`; the peer has been told by an alert where TLS has one.
pub async fn connect<S>(stream: S, config: Arc<ClientConfig>) -> Result<(Secured<S>, PeerIdentity), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // rustls wants a name; with SNI off and a verifier that ignores names it goes nowhere.
    let unused = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let side =
        UnbufferedClientConnection::new(config, unused).map_err(|source| TlsError::Config { source })?;
    secure(side, stream).await
}

async fn secure<S, C>(mut side: C, mut stream: S) -> Result<(Secured<S>, PeerIdentity), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    C: handshake::Side,
{
    let arrived = handshake::complete(&mut side, &mut stream).await.map_err(handshake_error)?;
    let peer = peer_identity(side.common()).map_err(|source| TlsError::Peer { source })?;
    let protocol = protocol_of(side.common()).ok_or(TlsError::Peer { source: PeerError::NotH2 })?;
    #[cfg(test)]
    let negotiated = Negotiated::of(side.common());
    let records = side.into_keys().and_then(|(secrets, schedule)| Records::new(&secrets, schedule));
    let records = records.map_err(|error| TlsError::Handshake { source: handshake::invalid(error) })?;
    let secured = Secured::new(
        stream,
        records,
        protocol,
        arrived,
        #[cfg(test)]
        negotiated,
    );
    Ok((secured, peer))
}

/// Returns what both sides agreed to speak, if that is something that ambit speaks.
fn protocol_of(connection: &CommonState) -> Option<Protocol> {
    match connection.alpn_protocol() {
        Some(ALPN_H2) => Some(Protocol::Http2),
        Some(ALPN_TRUNK) => Some(Protocol::Trunk),
        _ => None,
    }
}

/// What a handshake settled on.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Negotiated {
    group: Option<rustls::NamedGroup>,
    version: Option<rustls::ProtocolVersion>,
    suite: Option<rustls::CipherSuite>,
    kind: Option<rustls::HandshakeKind>,
}

#[cfg(test)]
impl Negotiated {
    fn of(connection: &CommonState) -> Self {
        Self {
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
            version: connection.protocol_version(),
            suite: connection.negotiated_cipher_suite().map(|suite| suite.suite()),
            kind: connection.handshake_kind(),
        }
    }
}

/// Returns who is at the other end of a connection whose handshake is complete.
///
/// # Errors
/// The handshake is not complete, did not settle on HTTP/2, or the certificate names no identity.
pub fn peer_identity(connection: &CommonState) -> Result<PeerIdentity, PeerError> {
    let certificate =
        connection.peer_certificates().and_then(<[_]>::first).ok_or(PeerError::NoCertificate)?;
    // The accepting side refuses this within the handshake; rustls leaves it to the connecting side.
    if protocol_of(connection).is_none() {
        return Err(PeerError::NotH2);
    }
    verify::identity_of(certificate)
}

/// Finds the verdict of our own verifiers inside the error of the handshake.
fn handshake_error(source: io::Error) -> TlsError {
    let refused = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match refused.and_then(PeerError::from_tls) {
        Some(source) => TlsError::Peer { source },
        None => TlsError::Handshake { source },
    }
}
