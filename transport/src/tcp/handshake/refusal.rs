//! Why two nodes do not connect: what stands on the wire, and what each side makes of it.

use super::{Answer, Hello};
use crate::judge::{BootRefusal, Mismatch, Rejection};
use crate::tcp::handshake_error::HandshakeError;
use logboat_raft::NodeId;
use std::io;

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
    #[error("the node was given up")]
    Fenced = 14,
    #[error("another cluster of the same name and nodes")]
    OtherCluster = 15,
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
    pub(super) const ALL: [Self; 15] = [
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
        Self::Fenced,
        Self::OtherCluster,
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
            Self::Fenced => "fenced",
            Self::OtherCluster => "other_cluster",
        }
    }

    /// What of a boot does not fit, if that is the reason.
    pub(super) const fn of_boot(self) -> Option<BootRefusal> {
        match self {
            Self::Incarnation => Some(BootRefusal::Incarnation),
            Self::OldBoot => Some(BootRefusal::OldBoot),
            Self::OtherBoot => Some(BootRefusal::OtherBoot),
            Self::FarBoot => Some(BootRefusal::FarBoot),
            Self::ShortLog => Some(BootRefusal::ShortLog),
            Self::ForgottenWelcome => Some(BootRefusal::ForgottenWelcome),
            Self::UnknownWelcome => Some(BootRefusal::UnknownWelcome),
            Self::Fenced => Some(BootRefusal::Fenced),
            Self::Version
            | Self::Cluster
            | Self::Node
            | Self::UnknownNode
            | Self::NotRecordedYet
            | Self::Certificate
            | Self::OtherCluster => None,
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
            BootRefusal::Fenced => Self::Fenced,
        }
    }
}

impl Rejection {
    fn cause(&self) -> &'static str {
        match self {
            Self::Mismatch(mismatch) => Refusal::from(mismatch.refusal).cause(),
            Self::Unrecordable { .. } => "unrecordable",
            Self::OtherCluster { .. } => "other_cluster",
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
