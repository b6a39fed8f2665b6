//! Whether a node that introduces itself is the one that is remembered under its id.
//!
//! A node is known by its disk. What it promised stands in its data directory: on an emptied one,
//! or on an old copy, it would break promises. So its peers remember the directory's incarnation,
//! the newest start on it, and how far its log was durable. [`judge`] compares, and is all that
//! transports and simulations need.

use crate::api::Inbox;
use logboat_raft::{BootCount, LogPosition, NodeBoot, NodeId};
use std::{fmt, io};

/// How many starts later than remembered a node may claim to be. A forged count leaves the node
/// itself room to go on, and nobody restarts so often between two connections.
pub const MAX_BOOT_STEP: u64 = 1 << 20;

/// What is to be done about a node that introduces itself, and may be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is remembered of it: this is to be recorded, but only by a node that dialled it at
    /// its listed address. A node that is dialled itself has no proof of who dials.
    Unrecorded(NodeBoot),
    /// It is the start that is remembered.
    Known,
    /// It is a later start of the same directory: this is to be remembered.
    Later(NodeBoot),
}

/// Why a node that introduces itself is not the one that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootRefusal {
    /// Its data directory is another one.
    Incarnation,
    /// It has started more often before.
    OldBoot,
    /// Another copy of its directory has made the same start.
    OtherBoot,
    /// It can't have started so often since.
    FarBoot,
    /// Its log ends before it was durable.
    ShortLog,
}

/// Compares what a node claims to be with what is `remembered` under its id.
///
/// # Errors
/// When it is not that node, or has lost a part of what it had promised.
pub fn judge(remembered: Option<NodeBoot>, claimed: NodeBoot) -> Result<Verdict, BootRefusal> {
    let known = remembered.unwrap_or_default();
    let advanced = NodeBoot { log_end: known.log_end.advance(claimed.log_end), ..claimed };
    if remembered.is_some() && claimed.incarnation != known.incarnation {
        Err(BootRefusal::Incarnation)
    } else if claimed.count < known.count {
        Err(BootRefusal::OldBoot)
    } else if claimed.count.0 - known.count.0 > MAX_BOOT_STEP {
        Err(BootRefusal::FarBoot)
    } else if remembered.is_none() {
        Ok(Verdict::Unrecorded(advanced))
    } else if claimed.count > known.count {
        // A connection that is made anew within a start tells once more where the log ended then,
        // so only a later start can fall short.
        let short = claimed.log_end < known.log_end;
        if short { Err(BootRefusal::ShortLog) } else { Ok(Verdict::Later(advanced)) }
    } else if claimed.nonce != known.nonce {
        Err(BootRefusal::OtherBoot)
    } else {
        Ok(Verdict::Known)
    }
}

/// How often a node had started, and how far its log was durable: what may be told of a node to
/// whoever claims to be it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) count: BootCount,
    pub(crate) log_end: LogPosition,
}

impl From<NodeBoot> for Progress {
    fn from(NodeBoot { count, log_end, .. }: NodeBoot) -> Self {
        Self { count, log_end }
    }
}

/// A node that is not the one that is remembered, told such that both sides can log it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) refusal: BootRefusal,
    /// Who remembers.
    pub(crate) witness: NodeId,
    /// Of whom.
    pub(crate) subject: NodeId,
    pub(crate) remembered: Progress,
    pub(crate) claimed: Progress,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refusal, witness, subject, remembered: old, claimed: new } = self;
        match refusal {
            BootRefusal::Incarnation => write!(
                f,
                "node {witness} knows node {subject} by another data directory: node {subject} was \
                 here before, and must not come back under this id on a directory that was emptied"
            ),
            BootRefusal::OldBoot => write!(
                f,
                "node {witness} remembers start {} of node {subject}, with its log durable up to \
                 {}, and this is start {}, whose log ends at {}: an old copy of its directory",
                old.count, old.log_end, new.count, new.log_end
            ),
            BootRefusal::OtherBoot => write!(
                f,
                "node {witness} remembers another start {} of node {subject}: this is one of two \
                 copies of its directory",
                old.count
            ),
            BootRefusal::FarBoot => write!(
                f,
                "node {witness} remembers start {} of node {subject}, and start {} can't have come \
                 since",
                old.count, new.count
            ),
            BootRefusal::ShortLog => write!(
                f,
                "node {witness} remembers the log of node {subject} as durable up to {}, in start \
                 {}, and in start {} it ends at {}: an old copy of its directory, or a log that \
                 lost its end",
                old.log_end, old.count, new.count, new.log_end
            ),
        }
    }
}

/// Why a node is not let in that its peer knows, or would record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("{0}")]
    Mismatch(Mismatch),
    /// What can't be recorded could not be told from its successor later.
    #[error("recording node {peer}: {source}")]
    Unrecordable { peer: NodeId, source: io::Error },
}

