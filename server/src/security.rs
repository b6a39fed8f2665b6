//! What guards the ports of a node, from its options, and how it is read again.

use crate::admin_guard::AdminGuard;
use crate::front::FrontGuard;
use logboat_security::{ClusterSecret, PortTls, SecretFile, Tls};
use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What guards the ports of a node.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The certificates of the node, if a port speaks TLS.
    pub tls: Option<Tls>,
    /// What nodes show each other; the engine has it, too.
    pub peers: PeersGuard,
    /// The clients' port.
    pub clients: FrontGuard,
    /// The admin port.
    pub admin: AdminGuard,
}

/// What nodes show each other.
#[derive(Clone, Debug, Default)]
pub struct PeersGuard {
    /// TLS, unless it is off.
    pub tls: Option<PortTls>,
    /// What they prove to know.
    pub secret: Option<ClusterSecret>,
}

impl PeersGuard {
    /// What anybody can do who reaches the port, if strangers are let in.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        let is_strict = self.tls.as_ref().is_some_and(|tls| tls.required);
        (!is_strict && self.secret.is_none()).then_some(
            "the port for peers lets anybody in: who reaches it can speak as a node, read and \
             change all data, and stop groups for good; use --tls-peers required or \
             --cluster-secret-file",
        )
    }
}

impl Security {
    /// What is amiss with how the ports are guarded.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> {
        self.peers.warning().into_iter().chain(self.admin.warning())
    }

    /// Reads all files again. What is of no use is in the log, and what was read before goes on
    /// counting. It may touch the disk.
    pub fn reload(&self) {
        // The log has what is wrong.
        if let Some(tls) = &self.tls {
            let _ = tls.reload();
        }
        for secrets in self.secrets() {
            let _ = secrets.reload();
        }
        if let Some(secret) = &self.peers.secret {
            let _ = secret.reload();
        }
    }

    fn secrets(&self) -> impl Iterator<Item = &SecretFile> {
        self.clients.passwords.iter().chain(&self.admin.token)
    }

    fn has_files(&self) -> bool {
        self.tls.is_some() || self.peers.secret.is_some() || self.secrets().next().is_some()
    }

    /// Reads all files again at each SIGHUP. Without files, that signal ends the process as ever.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn reload_at_hangup(
        &self,
    ) -> std::io::Result<Option<impl Future<Output = ()> + Send + 'static>> {
        if !self.has_files() {
            return Ok(None);
        }
        let hangups = signal(SignalKind::hangup())?;
        Ok(Some(self.clone().reload_at(hangups)))
    }

    async fn reload_at(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            let security = self.clone();
            // A panic has been printed where it happened.
            let _ = tokio::task::spawn_blocking(move || security.reload()).await;
        }
    }
}
