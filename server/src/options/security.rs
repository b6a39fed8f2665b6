//! The options that say who may reach the ports of a node.

use super::ServeOptions;
use crate::admin_guard::AdminGuard;
use crate::front::FrontGuard;
use crate::output::Failure;
use crate::security::{PeersGuard, Security};
use logboat::NodeConfig;
use logboat_security::{
    ClientAuth, ClusterSecret, Own, PortTls, SecretFile, Tls, TlsFiles, TlsMode,
};
use std::path::PathBuf;

/// The shortest token for the admin pages.
const LEAST_TOKEN_BYTES: usize = 16;

impl ServeOptions {
    pub(super) fn security(&self, node: &NodeConfig) -> Result<Security, Failure> {
        let own = match self.tls_peers.unwrap_or_default() {
            TlsMode::Off => Own::Any,
            TlsMode::Optional | TlsMode::Required => Own::Peer(node.node.0),
        };
        let tls = self.tls(&node.cluster_name, own)?;
        let port = |option: &str, mode: Option<TlsMode>| match (mode.unwrap_or_default(), &tls) {
            (TlsMode::Off, _) => Ok(None),
            (mode, Some(tls)) => {
                Ok(Some(PortTls { tls: tls.clone(), required: mode == TlsMode::Required }))
            }
            (_, None) => Err(format!("{option} needs --tls-cert, --tls-key and --tls-ca")),
        };
        let open_secrets = |option: &str, path: &Option<PathBuf>, least_bytes| {
            let opened = path.as_ref().map(|path| SecretFile::open(path, least_bytes));
            opened.transpose().map_err(|error| format!("{option}: {error}"))
        };
        let clients = FrontGuard {
            tls: port("--tls-clients", self.tls_clients)?,
            client_auth: self.tls_client_auth.unwrap_or_default(),
            passwords: open_secrets("--requirepass-file", &self.requirepass_file, 1)?,
        };
        if clients.client_auth != ClientAuth::None && clients.tls.is_none() {
            return Err("--tls-client-auth goes with --tls-clients".into());
        }
        if clients.client_auth == ClientAuth::Required
            && clients.tls.as_ref().is_some_and(|tls| !tls.required)
        {
            return Err("--tls-client-auth required goes with --tls-clients required".into());
        }
        let admin = AdminGuard {
            tls: port("--tls-admin", self.tls_admin)?,
            token: open_secrets("--admin-token-file", &self.admin_token_file, LEAST_TOKEN_BYTES)?,
            open: self.admin_open.clone().unwrap_or_default(),
            clients_are_known: clients.passwords.is_some()
                || clients.client_auth == ClientAuth::Required,
            ..AdminGuard::default()
        };
        let peers = PeersGuard {
            tls: port("--tls-peers", self.tls_peers)?,
            secret: self.cluster_secret()?,
        };
        let guards_something = tls.is_some()
            || peers.secret.is_some()
            || clients.passwords.is_some()
            || admin.token.is_some();
        let unguarded = !guards_something && self.admin_open.is_none();
        let admin = match self.admin_listen {
            Some(address) => AdminGuard { unguarded, ..admin }.at(address.ip()),
            // Nobody reaches a port that there is not.
            None => AdminGuard { local: true, ..admin },
        };
        match peers.warning() {
            Some(warning) if self.require_secure => {
                Err(format!("--require-secure: {warning}").into())
            }
            _ => Ok(Security { tls, peers, clients, admin }),
        }
    }

    /// The secret of the cluster, if there is one.
    pub(super) fn cluster_secret(&self) -> Result<Option<ClusterSecret>, Failure> {
        let secret = self.cluster_secret_file.as_ref().map(ClusterSecret::open).transpose();
        Ok(secret.map_err(|error| format!("--cluster-secret-file: {error}"))?)
    }

    /// The certificates of the node, if there are any.
    pub(super) fn tls(&self, cluster_name: &str, own: Own) -> Result<Option<Tls>, Failure> {
        let files = match (&self.tls_cert, &self.tls_key, &self.tls_ca) {
            (None, None, None) => return Ok(None),
            (Some(cert), Some(key), Some(ca)) => {
                TlsFiles { cert: cert.clone(), key: key.clone(), ca: ca.clone() }
            }
            _ => return Err("--tls-cert, --tls-key and --tls-ca go together".into()),
        };
        Ok(Some(Tls::open(files, cluster_name, own)?))
    }
}
