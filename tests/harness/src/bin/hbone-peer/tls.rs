//! Mutual TLS as PROTOCOLS.md describes it: no SNI, ALPN h2, the far side known by its one URI.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::identity::Credentials;

/// Where a tunnel goes, and as whom.
#[derive(Clone, clap::Args)]
pub(crate) struct Target {
    /// The pod that is called.
    pub(crate) to: IpAddr,
    /// The port of its tunnels.
    #[arg(long, default_value_t = 15008)]
    tunnel_port: u16,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    /// Refuses a far side with another identity.
    #[arg(long)]
    expect: Option<String>,
    /// Offers TLS 1.2 only.
    #[arg(long)]
    tls12: bool,
    /// How long each step may take.
    #[arg(long, default_value = "8s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

impl Target {
    pub(crate) fn address(&self) -> SocketAddr {
        (self.to, self.tunnel_port).into()
    }

    /// Connects, and performs the handshake; also returns what was settled.
    pub(crate) async fn open(&self) -> Result<(TlsStream<TcpStream>, Value)> {
        let tcp = TcpStream::connect(self.address()).await.context("tcp")?;
        tcp.set_nodelay(true).context("tcp")?;
        let local = tcp.local_addr().context("tcp")?;
        let versions: &[&'static SupportedProtocolVersion] =
            if self.tls12 { &[&rustls::version::TLS12] } else { &[&rustls::version::TLS13] };
        let verifier = Arc::new(Chain { root: roots(&self.credentials)?, provider: provider() });
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.credentials.issue()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).context("use the certificate")?,
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = false;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let unused = ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let tls = TlsConnector::from(Arc::new(config)).connect(unused, tcp).await.context("tls")?;
        let session = tls.get_ref().1;
        let server = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .context("the far side shows no certificate")?;
        let uris = uris(server)?;
        if let Some(expected) = &self.expect {
            ensure!(uris == [expected.clone()], "the far side is {uris:?}");
        }
        let facts = json!({
            "server": uris,
            "version": session.protocol_version().map(|version| format!("{version:?}")),
            "suite": session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
            "group": session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name())),
            "alpn": session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            "local": local,
        });
        Ok((tls, facts))
    }
}

/// Returns the configuration of the accepting side.
pub(crate) fn server(credentials: &Credentials) -> Result<Arc<ServerConfig>> {
    let clients = WebPkiClientVerifier::builder_with_provider(roots(credentials)?, provider()).build()?;
    let (chain, key) = credentials.issue()?.context("a server needs a certificate")?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .context("use the certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Returns the URIs that a certificate names.
pub(crate) fn uris(certificate: &CertificateDer<'_>) -> Result<Vec<String>> {
    let (_, parsed) = X509Certificate::from_der(certificate).context("parse the far side's certificate")?;
    let names = parsed.subject_alternative_name().context("read its names")?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Ok(names.filter_map(uri).collect())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(credentials: &Credentials) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(credentials.root()?).context("trust the root")?;
    Ok(Arc::new(roots))
}

/// Trusts whoever chains to the root; the name is looked at after the handshake.
#[derive(Debug)]
struct Chain {
    root: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.root,
            intermediates,
            now,
            algorithms,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
