//! The handshake: two nodes make sure that they mean each other, before the first frame.
//!
//! The dialer says who it is and whom it wants; the listener answers who it is and whether it
//! agrees, with the reason if not, so that both sides can log it. Both begin with a part whose
//! length and layout are the same in every version, so that nodes of different versions can still
//! tell each other that they are. Numbers are little-endian, and have 64 bits where nothing else is
//! said.
//!
//! ```text
//! hello:  magic [8] | version u32 | cluster | from | to   | incarnation | CRC-32 u32
//!         | start: count, nonce | let in: count, nonce | log end | CRC-32 u32 of all before
//! answer: magic [8] | version u32 | cluster | node | code | incarnation | CRC-32 u32
//!         | start: count, nonce | let in: count, nonce | log end
//!         | remembered count | remembered log end | CRC-32 u32 of all before
//! ```
//!
//! Incarnation and start are those of the node that says them, and so is the start that the other
//! side let in last; zeros where there is none. An answer to another version ends after the first
//! line.
//!
//! A visitor, who is no node of the cluster and wants to ask something (the module `visit`), says a
//! hello of zeros. Nobody has the id 0.
//!
//! The dialer's first frame says that it has noted its welcome: see the module `judge`.
//!
//! # Who is recorded
//! A node records the incarnation of a peer only over a connection that it has dialled itself, to
//! the peer's listed address: whoever dials in may be anybody. So a listener that has nothing
//! recorded under the dialer's id answers [`Refusal::NotRecordedYet`] and dials back, and the
//! dialer comes again. A connection that stands means that both have recorded each other.
//!
//! # What a stranger learns
//! A dialer of another version, another cluster or an unknown id learns the protocol's version and
//! that it was refused: all else in its answer is zero. A node's own incarnation is told to whoever
//! is welcome, and to a dialer of whom nothing is recorded, which needs it to record this node.
//! What is remembered of a node is told to whoever names its incarnation, and never the nonce.

use crate::api::Inbox;
use crate::config::TransportConfig;
use crate::judge::{self, BootRefusal, Mismatch, Progress, Rejection};
use crate::tcp::handshake_error::HandshakeError;
use crate::tcp::peers::Peers;
use bytes::{Buf, BufMut};
use logboat_raft::{
    BootCount, BootNonce, ClusterId, Incarnation, Introduction, LogPosition, NodeId, Remembered,
    Start,
};
use logboat_security::ClusterSecret;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a connection between nodes begins with.
const MAGIC: [u8; 8] = *b"LOGBOAT\n";

/// The version of the protocol: of the handshake and of the frames. Nodes talk to their own version
/// only.
const VERSION: u32 = 6;

/// The length of the part that is the same in every version.
const BASE_BYTES: usize = 48;

/// How many numbers follow the base in a hello, all of the introduction.
const HELLO_NUMBERS: usize = 5;

/// How many numbers follow the base in an answer.
const ANSWER_NUMBERS: usize = HELLO_NUMBERS + 2;

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
    #[error("the node's data directory is another one")]
    Incarnation = 5,
    /// The listener dials back.
    #[error("the node is not recorded yet")]
    NotRecordedYet = 6,
    #[error("an earlier start of the node")]
    OldBoot = 7,
    #[error("another start of the node")]
    OtherBoot = 8,
    #[error("a start of the node that can't have come yet")]
    FarBoot = 9,
    #[error("the node's log has lost its end")]
    ShortLog = 10,
    #[error("the node does not know that it was let in")]
    ForgottenWelcome = 11,
    #[error("the listener does not know that it let the node in")]
    UnknownWelcome = 12,
    #[error("the certificate is another node's")]
    Certificate = 13,
}

