//! How two nodes make sure that they mean each other, before the first frame.
//!
//! The dialer says who it is and whom it wants; the listener answers who it is and whether it
//! agrees, with the reason if not, so that both sides can log it. Both texts have a fixed length
//! and layout, whatever the version, so that nodes of different versions can still tell each other
//! that they are. Numbers are little-endian, and have 64 bits where nothing else is said.
//!
//! ```text
//! hello:  magic [8] | version u32 | cluster | from | to   | incarnation | CRC-32 u32
//! answer: magic [8] | version u32 | cluster | node | code | incarnation | CRC-32 u32
//! ```
//!
//! The incarnation is that of the node that says it. Each side asks its [`Inbox`] whether that is
//! the one it knows, after everything else has been found right.
//!
//! A dialer that does not name the listener's cluster learns nothing but the protocol's version and
//! that it was refused: all else in its answer is zero. Only a welcome bears the incarnation.

use crate::api::Inbox;
use crate::config::TransportConfig;
use bytes::{Buf, BufMut};
use logboat_raft::{ClusterId, Incarnation, NodeId};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a connection between nodes begins with.
const MAGIC: [u8; 8] = *b"LOGBOAT\n";

/// The version of the handshake's and the frames' meaning. Nodes talk to their own version only.
const VERSION: u32 = 2;

/// The length of a hello and of an answer.
const TEXT_BYTES: usize = 48;

/// Why a listener turned a dialer away. The discriminant stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[repr(u8)]
pub(crate) enum Refusal {
    #[error("wrong protocol version")]
    Version = 1,
    #[error("wrong cluster")]
    Cluster = 2,
    #[error("wrong node")]
    Node = 3,
    #[error("unknown node")]
    UnknownNode = 4,
    #[error("the node came back with another disk than it had")]
    Incarnation = 5,
}

/// Why a dialer has no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// By the listener's own answer, or because it is not the node that was wanted.
    #[error("refused by {answer}: {refusal}")]
    Refused { answer: Answer, refusal: Refusal },
    /// For a reason that only a later version knows.
    #[error("refused by {0} for an unknown reason")]
    RefusedSomehow(Answer),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why a listener turned a connection away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("refused {hello}: {refusal}")]
    Refused { hello: Hello, refusal: Refusal },
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why a handshake, on either side, found no end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the other side does not speak this protocol")]
    Foreign,
    #[error("the other side's introduction is damaged")]
    Damaged,
    #[error("timed out")]
    TimedOut,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl AdmitError {
    /// The label under which it is counted.
    pub(crate) const fn cause(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => match refusal {
                Refusal::Version => "version",
                Refusal::Cluster => "cluster",
                Refusal::Node => "node",
                Refusal::UnknownNode => "unknown_node",
                Refusal::Incarnation => "incarnation",
            },
            Self::Handshake(HandshakeError::Foreign) => "foreign",
            Self::Handshake(HandshakeError::Damaged) => "damaged",
            Self::Handshake(HandshakeError::TimedOut) => "timeout",
            Self::Handshake(HandshakeError::Io(_)) => "io",
        }
    }

    /// The node that a refused dialer says it is.
    pub(crate) const fn claimed(&self) -> Option<NodeId> {
        match self {
            Self::Refused { hello, .. } => Some(hello.from),
            Self::Handshake(_) => None,
        }
    }
}

/// What a dialer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) incarnation: Incarnation,
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cluster, from, to, incarnation: _ } = self;
        write!(f, "node {from} of cluster {cluster}, protocol {version}, which looks for node {to}")
    }
}

/// What a listener says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    version: u32,
    cluster: ClusterId,
    node: NodeId,
    /// Zero when the dialer is welcome, or the number of the refusal.
    code: u64,
    incarnation: Incarnation,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cluster, node, .. } = self;
        if self.node == NodeId(0) {
            return write!(f, "a node that does not say who it is, protocol {version}");
        }
        write!(f, "node {node} of cluster {cluster}, protocol {version}")
    }
}

/// The dialer's part: introduces this node to `to`.
///
/// # Errors
/// When the listener refuses, or is not the node that was wanted.
pub(crate) async fn introduce(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    config: &TransportConfig,
    inbox: &dyn Inbox,
    to: NodeId,
) -> Result<(), DialError> {
    write(stream, [config.cluster.0, config.node.0, to.0, config.incarnation.0]).await?;
    let (version, [cluster, node, code, incarnation]) = read(stream).await?;
    let answer = Answer {
        version,
        cluster: ClusterId(cluster),
        node: NodeId(node),
        code,
        incarnation: Incarnation(incarnation),
    };
    answer.check(config, inbox, to)
}

