//! Whether the certificate of the other side opens a port: its chain by `WebPKI`, and then what it
//! says that it is for.

use crate::certificate::Facts;
use crate::identity::{Identity, Role};
use crate::mode::ClientAuth;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// Whom a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// Nodes of the cluster. Both sides show a certificate.
    Peers,
    /// Clients.
    Clients(ClientAuth),
    /// Operators, who may show a certificate.
    Admin,
}

impl Port {
    const fn admits(self, role: &Role) -> bool {
        match self {
            Self::Peers => matches!(role, Role::Peer(_)),
            Self::Clients(_) => matches!(role, Role::Client(_)),
            Self::Admin => matches!(role, Role::Admin),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers",
            Self::Clients(_) => "clients",
            Self::Admin => "admins",
        }
    }
}

/// A certificate of good descent that is for something else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Misplaced {
    #[error("the certificate says {found}, and this port is for {wanted} of cluster {cluster:?}")]
    Identity { found: Identity, wanted: &'static str, cluster: String },
    #[error("the certificate does not say what it is for: {0}")]
    Unclear(String),
}

/// The rule of a port about identities.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) cluster: String,
    pub(crate) port: Port,
}

impl Rule {
    /// Checks a certificate whose chain was verified, or is the node's own.
    pub(crate) fn check(&self, certificate: &CertificateDer<'_>) -> Result<Identity, Misplaced> {
        let found =
            Facts::of(certificate).and_then(|facts| facts.identity).map_err(Misplaced::Unclear)?;
        if found.cluster == self.cluster && self.port.admits(&found.role) {
            return Ok(found);
        }
        let (wanted, cluster) = (self.port.name(), self.cluster.clone());
        Err(Misplaced::Identity { found, wanted, cluster })
    }

    fn verify(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let refuse = |reason| CertificateError::Other(OtherError(Arc::new(reason)));
        self.check(certificate).map(drop).map_err(|reason| refuse(reason).into())
    }
}

/// Judges those that come to a port.
#[derive(Debug)]
pub(crate) struct ComingVerifier {
    pub(crate) chain: Arc<dyn ClientCertVerifier>,
    pub(crate) rule: Rule,
}

impl ClientCertVerifier for ComingVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A stranger learns nothing about whom this node trusts.
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, intermediates, now)?;
        self.rule.verify(certificate)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Judges a peer that was dialled. The peer is known by its URI: its address may be anything.
#[derive(Debug)]
pub(crate) struct DialledVerifier {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) rule: Rule,
}

impl ServerCertVerifier for DialledVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.rule.verify(certificate)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
