//! How a peer's certificate is judged, inside the handshake, on both sides.
//!
//! It owns the rule: the chain ends at the bundle, the certificate names exactly one SPIFFE identity, and that
//! identity is of a trusted domain (accepting) or one of those expected (connecting). DNS names are ignored.

use std::collections::BTreeSet;
use std::sync::Arc;

use ambit_core::identity::{SpiffeId, SpiffeIdError};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{PeerIdentity, provider};
use crate::identity::ca::issue;

/// A name of a hostile certificate is shown up to this length.
const SHOWN_NAME: usize = 200;

/// Why a peer with a certificate from the right authority is refused all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no certificate, or the handshake is not complete.
    #[error("the peer has shown no certificate")]
    NoCertificate,
    /// The connection settled on another protocol, or on none.
    #[error("the peer does not speak the protocol h2")]
    NotH2,
    /// The certificate, or its list of names, cannot be parsed.
    #[error("the peer's certificate cannot be parsed: {part}")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
    /// There is no URI among the names.
    #[error("the peer's certificate names no SPIFFE identity")]
    NoIdentity,
    /// SPIFFE allows one URI; with several, two readers could see two identities.
    #[error("the peer's certificate has {count} URI names, exactly one is allowed")]
    SeveralUris {
        /// How many.
        count: usize,
    },
    /// The URI is not of the form that ambit knows.
    #[error("the peer's name `{uri}` is no SPIFFE identity")]
    NotSpiffe {
        /// The URI, escaped and cut.
        uri: String,
        /// Why.
        source: SpiffeIdError,
    },
    /// The identity belongs to a trust domain that is neither ours nor an alias.
    #[error("the trust domain of {id} is not trusted: add it to the trust domain aliases if it should be")]
    ForeignTrustDomain {
        /// Who the peer is.
        id: SpiffeId,
    },
    /// Another workload answers.
    #[error("the peer is {id}, not {}", join(expected))]
    Unexpected {
        /// Who the peer is.
        id: SpiffeId,
        /// Who it could have been.
        expected: Arc<[SpiffeId]>,
    },
}

impl PeerError {
    /// Finds the verdict inside an error of rustls.
    pub(super) fn from_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref::<Self>().cloned()
            }
            _ => None,
        }
    }

    /// Wraps the verdict for rustls, which tells the peer `certificate_unknown` and keeps the reason for us.
    fn into_tls(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

fn join(ids: &[SpiffeId]) -> String {
    ids.iter().map(SpiffeId::to_string).collect::<Vec<_>>().join(" or ")
}

/// Reads the one SPIFFE identity of a certificate. Says nothing about its validity.
pub(super) fn identity_of(certificate: &CertificateDer<'_>) -> Result<PeerIdentity, PeerError> {
    let malformed = |part| move |_| PeerError::Malformed { part };
    let (rest, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| PeerError::Malformed { part: "its encoding" })?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed { part: "bytes follow it" });
    }
    let names = parsed
        .subject_alternative_name()
        .map_err(malformed("its alternative names"))?
        .map_or(&[][..], |names| &names.value.general_names);
    if names.iter().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return Err(PeerError::Malformed { part: "its alternative names" });
    }
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let uri = match uris[..] {
        [uri] => uri,
        [] => return Err(PeerError::NoIdentity),
        _ => return Err(PeerError::SeveralUris { count: uris.len() }),
    };
    let id = SpiffeId::parse(uri).map_err(|source| PeerError::NotSpiffe {
        uri: uri.escape_default().take(SHOWN_NAME).collect(),
        source,
    })?;
    let not_after = issue::from_timestamp(parsed.validity().not_after.timestamp());
    Ok(PeerIdentity { id, not_after })
}

/// Judges clients: any identity of the trusted domains.
#[derive(Debug)]
pub(super) struct TrustedClients {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domains: BTreeSet<String>,
}

impl TrustedClients {
    /// Trusts identities of `trust_domains` that chain to `roots`.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        trust_domains: BTreeSet<String>,
    ) -> Result<Self, VerifierBuilderError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider()))
            // A client of the mesh has one certificate: a hint would only tell strangers who we are.
            .clear_root_hint_subjects()
            .build()?;
        Ok(Self { chain, trust_domains })
    }
}

impl ClientCertVerifier for TrustedClients {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let peer = identity_of(end_entity).map_err(PeerError::into_tls)?;
        if self.trust_domains.contains(peer.id.trust_domain()) {
            Ok(verified)
        } else {
            Err(PeerError::ForeignTrustDomain { id: peer.id }.into_tls())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Judges the server of one connection: one of the expected identities.
#[derive(Debug)]
pub(super) struct TrustedServer {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    expected: Arc<[SpiffeId]>,
}

impl TrustedServer {
    /// Trusts the identities `expected` if they chain to `roots`; nobody if there are none.
    pub(super) fn new(roots: Arc<RootCertStore>, expected: &[SpiffeId]) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { roots, algorithms, expected: expected.into() }
    }
}

impl ServerCertVerifier for TrustedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let peer = identity_of(end_entity).map_err(PeerError::into_tls)?;
        if self.expected.contains(&peer.id) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(PeerError::Unexpected { id: peer.id, expected: Arc::clone(&self.expected) }.into_tls())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
