//! The files of a node's TLS, read and checked, and what rustls makes of them.

use crate::certificate::Facts;
use crate::mode::ClientAuth;
use crate::stream::explain_tls;
use crate::verifier::{ComingVerifier, DialledVerifier, Port, Rule};
use crate::{Identity, Own, Role};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, version};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The protocol between peers, as ALPN names it.
pub(crate) const PEERS_PROTOCOL: &[u8] = b"logboat-peers";

/// Where a node's certificate, its key, and the certificates that it trusts lie, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and the trusted one, if any.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The certificates of the authorities that the node trusts.
    pub ca: PathBuf,
}

/// Why TLS can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files don't fit each other.
    #[error("the certificate in {} is of no use: {reason}", path.display())]
    Certificate {
        /// The file of the certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the files amount to, ready for connections.
pub(crate) struct Material {
    peers: Arc<ServerConfig>,
    /// By [`ClientAuth`].
    clients: [Arc<ServerConfig>; 3],
    admin: Arc<ServerConfig>,
    pub(crate) dialled_peers: Arc<ClientConfig>,
    /// The only node that may show the node's certificate to peers, if that names one.
    pub(crate) bound_to: Option<u64>,
    /// Until when the node's certificate holds.
    pub(crate) cert_not_after: SystemTime,
    /// Until when the last of the trusted certificates holds.
    pub(crate) ca_not_after: SystemTime,
}

impl Material {
    /// Reads the files and checks them against each other and against the time.
    pub(crate) fn load(files: &TlsFiles, cluster: &str, own: Own) -> Result<Self, TlsError> {
        let now = SystemTime::now();
        let provider = Arc::new(crate::crypto());
        let (roots, ca_not_after) = roots(&files.ca, now)?;
        let (certified, facts) = certified(files, &provider)?;
        let useless = |reason| TlsError::Certificate { path: files.cert.clone(), reason };
        facts.check_time(now).map_err(useless)?;
        if let Own::Peer(node) = own {
            let chain = &certified.cert;
            check_own(chain, &roots, &provider, cluster, node).map_err(useless)?;
        }
        let bound_to = bound_to(&certified.cert, cluster);
        let builder = Builder { provider, roots, certified: Arc::new(certified), cluster };
        let coming = |port| builder.coming(port).map_err(useless);
        Ok(Self {
            peers: coming(Port::Peers)?,
            clients: [
                coming(Port::Clients(ClientAuth::None))?,
                coming(Port::Clients(ClientAuth::Optional))?,
                coming(Port::Clients(ClientAuth::Required))?,
            ],
            admin: coming(Port::Admin)?,
            dialled_peers: builder.dialled_peers().map_err(useless)?,
            bound_to,
            cert_not_after: facts.not_after,
            ca_not_after,
        })
    }

    /// For those that come to a port.
    pub(crate) fn coming(&self, port: Port) -> Arc<ServerConfig> {
        Arc::clone(match port {
            Port::Peers => &self.peers,
            Port::Clients(auth) => &self.clients[auth as usize],
            Port::Admin => &self.admin,
        })
    }
}

/// The trusted certificates that hold now, and until when the last of them does.
fn roots(path: &Path, now: SystemTime) -> Result<(Arc<RootCertStore>, SystemTime), TlsError> {
    let wrong = |reason| TlsError::Content { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    let mut last = None;
    let mut outdated = None;
    for certificate in certificates(path)? {
        let facts = Facts::of(&certificate).map_err(wrong)?;
        if let Err(reason) = facts.check_time(now) {
            outdated = Some(reason);
            continue;
        }
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        last = last.max(Some(facts.not_after));
    }
    match (last, outdated) {
        (Some(last), _) => Ok((Arc::new(roots), last)),
        (None, Some(reason)) => Err(wrong(format!("no certificate in it holds now: {reason}"))),
        (None, None) => Err(wrong("there is no certificate in it".to_owned())),
    }
}

/// The node's certificate with its key.
fn certified(
    files: &TlsFiles,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Facts), TlsError> {
    let wrong = |path: &Path, reason| TlsError::Content { path: path.to_owned(), reason };
    let chain = certificates(&files.cert)?;
    let Some(first) = chain.first() else {
        return Err(wrong(&files.cert, "there is no certificate in it".to_owned()));
    };
    let facts = Facts::of(first).map_err(|reason| wrong(&files.cert, reason))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| wrong(&files.key, format!("there is no key in it: {error}")))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| wrong(&files.key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|_| {
        let reason = format!("it is not the key of the certificate in {}", files.cert.display());
        wrong(&files.key, reason)
    })?;
    Ok((certified, facts))
}

/// The node that a certificate is of, if it is one for peers and names one.
fn bound_to(chain: &[CertificateDer<'static>], cluster: &str) -> Option<u64> {
    let rule = Rule { cluster: cluster.to_owned(), port: Port::Peers };
    match rule.check(chain.first()?).ok()?.role {
        Role::Peer(node) => node,
        _ => None,
    }
}

/// Checks that peers will accept the node's certificate. They trust the same authorities.
fn check_own(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    cluster: &str,
    node: u64,
) -> Result<(), String> {
    let (first, between) = chain.split_first().ok_or("there is none")?;
    let rule = Rule { cluster: cluster.to_owned(), port: Port::Peers };
    let identity = rule.check(first).map_err(|error| error.to_string())?;
    if let Identity { role: Role::Peer(Some(id)), .. } = identity
        && id != node
    {
        return Err(format!("it is of node {id}, and this is node {node}"));
    }
    let parsed = ParsedCertificate::try_from(first).map_err(|error| error.to_string())?;
    let algorithms = provider.signature_verification_algorithms;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &parsed,
        roots,
        between,
        rustls::pki_types::UnixTime::now(),
        algorithms.all,
    )
    .map_err(|error| explain_tls(&error))
}

/// Makes the configurations of rustls.
struct Builder<'a> {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    certified: Arc<CertifiedKey>,
    cluster: &'a str,
}