/// Why a dialer has no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The listener refused, or is not the node that was wanted.
    #[error("refused by {answer}: {refusal}")]
    Refused { answer: Box<Answer>, refusal: Refusal },
    /// The listener remembers this node otherwise.
    #[error("refused: {0}")]
    Mismatch(Mismatch),
    /// For a reason that only a later version knows.
    #[error("refused by {0} for an unknown reason")]
    RefusedSomehow(Box<Answer>),
    /// The listener is not the node that is remembered here, or can't be recorded.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Nothing listens any more at the address where the peer was last connected.
    #[error(transparent)]
    Ended(io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why a listener turned a connection away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdmitError {
    #[error("refused {hello}: {refusal}")]
    Refused { hello: Box<Hello>, refusal: Refusal },
    #[error("refused {hello}: {rejection}")]
    Rejected { hello: Box<Hello>, rejection: Rejection },
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl Refusal {
    const ALL: [Self; 13] = [
        Self::Version,
        Self::Cluster,
        Self::Node,
        Self::UnknownNode,
        Self::Incarnation,
        Self::NotRecordedYet,
        Self::OldBoot,
        Self::OtherBoot,
        Self::FarBoot,
        Self::ShortLog,
        Self::ForgottenWelcome,
        Self::UnknownWelcome,
        Self::Certificate,
    ];

    /// The label under which it is counted.
    const fn cause(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::UnknownNode => "unknown_node",
            Self::Incarnation => "incarnation",
            Self::NotRecordedYet => "not_recorded_yet",
            Self::OldBoot => "old_boot",
            Self::OtherBoot => "other_boot",
            Self::FarBoot => "far_boot",
            Self::ShortLog => "short_log",
            Self::ForgottenWelcome => "forgotten_welcome",
            Self::UnknownWelcome => "unknown_welcome",
            Self::Certificate => "certificate",
        }
    }

    /// What of a boot does not fit, if that is the reason.
    const fn of_boot(self) -> Option<BootRefusal> {
        match self {
            Self::Incarnation => Some(BootRefusal::Incarnation),
            Self::OldBoot => Some(BootRefusal::OldBoot),
            Self::OtherBoot => Some(BootRefusal::OtherBoot),
            Self::FarBoot => Some(BootRefusal::FarBoot),
            Self::ShortLog => Some(BootRefusal::ShortLog),
            Self::ForgottenWelcome => Some(BootRefusal::ForgottenWelcome),
            Self::UnknownWelcome => Some(BootRefusal::UnknownWelcome),
            Self::Version
            | Self::Cluster
            | Self::Node
            | Self::UnknownNode
            | Self::NotRecordedYet
            | Self::Certificate => None,
        }
    }
}

impl From<BootRefusal> for Refusal {
    fn from(refusal: BootRefusal) -> Self {
        match refusal {
            BootRefusal::Incarnation => Self::Incarnation,
            BootRefusal::OldBoot => Self::OldBoot,
            BootRefusal::OtherBoot => Self::OtherBoot,
            BootRefusal::FarBoot => Self::FarBoot,
            BootRefusal::ShortLog => Self::ShortLog,
            BootRefusal::ForgottenWelcome => Self::ForgottenWelcome,
            BootRefusal::UnknownWelcome => Self::UnknownWelcome,
        }
    }
}

impl Rejection {
    fn cause(&self) -> &'static str {
        match self {
            Self::Mismatch(mismatch) => Refusal::from(mismatch.refusal).cause(),
            Self::Unrecordable { .. } => "unrecordable",
            Self::Superseded(_) => "superseded",
        }
    }
}

impl DialError {
    /// The label under which it is counted, if the peer, or this node, refuses the other.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.cause()),
            Self::Mismatch(mismatch) => Some(Refusal::from(mismatch.refusal).cause()),
            Self::RefusedSomehow(_) => Some("unknown"),
            Self::Rejected(rejection) => Some(rejection.cause()),
            Self::Handshake(error) if error.is_about_certificate() => Some("certificate"),
            Self::Handshake(error) => error.refuses().then(|| error.cause()),
            Self::Ended(_) => None,
        }
    }

    /// How the two sides remember each other otherwise, if that is the reason.
    pub(crate) const fn mismatch(&self) -> Option<&Mismatch> {
        match self {
            Self::Mismatch(mismatch) | Self::Rejected(Rejection::Mismatch(mismatch)) => {
                Some(mismatch)
            }
            _ => None,
        }
    }

    /// Whether all that is missing is that the listener has dialled back.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self, Self::Refused { refusal: Refusal::NotRecordedYet, .. })
    }
}

impl AdmitError {
    /// How the two sides remember each other otherwise, if that is the reason.
    pub(crate) const fn mismatch(&self) -> Option<&Mismatch> {
        match self {
            Self::Rejected { rejection: Rejection::Mismatch(mismatch), .. } => Some(mismatch),
            _ => None,
        }
    }

    /// Whether it showed a certificate that does not let it in.
    pub(crate) fn is_about_certificate(&self) -> bool {
        match self {
            Self::Refused { refusal, .. } => *refusal == Refusal::Certificate,
            Self::Rejected { .. } => false,
            Self::Handshake(error) => error.is_about_certificate(),
        }
    }

