//! Visits: what somebody asks a cluster who is no node of it, such as to become one.
//!
//! A visitor passes what guards the port, as nodes do, and says a hello of zeros. Then one question
//! and one answer travel, each as its length, its CRC-32 (four bytes each, little-endian) and its
//! bytes.

use crate::api::Inbox;
use crate::config::TransportConfig;
use crate::tcp::entrance::{get_in, get_in_plainly};
use crate::tcp::handshake::knock;
use bytes::Bytes;
use logboat_raft::{ClusterId, NodeId};
use logboat_security::{ClusterSecret, PortTls, Stream};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a visitor may take, and waits for its answer.
const VISIT_LIMIT: Duration = Duration::from_secs(15);

/// The longest question, and the longest answer, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Somebody who is no node of a cluster, and asks one of its nodes something.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// TLS between nodes: see [`TransportConfig::tls`].
    pub tls: Option<PortTls>,
    /// The secret of the cluster: see [`TransportConfig::secret`].
    pub secret: Option<ClusterSecret>,
}

/// Why a visitor got no answer.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// There is no way in.
    #[error("{0}")]
    Refused(String),
    /// The node let the visitor in, and did not answer.
    #[error("no answer")]
    NoAnswer,
    /// The connection was lost, or none came about.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Visit {
    /// Asks the node at `address` (`host:port`) where its peers reach it. Takes 15 s at the most.
    ///
    /// # Errors
    /// See [`VisitError`].
    pub async fn ask(&self, address: &str, question: &[u8]) -> Result<Bytes, VisitError> {
        let asking = async {
            let mut stream = self.get_in(address).await?;
            knock(&mut stream).await.map_err(refused)?;
            write(&mut stream, question).await?;
            match read(&mut stream).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(VisitError::NoAnswer)
                }
                read => Ok(read?),
            }
        };
        timeout(VISIT_LIMIT, asking).await.unwrap_or(Err(VisitError::NoAnswer))
    }

    async fn get_in(&self, address: &str) -> Result<Stream, VisitError> {
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let config = TransportConfig {
            tls: self.tls.clone(),
            secret: self.secret.clone(),
            ..TransportConfig::new(NodeId(0), ClusterId(0), nowhere, BTreeMap::new())
        };
        let entered = get_in(TcpStream::connect(address).await?, &config).await;
        match entered.map_err(refused)? {
            Some(stream) => Ok(stream),
            None => {
                let socket = TcpStream::connect(address).await?;
                get_in_plainly(socket, &config).await.map_err(refused)
            }
        }
    }
}

fn refused(error: impl ToString) -> VisitError {
    VisitError::Refused(error.to_string())
}

/// Has a visitor's question answered.
pub(super) async fn serve(inbox: &dyn Inbox, mut stream: Stream) {
    let serving = async {
        let question = read(&mut stream).await?;
        let (sender, answer) = oneshot::channel();
        inbox.visited(
            question,
            Box::new(move |answer| {
                // The visitor may have left.
                let _ = sender.send(answer);
            }),
        );
        if let Ok(answer) = answer.await {
            write(&mut stream, &answer).await?;
        }
        stream.shutdown().await
    };
    if let Ok(Err(error)) = timeout(VISIT_LIMIT, serving).await {
        tracing::info!("a visitor has left: {error}");
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), text: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "it is too long for a visit");
    let len = u32::try_from(text.len()).ok().filter(|len| *len as usize <= MOST_BYTES);
    let header = [len.ok_or_else(too_long)?, crc32fast::hash(text)].map(u32::to_le_bytes);
    stream.write_all(&[header.as_flattened(), text].concat()).await?;
    stream.flush().await
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let damaged = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let (len, checksum) = (stream.read_u32_le().await?, stream.read_u32_le().await?);
    if len as usize > MOST_BYTES {
        return Err(damaged("what was said is too long for a visit"));
    }
    // The length allocates nothing: only what arrives does.
    let mut text = Vec::new();
    stream.take(len.into()).read_to_end(&mut text).await?;
    if text.len() < len as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    } else if crc32fast::hash(&text) != checksum {
        return Err(damaged("what was said is damaged"));
    }
    Ok(text.into())
}