/// Whether the peer that dialled this node is recorded here. A later start of it is remembered.
pub(crate) fn admit(
    inbox: &dyn Inbox,
    own: NodeId,
    peer: NodeId,
    claimed: NodeBoot,
) -> Result<bool, Rejection> {
    match compare(inbox, own, peer, claimed)? {
        Verdict::Unrecorded(_) => return Ok(false),
        Verdict::Known => {}
        Verdict::Later(boot) => remember(inbox, peer, boot)?,
    }
    Ok(true)
}

/// Records the peer that this node has dialled at its listed address, if it is not the one that is
/// remembered already.
pub(crate) fn record(
    inbox: &dyn Inbox,
    own: NodeId,
    peer: NodeId,
    claimed: NodeBoot,
) -> Result<(), Rejection> {
    match compare(inbox, own, peer, claimed)? {
        Verdict::Unrecorded(boot) | Verdict::Later(boot) => remember(inbox, peer, boot),
        Verdict::Known => Ok(()),
    }
}

fn compare(
    inbox: &dyn Inbox,
    witness: NodeId,
    subject: NodeId,
    claimed: NodeBoot,
) -> Result<Verdict, Rejection> {
    let remembered = inbox.remembered(subject);
    judge(remembered, claimed).map_err(|refusal| {
        let remembered = remembered.unwrap_or_default().into();
        let claimed = claimed.into();
        Rejection::Mismatch(Mismatch { refusal, witness, subject, remembered, claimed })
    })
}

fn remember(inbox: &dyn Inbox, peer: NodeId, boot: NodeBoot) -> Result<(), Rejection> {
    inbox.remember(peer, boot).map_err(|source| Rejection::Unrecordable { peer, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{BootNonce, Incarnation, MAX_SEGMENT_STEP};

    /// A start of the directory 7, by count, nonce and segment in which its log ends.
    fn boot(count: u64, nonce: u64, segment: u32) -> NodeBoot {
        NodeBoot {
            incarnation: Incarnation(7),
            count: BootCount(count),
            nonce: BootNonce(nonce),
            log_end: LogPosition { segment, offset: 8 },
        }
    }

    #[test]
    fn who_is_let_in_and_why_others_are_not() {
        let known = boot(5, 50, 9);
        let other_directory = NodeBoot { incarnation: Incarnation(8), ..boot(6, 60, 9) };
        let far = MAX_BOOT_STEP + 5;
        for (claimed, expected) in [
            (known, Ok(Verdict::Known)),
            // The log went on within the start, and the hello tells where it began.
            (boot(5, 50, 3), Ok(Verdict::Known)),
            (boot(6, 60, 9), Ok(Verdict::Later(boot(6, 60, 9)))),
            (boot(far, 60, 10), Ok(Verdict::Later(boot(far, 60, 10)))),
            (other_directory, Err(BootRefusal::Incarnation)),
            (boot(4, 40, 20), Err(BootRefusal::OldBoot)),
            (boot(0, 0, 0), Err(BootRefusal::OldBoot)),
            (boot(5, 51, 20), Err(BootRefusal::OtherBoot)),
            (boot(6, 60, 8), Err(BootRefusal::ShortLog)),
            (boot(far + 1, 60, 10), Err(BootRefusal::FarBoot)),
            (boot(u64::MAX, 60, 10), Err(BootRefusal::FarBoot)),
        ] {
            assert_eq!(judge(Some(known), claimed), expected, "{claimed:?}");
        }
    }

    #[test]
    fn what_is_first_heard_of_a_node_is_to_be_recorded() {
        assert_eq!(judge(None, boot(3, 30, 2)), Ok(Verdict::Unrecorded(boot(3, 30, 2))));
        assert_eq!(judge(None, boot(u64::MAX, 30, 2)), Err(BootRefusal::FarBoot));
    }

    #[test]
    fn a_log_that_claims_to_be_absurdly_long_is_remembered_as_shorter() {
        let absurd = boot(6, 60, u32::MAX);
        let Ok(Verdict::Later(remembered)) = judge(Some(boot(5, 50, 9)), absurd) else {
            panic!("a later start is let in");
        };
        assert_eq!(remembered.log_end.segment, 9 + MAX_SEGMENT_STEP);
    }

    #[test]
    fn a_refusal_says_what_each_side_knows() {
        let mismatch = |refusal| {
            let (witness, subject) = (NodeId(1), NodeId(2));
            let (remembered, claimed) = (boot(7, 1, 12).into(), boot(5, 2, 9).into());
            Mismatch { refusal, witness, subject, remembered, claimed }.to_string()
        };
        assert_eq!(
            mismatch(BootRefusal::OldBoot),
            "node 1 remembers start 7 of node 2, with its log durable up to 12:8, and this is start \
             5, whose log ends at 9:8: an old copy of its directory"
        );
        for refusal in [BootRefusal::OtherBoot, BootRefusal::FarBoot, BootRefusal::ShortLog] {
            assert!(mismatch(refusal).contains("start 7"), "{}", mismatch(refusal));
        }
    }
}