    /// Whether it spoke the protocol, and was refused for who it is or for what it did not show.
    pub(crate) fn refuses(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Rejected { .. } => true,
            Self::Handshake(error) => error.refuses(),
        }
    }

    /// The label under which it is counted.
    pub(crate) fn cause(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => refusal.cause(),
            Self::Rejected { rejection, .. } => rejection.cause(),
            Self::Handshake(error) => error.cause(),
        }
    }

    /// The node that a refused dialer says it is.
    pub(crate) fn claimed(&self) -> Option<NodeId> {
        match self {
            Self::Refused { hello, .. } | Self::Rejected { hello, .. } => Some(hello.from),
            Self::Handshake(_) => None,
        }
    }

    /// The peer to dial back, since nothing is recorded of it.
    pub(crate) fn unrecorded(&self) -> Option<NodeId> {
        match self {
            Self::Refused { hello, refusal: Refusal::NotRecordedYet } => Some(hello.from),
            Self::Refused { .. } | Self::Rejected { .. } | Self::Handshake(_) => None,
        }
    }
}

/// A dial, and what was known when its hello was written. The answer is compared with that: while
/// it is under way, the peer may dial as well and come further.
struct Dial {
    to: NodeId,
    remembered: Option<Remembered>,
    own: Introduction,
}

/// The hello of a dialer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) cluster: ClusterId,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) introduction: Introduction,
}

impl fmt::Display for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cluster, from, to, introduction: _ } = self;
        write!(f, "node {from} of cluster {cluster}, protocol {version}, which looks for node {to}")
    }
}

/// The answer of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    version: u32,
    cluster: ClusterId,
    node: NodeId,
    /// Zero when the dialer is welcome, or the number of the refusal.
    code: u64,
    introduction: Introduction,
    /// What the listener remembers of the dialer.
    remembered: Progress,
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

/// The dialer's part: introduces this node to `to`, records who answers, and notes that it is
/// welcome.
///
/// # Errors
/// When the listener refuses, is not the node that was wanted, or not the one that is remembered,
/// and when that can't be noted.
pub(crate) async fn introduce(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    config: &TransportConfig,
    inbox: &dyn Inbox,
    to: NodeId,
) -> Result<(), DialError> {
    let dial = Dial { to, remembered: inbox.remembered(to), own: inbox.introduction(to) };
    let base = [config.cluster.0, config.node.0, to.0, dial.own.incarnation.0];
    write(stream, base, &numbers(dial.own)).await?;
    Answer::read(stream).await?.check(config, inbox, &dial)
}

/// Who was let in.
pub(crate) enum Admitted {
    /// This peer is now connected. Its start is to be [confirmed](judge::confirm) when it goes on.
    Peer(NodeId, Start),
    /// Somebody who is no node of the cluster, and has a question.
    Visitor,
}

/// The visitor's part: says that it is no node, and finds out whether it may ask.
///
/// # Errors
/// When the listener refuses.
pub(crate) async fn knock(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), DialError> {
    write(stream, [0; 4], &[0; HELLO_NUMBERS]).await?;
    let answer = Answer::read(stream).await?;
    let refusal = Refusal::ALL.into_iter().find(|refusal| *refusal as u64 == answer.code);
    match refusal {
        _ if answer.version != VERSION => {
            let (answer, refusal) = (Box::new(answer), Refusal::Version);
            Err(DialError::Refused { answer, refusal })
        }
        None if answer.code == 0 => Ok(()),
        None => Err(DialError::RefusedSomehow(Box::new(answer))),
        Some(refusal) => Err(DialError::Refused { answer: Box::new(answer), refusal }),
    }
}

/// The listener's part: reads the hello and answers it. Returns who that is.
///
/// # Errors
/// When the dialer is refused, and has been told so, or when its hello makes no sense.
pub(crate) async fn admit(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    certified: Option<NodeId>,
    config: &TransportConfig,
    peers: &Peers,
    inbox: &dyn Inbox,
) -> Result<Admitted, AdmitError> {
    let hello = Hello::read(stream).await?;
    if hello.is_visit() {
        Answer::of_stranger(0).write(stream).await?;
        return Ok(Admitted::Visitor);
    }
    let checked = hello.check(certified, config, peers, inbox);
    let written = hello.answer(checked.as_ref().err(), config, inbox).write(stream).await;
    match checked {
        Ok(()) => {
            written?;
            Ok(Admitted::Peer(hello.from, hello.introduction.newest))
        }
        Err(error) => {
            // Should this fail, the dialer did not wait for its answer.
            let _ = stream.shutdown().await;
            Err(error)
        }
    }
}

impl Hello {
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, HandshakeError> {
        let base = Base::read(stream).await?;
        let [cluster, from, to, incarnation] = base.numbers;
        let version = base.version;
        let rest = match version {
            VERSION => base.rest::<HELLO_NUMBERS>(stream).await?,
            _ => [0; HELLO_NUMBERS],
        };
        let introduction = introduction(incarnation, rest);
        let (cluster, from, to) = (ClusterId(cluster), NodeId(from), NodeId(to));
        Ok(Self { version, cluster, from, to, introduction })
    }