/// The listener's part: hears who dials and answers. Answers with the peer that is now connected.
///
/// # Errors
/// When the dialer is refused, which it has been told, or says nothing that makes sense.
pub(crate) async fn admit(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    config: &TransportConfig,
    inbox: &dyn Inbox,
) -> Result<NodeId, AdmitError> {
    let (version, [cluster, from, to, incarnation]) = read(stream).await?;
    let hello = Hello {
        version,
        cluster: ClusterId(cluster),
        from: NodeId(from),
        to: NodeId(to),
        incarnation: Incarnation(incarnation),
    };
    let checked = hello.check(config, inbox);
    write(stream, hello.answer(checked.err(), config)).await?;
    match checked {
        Ok(()) => Ok(hello.from),
        Err(refusal) => {
            // Should this fail, the dialer did not wait for its answer.
            let _ = stream.shutdown().await;
            Err(AdmitError::Refused { hello, refusal })
        }
    }
}

impl Hello {
    /// What the listener says to it.
    fn answer(&self, refusal: Option<Refusal>, config: &TransportConfig) -> [u64; 4] {
        let code = refusal.map_or(0, |refusal| refusal as u64);
        match refusal {
            None => [config.cluster.0, config.node.0, code, config.incarnation.0],
            Some(_) if self.cluster == config.cluster => [config.cluster.0, config.node.0, code, 0],
            Some(_) => [0, 0, code, 0],
        }
    }

    fn check(&self, config: &TransportConfig, inbox: &dyn Inbox) -> Result<(), Refusal> {
        if self.version != VERSION {
            Err(Refusal::Version)
        } else if self.cluster != config.cluster {
            Err(Refusal::Cluster)
        } else if self.to != config.node {
            Err(Refusal::Node)
        } else if self.from == config.node || !config.peers.contains_key(&self.from) {
            Err(Refusal::UnknownNode)
        } else if !inbox.verify(self.from, self.incarnation) {
            Err(Refusal::Incarnation)
        } else {
            Ok(())
        }
    }
}

impl Answer {
    fn check(
        self,
        config: &TransportConfig,
        inbox: &dyn Inbox,
        wanted: NodeId,
    ) -> Result<(), DialError> {
        let refusal = match self.code {
            1 => Refusal::Version,
            2 => Refusal::Cluster,
            3 => Refusal::Node,
            4 => Refusal::UnknownNode,
            5 => Refusal::Incarnation,
            0 if self.version != VERSION => Refusal::Version,
            0 if self.cluster != config.cluster => Refusal::Cluster,
            0 if self.node != wanted => Refusal::Node,
            0 if !inbox.verify(wanted, self.incarnation) => Refusal::Incarnation,
            0 => return Ok(()),
            _ => return Err(DialError::RefusedSomehow(self)),
        };
        Err(DialError::Refused { answer: self, refusal })
    }
}

/// Writes a hello or an answer.
async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    numbers: [u64; 4],
) -> Result<(), HandshakeError> {
    Ok(stream.write_all(&encode(numbers)).await?)
}

fn encode(numbers: [u64; 4]) -> [u8; TEXT_BYTES] {
    let mut text = [0; TEXT_BYTES];
    let mut out = text.as_mut_slice();
    out.put_slice(&MAGIC);
    out.put_u32_le(VERSION);
    for number in numbers {
        out.put_u64_le(number);
    }
    let covered = TEXT_BYTES - 4;
    let checksum = crc32fast::hash(&text[..covered]);
    text[covered..].copy_from_slice(&checksum.to_le_bytes());
    text
}

/// Reads a hello or an answer. What does not begin with the magic is turned away at once, however
/// short it is, and not kept waiting for the rest.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<(u32, [u64; 4]), HandshakeError> {
    let mut text = [0; TEXT_BYTES];
    let mut filled = 0;
    while filled < TEXT_BYTES {
        match stream.read(&mut text[filled..]).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            count => filled += count,
        }
        let begin = filled.min(MAGIC.len());
        if text[..begin] != MAGIC[..begin] {
            return Err(HandshakeError::Foreign);
        }
    }
    let (covered, mut checksum) = text.split_at(TEXT_BYTES - 4);
    if crc32fast::hash(covered) != checksum.get_u32_le() {
        return Err(HandshakeError::Damaged);
    }
    let mut fields = &covered[MAGIC.len()..];
    let version = fields.get_u32_le();
    Ok((version, [(); 4].map(|()| fields.get_u64_le())))
}
