//! Who gets as far as sending commands: TLS, certificates, and what a source address may take up.

use crate::server_state::ServerState;
use logboat_security::{
    ClientAuth, Port, PortTls, SecretFile, Slot, Slots, StrangerError, Stream, accept, audit,
    turn_away,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How many connections of a source address may be in a TLS handshake, or not logged in.
const STRANGERS_AN_ADDRESS: usize = 1_024;

/// How long the TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take to log in.
pub(super) const LOGIN_LIMIT: Duration = Duration::from_secs(30);

/// What clients have to show.
#[derive(Clone, Debug, Default)]
pub struct FrontGuard {
    /// TLS, unless it is off.
    pub tls: Option<PortTls>,
    /// Whether clients show certificates in TLS.
    pub client_auth: ClientAuth,
    /// The passwords of clients, if they have to log in.
    pub passwords: Option<SecretFile>,
}

/// The guard at work.
#[derive(Debug)]
pub(super) struct Entrance {
    guard: FrontGuard,
    strangers: Arc<Slots>,
}

/// Nothing that a connection has to wait for, or the place of its address among strangers.
pub(super) type Place = Option<Slot>;

impl Entrance {
    pub(super) fn new(guard: FrontGuard) -> Self {
        Self { guard, strangers: Slots::new(STRANGERS_AN_ADDRESS) }
    }

    /// A place for a new connection. None if its address has too many strangers.
    pub(super) fn place(&self, address: IpAddr) -> Option<Place> {
        if self.guard.tls.is_none() && self.guard.passwords.is_none() {
            return Some(None);
        }
        self.strangers.take(address).map(Some)
    }

    /// Whether clients have to log in once they are let in.
    pub(super) const fn asks_for_password(&self) -> bool {
        self.guard.passwords.is_some()
    }

    /// Lets a client in that shows what it has to, or says why not.
    pub(super) async fn let_in(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        server: &ServerState,
    ) -> Option<Stream> {
        let FrontGuard { tls: Some(tls), client_auth, .. } = &self.guard else {
            return Some(Stream::Plain(socket));
        };
        let accepted = accept(socket, Port::Clients(*client_auth), Some(tls));
        let error = match timeout(HANDSHAKE_LIMIT, accepted).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(StrangerError::Silent)) => return None,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        server.stats.strangers.increment();
        match error {
            Some(StrangerError::Plain(socket)) => {
                tracing::warn!(%peer, "a client without TLS was turned away");
                turn_away(socket, b"-ERR TLS is required on this port\r\n").await;
            }
            Some(error) if error.is_about_certificate() => {
                audit::certificate_refused("clients", peer, &error);
            }
            Some(error) => tracing::warn!(%peer, "a client was turned away: {error}"),
            None => tracing::warn!(%peer, "a client did not complete the TLS handshake in time"),
        }
        None
    }
}