    /// Whether it is that of somebody who is no node yet, and has a question.
    fn is_visit(&self) -> bool {
        self.version == VERSION && (self.from, self.to) == (NodeId(0), NodeId(0))
    }

    fn check(
        &self,
        certified: Option<NodeId>,
        config: &TransportConfig,
        peers: &Peers,
        inbox: &dyn Inbox,
    ) -> Result<(), AdmitError> {
        let refused = |refusal| Err(AdmitError::Refused { hello: Box::new(*self), refusal });
        if self.version != VERSION {
            return refused(Refusal::Version);
        } else if self.cluster != config.cluster {
            return refused(Refusal::Cluster);
        } else if !peers.contains(self.from) {
            return refused(Refusal::UnknownNode);
        } else if self.to != config.node {
            return refused(Refusal::Node);
        } else if certified.is_some_and(|node| node != self.from) {
            return refused(Refusal::Certificate);
        }
        match judge::admit(inbox, config.node, self.from, self.introduction) {
            Ok(true) => Ok(()),
            Ok(false) => refused(Refusal::NotRecordedYet),
            Err(rejection) => Err(AdmitError::Rejected { hello: Box::new(*self), rejection }),
        }
    }

    /// The listener's answer to it.
    fn answer(
        &self,
        error: Option<&AdmitError>,
        config: &TransportConfig,
        inbox: &dyn Inbox,
    ) -> Answer {
        let stranger = |refusal| Answer::of_stranger(refusal as u64);
        let known =
            |refusal| Answer { cluster: config.cluster, node: config.node, ..stranger(refusal) };
        let own = || inbox.introduction(self.from);
        match error {
            None => {
                let remembered = inbox.remembered(self.from).unwrap_or_default().into();
                let welcome = known(Refusal::Node);
                Answer { code: 0, introduction: own(), remembered, ..welcome }
            }
            Some(AdmitError::Refused { refusal, .. }) => match refusal {
                Refusal::NotRecordedYet => Answer { introduction: own(), ..known(*refusal) },
                Refusal::Node => known(*refusal),
                _ => stranger(*refusal),
            },
            Some(AdmitError::Rejected { rejection: Rejection::Mismatch(mismatch), .. }) => {
                let answer = known(Refusal::from(mismatch.refusal));
                if mismatch.refusal == BootRefusal::Incarnation {
                    return answer;
                }
                Answer { remembered: mismatch.remembered, ..answer }
            }
            // It is let in when it can be recorded.
            Some(_) => Answer { introduction: own(), ..known(Refusal::NotRecordedYet) },
        }
    }
}

impl Answer {
    /// What is told to those who are no peers.
    fn of_stranger(code: u64) -> Self {
        Self {
            version: VERSION,
            cluster: ClusterId(0),
            node: NodeId(0),
            code,
            introduction: Introduction::default(),
            remembered: Progress::default(),
        }
    }

    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, HandshakeError> {
        let base = Base::read(stream).await?;
        let [cluster, node, code, incarnation] = base.numbers;
        let rest = if base.version == VERSION && code != Refusal::Version as u64 {
            base.rest::<ANSWER_NUMBERS>(stream).await?
        } else {
            [0; ANSWER_NUMBERS]
        };
        let [count, nonce, let_in_count, let_in_nonce, log_end, known_count, known_end] = rest;
        let told = [count, nonce, let_in_count, let_in_nonce, log_end];
        Ok(Self {
            version: base.version,
            cluster: ClusterId(cluster),
            node: NodeId(node),
            code,
            introduction: introduction(incarnation, told),
            remembered: Progress {
                count: BootCount(known_count),
                log_end: LogPosition::unpack(known_end),
            },
        })
    }

