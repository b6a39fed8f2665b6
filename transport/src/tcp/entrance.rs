//! What comes before the introduction: TLS, the cluster's secret, or neither.
//!
//! Both sides go through it in the same order, and none of what they tell each other before is
//! believed. In TLS the certificate of the other side must be a peer's of this cluster. With a
//! secret, each proves to the other that it knows it. A stranger that passes neither learns nothing
//! but that it was refused.

use crate::config::TransportConfig;
use crate::tcp::handshake_error::HandshakeError;
use logboat_raft::NodeId;
use logboat_security::{Port, PortTls, Role, StrangerError, Stream, accept, dial};
use std::io;
use tokio::net::TcpStream;

/// Lets a dialer in.
///
/// # Errors
/// When it does not show what it must.
pub(super) async fn let_in(
    socket: TcpStream,
    config: &TransportConfig,
) -> Result<Stream, HandshakeError> {
    let accepted = accept(socket, Port::Peers, config.tls.as_ref()).await;
    let mut stream = accepted.map_err(|error| match error {
        StrangerError::Silent => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
        StrangerError::Handshake(error) if error.raw_os_error().is_some() => error.into(),
        error => HandshakeError::Stranger(error),
    })?;
    if let Some(secret) = &config.secret {
        secret.demand(&mut stream).await?;
    }
    Ok(stream)
}

/// Gets in at a peer that was dialled. None if it speaks no TLS, and need not.
///
/// # Errors
/// When one side refuses the other.
pub(super) async fn get_in(
    socket: TcpStream,
    config: &TransportConfig,
) -> Result<Option<Stream>, HandshakeError> {
    let stream = match &config.tls {
        None => Stream::Plain(socket),
        Some(PortTls { tls, required }) => match dial(socket, tls).await {
            Ok(stream) => stream,
            Err(error) if !required && error.speaks_no_tls() => return Ok(None),
            Err(error) => return Err(HandshakeError::Tls(error)),
        },
    };
    prove(stream, config).await.map(Some)
}

/// Gets in at a peer that speaks no TLS.
///
/// # Errors
/// When one side does not know the secret of the other.
pub(super) async fn get_in_plainly(
    socket: TcpStream,
    config: &TransportConfig,
) -> Result<Stream, HandshakeError> {
    prove(Stream::Plain(socket), config).await
}

async fn prove(mut stream: Stream, config: &TransportConfig) -> Result<Stream, HandshakeError> {
    if let Some(secret) = &config.secret {
        secret.prove(&mut stream).await?;
    }
    Ok(stream)
}

/// The node that alone may show the certificate of the other side.
pub(super) fn certified_node(stream: &Stream) -> Option<NodeId> {
    match stream.identity()?.role {
        Role::Peer(id) => id.map(NodeId),
        Role::Client(_) | Role::Admin => None,
    }
}
