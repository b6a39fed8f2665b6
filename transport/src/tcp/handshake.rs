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
//!         | start: count, nonce | let in: count, nonce | log end | drawn
//!         | CRC-32 u32 of all before
//! answer: magic [8] | version u32 | cluster | node | code | incarnation | CRC-32 u32
//!         | start: count, nonce | let in: count, nonce | log end | drawn
//!         | remembered count | remembered log end | CRC-32 u32 of all before
//! ```
//!
//! Incarnation and start are those of the node that says them, and so is the start that the other
//! side let in last; zeros where there is none. `cluster` is the id that follows from the cluster's
//! name and its first nodes, and `drawn` the one that was drawn for it, or zero if the node does
//! not know that yet. An answer to another version ends after the first line.
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
//! that it was refused: all else in its answer is zero. A node of another cluster with the same
//! name and nodes learns who this is, so that both sides can say so. A node's own incarnation is
//! told to whoever is welcome, and to a dialer of whom nothing is recorded, which needs it to
//! record this node. What is remembered of a node is told to whoever names its incarnation, and
//! never the nonce.

mod refusal;
mod text;

use crate::api::Inbox;
use crate::config::TransportConfig;
use crate::judge::{self, BootRefusal, Mismatch, Progress, Rejection};
use crate::tcp::handshake_error::HandshakeError;
use crate::tcp::peers::Peers;
use logboat_raft::{BootCount, ClusterId, Introduction, LogPosition, NodeId, Remembered, Start};
use refusal::Refusal;
pub(crate) use refusal::{AdmitError, DialError};
use std::fmt;
use text::{ANSWER_NUMBERS, Base, HELLO_NUMBERS, VERSION, introduction, numbers, write};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

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
        let Self { version, cluster, from, to, introduction } = self;
        write!(f, "node {from} of cluster {cluster}{}", drawn(introduction.cluster))?;
        write!(f, ", protocol {version}, which looks for node {to}")
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
        let Self { version, cluster, node, introduction, .. } = self;
        if self.node == NodeId(0) {
            return write!(f, "a node that does not say who it is, protocol {version}");
        }
        let drawn = drawn(introduction.cluster);
        write!(f, "node {node} of cluster {cluster}{drawn}, protocol {version}")
    }
}

/// The drawn id of a cluster behind the other one, if it is known.
fn drawn(cluster: Option<ClusterId>) -> String {
    cluster.map(|cluster| format!(", drawn {cluster}")).unwrap_or_default()
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
        } else if !judge::may_be_one(
            inbox.introduction(self.from).cluster,
            self.introduction.cluster,
        ) {
            return refused(Refusal::OtherCluster);
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
        let own_cluster = || Introduction { cluster: own().cluster, ..Introduction::default() };
        match error {
            None => {
                let remembered = inbox.remembered(self.from).unwrap_or_default().into();
                let welcome = known(Refusal::Node);
                Answer { code: 0, introduction: own(), remembered, ..welcome }
            }
            Some(AdmitError::Refused { refusal, .. }) => match refusal {
                Refusal::NotRecordedYet => Answer { introduction: own(), ..known(*refusal) },
                Refusal::Node => known(*refusal),
                Refusal::OtherCluster => Answer { introduction: own_cluster(), ..known(*refusal) },
                _ => stranger(*refusal),
            },
            Some(AdmitError::Rejected { rejection: Rejection::Mismatch(mismatch), .. }) => {
                let answer = known(Refusal::from(mismatch.refusal));
                if matches!(mismatch.refusal, BootRefusal::Incarnation | BootRefusal::Fenced) {
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
        let [count, nonce, let_in_count, let_in_nonce, log_end, drawn, known_count, known_end] =
            rest;
        let told = [count, nonce, let_in_count, let_in_nonce, log_end, drawn];
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
        } else if !judge::may_be_one(own.cluster, self.introduction.cluster) {
            return refused(Refusal::OtherCluster);
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