    async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), HandshakeError> {
        let Self { cluster, node, code, introduction, remembered, .. } = *self;
        let base = [cluster.0, node.0, code, introduction.incarnation.0];
        if code == Refusal::Version as u64 {
            return write(stream, base, &[]).await;
        }
        let Progress { count, log_end } = remembered;
        let rest = [&numbers(introduction)[..], &[count.0, log_end.pack()]].concat();
        write(stream, base, &rest).await
    }

    fn check(
        self,
        config: &TransportConfig,
        inbox: &dyn Inbox,
        dial: &Dial,
    ) -> Result<(), DialError> {
        let Dial { to: wanted, remembered, own } = *dial;
        let refused = |refusal| Err(DialError::Refused { answer: Box::new(self), refusal });
        let code = Refusal::ALL.into_iter().find(|refusal| *refusal as u64 == self.code);
        match code {
            None if self.code != 0 => return Err(DialError::RefusedSomehow(Box::new(self))),
            None | Some(Refusal::NotRecordedYet) => {}
            Some(refusal) => {
                let Some(of_boot) = refusal.of_boot() else { return refused(refusal) };
                return Err(DialError::Mismatch(Mismatch {
                    refusal: of_boot,
                    witness: self.node,
                    subject: config.node,
                    remembered: self.remembered,
                    claimed: own,
                }));
            }
        }
        if self.version != VERSION {
            return refused(Refusal::Version);
        } else if self.cluster != config.cluster {
            return refused(Refusal::Cluster);
        } else if self.node != wanted {
            return refused(Refusal::Node);
        }
        judge::record(inbox, config.node, wanted, remembered, self.introduction)?;
        match code {
            Some(refusal) => refused(refusal),
            None => Ok(judge::note_welcome(inbox, wanted)?),
        }
    }
}

/// What follows the incarnation in an introduction.
fn numbers(introduction: Introduction) -> [u64; HELLO_NUMBERS] {
    let Introduction { newest, let_in, log_end, .. } = introduction;
    let let_in = let_in.unwrap_or_default();
    [newest.count.0, newest.nonce.0, let_in.count.0, let_in.nonce.0, log_end.pack()]
}

/// The introduction that these [`numbers`] say.
fn introduction(incarnation: u64, numbers: [u64; HELLO_NUMBERS]) -> Introduction {
    let [count, nonce, let_in_count, let_in_nonce, log_end] = numbers;
    let start = |count, nonce| Start { count: BootCount(count), nonce: BootNonce(nonce) };
    Introduction {
        incarnation: Incarnation(incarnation),
        newest: start(count, nonce),
        let_in: (let_in_count > 0).then(|| start(let_in_count, let_in_nonce)),
        log_end: LogPosition::unpack(log_end),
    }
}

/// Writes a hello or an answer.
async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    base: [u64; 4],
    rest: &[u64],
) -> Result<(), HandshakeError> {
    stream.write_all(&encode(base, rest)).await?;
    Ok(stream.flush().await?)
}

fn encode(base: [u64; 4], rest: &[u64]) -> Vec<u8> {
    let mut text = MAGIC.to_vec();
    text.put_u32_le(VERSION);
    for numbers in [&base[..], rest] {
        if numbers.is_empty() {
            continue;
        }
        numbers.iter().for_each(|number| text.put_u64_le(*number));
        let checksum = crc32fast::hash(&text);
        text.put_u32_le(checksum);
    }
    text
}

/// The part of a hello or an answer that is the same in every version.
struct Base {
    version: u32,
    numbers: [u64; 4],
    text: [u8; BASE_BYTES],
}

impl Base {
    /// What does not begin with the magic is turned away at once, however short it is, and not kept
    /// waiting for the rest.
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, HandshakeError> {
        let mut text = [0; BASE_BYTES];
        let mut filled = 0;
        while filled < BASE_BYTES {
            match stream.read(&mut text[filled..]).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => filled += count,
            }
            let begin = filled.min(MAGIC.len());
            if ClusterSecret::is_challenge(&text[..begin]) {
                return Err(HandshakeError::SecretHere);
            } else if text[..begin] != MAGIC[..begin]
                && !ClusterSecret::may_be_challenge(&text[..begin])
            {
                return Err(HandshakeError::Foreign);
            }
        }
        let (covered, mut checksum) = text.split_at(BASE_BYTES - 4);
        if crc32fast::hash(covered) != checksum.get_u32_le() {
            return Err(HandshakeError::Damaged);
        }
        let mut fields = &covered[MAGIC.len()..];
        let version = fields.get_u32_le();
        Ok(Self { version, numbers: [(); 4].map(|()| fields.get_u64_le()), text })
    }

    /// The numbers that follow it in this version.
    async fn rest<const COUNT: usize>(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<[u64; COUNT], HandshakeError> {
        let mut rest = vec![0; COUNT * size_of::<u64>() + size_of::<u32>()];
        stream.read_exact(&mut rest).await?;
        let (mut numbers, mut checksum) = rest.split_at(COUNT * size_of::<u64>());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.text);
        hasher.update(numbers);
        if hasher.finalize() != checksum.get_u32_le() {
            return Err(HandshakeError::Damaged);
        }
        Ok([(); COUNT].map(|()| numbers.get_u64_le()))
    }
}