impl Builder<'_> {
    /// For those that come to a port.
    fn coming(&self, port: Port) -> Result<Arc<ServerConfig>, String> {
        // Old client libraries know nothing newer than TLS 1.2. Nodes are of our own making.
        let versions: &[_] = match port {
            Port::Peers => &[&version::TLS13],
            Port::Clients(_) | Port::Admin => &[&version::TLS13, &version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = builder.with_client_cert_verifier(self.verifier(port)?);
        let key = SingleCertAndKey::from(Arc::clone(&self.certified));
        let mut config = builder.with_cert_resolver(Arc::new(key));
        // A resumed session would not show its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = match port {
            Port::Peers => vec![PEERS_PROTOCOL.to_vec()],
            Port::Clients(_) => Vec::new(),
            Port::Admin => vec![b"http/1.1".to_vec()],
        };
        Ok(Arc::new(config))
    }

    fn verifier(&self, port: Port) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let auth = match port {
            Port::Peers => ClientAuth::Required,
            Port::Clients(auth) => auth,
            Port::Admin => ClientAuth::Optional,
        };
        if auth == ClientAuth::None {
            return Ok(WebPkiClientVerifier::no_client_auth());
        }
        let (roots, provider) = (Arc::clone(&self.roots), Arc::clone(&self.provider));
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let builder = match auth {
            ClientAuth::Required => builder,
            ClientAuth::None | ClientAuth::Optional => builder.allow_unauthenticated(),
        };
        let chain = builder.build().map_err(|error| error.to_string())?;
        let rule = Rule { cluster: self.cluster.to_owned(), port };
        Ok(Arc::new(ComingVerifier { chain, rule }))
    }

    /// For peers that this node dials.
    fn dialled_peers(&self) -> Result<Arc<ClientConfig>, String> {
        let verifier = DialledVerifier {
            roots: Arc::clone(&self.roots),
            algorithms: self.provider.signature_verification_algorithms,
            rule: Rule { cluster: self.cluster.to_owned(), port: Port::Peers },
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&version::TLS13])
            .map_err(|error| error.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let key = SingleCertAndKey::from(Arc::clone(&self.certified));
        let mut config = builder.with_client_cert_resolver(Arc::new(key));
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![PEERS_PROTOCOL.to_vec()];
        config.enable_sni = false;
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Content { path: path.to_owned(), reason: error.to_string() })
}
