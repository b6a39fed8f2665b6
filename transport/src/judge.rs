//! Whether a node that introduces itself is the one that is remembered under its id.
//!
//! A node is known by its disk. What it promised stands in its data directory: on an emptied one,
//! or on an old copy, it would break promises. So its peers remember the directory's incarnation,
//! the start on it that they last let in, and how far its log was durable. [`judge`] compares, and
//! with [`admit`], [`record`], [`note_welcome`] and [`confirm`] around it, it is all that
//! transports and simulations need.
//!
//! # How a start is let in
//! 1. The node dials, and tells which of its starts the peer last let in.
//! 2. The peer compares that with what it remembers. It notes durably that it welcomes the running
//!    start, and says so.
//! 3. The node notes durably that the peer let it in. Only then it says anything else.
//! 4. Before the peer takes anything else from the node, it notes durably that the node knows
//!    ([`confirm`]).
//!
//! So once a peer has taken a node's word, it lets in only starts on directories that know of that.
//! A copy that was made before does not, and never learns it, however often it starts. A crash in
//! between does no harm: the peer remembers both the start that it welcomed and the one before.

use crate::api::Inbox;
use logboat_raft::{BootCount, ClusterId, Introduction, LogPosition, NodeId, Remembered, Start};
use std::{fmt, io};

/// How many starts later than remembered a node may claim to be. A forged count leaves the node
/// itself room to go on, and nobody restarts so often between two connections.
pub const MAX_BOOT_STEP: u64 = 1 << 20;

/// What is to be done about a node that introduces itself, and may be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is remembered of it: this is to be recorded, but only by a node that dialled it at
    /// its listed address. A node that is dialled itself has no proof of who dials.
    Unrecorded(Remembered),
    /// Its running start was welcomed before.
    Known,
    /// It is a later start of the same directory, or has noted its welcome: this is to be
    /// remembered before it is welcomed.
    Later(Remembered),
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
    /// Its directory does not know of the start that was last let in.
    ForgottenWelcome,
    /// It was let in later than is remembered: whoever remembers has lost something.
    UnknownWelcome,
    /// It was lost with the majority of a group, and given up: the group went on without it.
    Fenced,
}

/// Compares what a node claims to be with what is `remembered` under its id.
///
/// # Errors
/// When it is not that node, or one of both has lost a part of what it had promised.
pub fn judge(
    remembered: Option<Remembered>,
    claimed: Introduction,
) -> Result<Verdict, BootRefusal> {
    let known = remembered.unwrap_or_default();
    let heard = known.heard.advance(claimed.log_end);
    let newest = known.newest().unwrap_or_default();
    if known.fenced {
        return Err(BootRefusal::Fenced);
    } else if remembered.is_some() && claimed.incarnation != known.incarnation {
        return Err(BootRefusal::Incarnation);
    } else if known.newest() == Some(claimed.newest) {
        // What else it tells was compared before. It may be from before it heard of its welcome.
        return Ok(match known.welcomed.is_some() && claimed.let_in == known.welcomed {
            true => Verdict::Later(known.confirmed()),
            false => Verdict::Known,
        });
    } else if claimed.newest.count < newest.count {
        return Err(BootRefusal::OldBoot);
    } else if claimed.newest.count.0 - newest.count.0 > MAX_BOOT_STEP {
        return Err(BootRefusal::FarBoot);
    } else if remembered.is_none() {
        let incarnation = claimed.incarnation;
        return Ok(Verdict::Unrecorded(Remembered { incarnation, heard, ..known }));
    } else if claimed.newest.count == newest.count {
        return Err(BootRefusal::OtherBoot);
    }
    let has_noted_welcome = known.welcomed.is_some() && claimed.let_in == known.welcomed;
    if claimed.let_in != known.let_in && !has_noted_welcome {
        let is_later = claimed.let_in.is_some_and(|start| start.count > newest.count);
        return Err(match is_later {
            true => BootRefusal::UnknownWelcome,
            false => BootRefusal::ForgottenWelcome,
        });
    } else if claimed.log_end < known.heard {
        return Err(BootRefusal::ShortLog);
    }
    let (let_in, welcomed) = (claimed.let_in, Some(claimed.newest));
    Ok(Verdict::Later(Remembered { let_in, welcomed, heard, ..known }))
}

/// Whether two nodes may be of one cluster, by the ids that were drawn for their clusters, as far
/// as they know them yet. One that does not is told.
pub(crate) fn may_be_one(own: Option<ClusterId>, other: Option<ClusterId>) -> bool {
    own.zip(other).is_none_or(|(own, other)| own == other)
}

/// What may be told of a node to whoever claims to be it: the newest start that was let in, and how
/// far its log was durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of that start.
    pub count: BootCount,
    /// As was heard.
    pub log_end: LogPosition,
}

impl From<Remembered> for Progress {
    fn from(remembered: Remembered) -> Self {
        let count = remembered.newest().unwrap_or_default().count;
        Self { count, log_end: remembered.heard }
    }
}

/// A node that is not the one that is remembered, told such that both sides can log it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What does not fit.
    pub refusal: BootRefusal,
    /// Who remembers.
    pub witness: NodeId,
    /// Of whom.
    pub subject: NodeId,
    /// What the witness remembers.
    pub remembered: Progress,
    /// What the subject claims.
    pub claimed: Introduction,
}

impl Mismatch {
    /// The node whose directory lacks something.
    #[must_use]
    pub fn culprit(&self) -> NodeId {
        match self.refusal {
            BootRefusal::UnknownWelcome => self.witness,
            _ => self.subject,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refusal, witness, subject, remembered: old, claimed } = self;
        let Introduction { newest, let_in, log_end, .. } = claimed;
        match refusal {
            BootRefusal::Incarnation => write!(
                f,
                "node {witness} knows node {subject} by another data directory: node {subject} was \
                 here before, and must not come back under this id on a directory that was emptied"
            ),
            BootRefusal::OldBoot => write!(
                f,
                "node {witness} remembers start {} of node {subject}, with its log durable up to \
                 {}, and this is start {}, whose log ends at {log_end}: an old copy of its \
                 directory",
                old.count, old.log_end, newest.count
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
                old.count, newest.count
            ),
            BootRefusal::ShortLog => write!(
                f,
                "node {witness} remembers the log of node {subject} as durable up to {}, in start \
                 {}, and after that start it ends at {log_end}: an old copy of its directory, or a \
                 log that lost its end",
                old.log_end, old.count
            ),
            BootRefusal::ForgottenWelcome => write!(
                f,
                "node {witness} let in start {} of node {subject}, and the directory of node \
                 {subject} does not know that: an old copy of its directory, or one that lost its \
                 file PEERS",
                old.count
            ),
            BootRefusal::Fenced => write!(
                f,
                "node {subject} was given up when groups had lost their majority, and node \
                 {witness} goes on without it: its data are not needed any more, and it must join \
                 under a new id, on an empty directory"
            ),
            BootRefusal::UnknownWelcome => write!(
                f,
                "node {witness} let in start {} of node {subject}, as that knows, and the \
                 directory of node {witness} does not know that: an old copy of its directory",
                let_in.unwrap_or_default().count
            ),
        }
    }
}

/// Why a node is not let in that its peer knows, or would record.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It is not the node that is remembered.
    #[error("{0}")]
    Mismatch(Mismatch),
    /// What can't be recorded could not be told from its successor later.
    #[error("noting what is known of node {peer}: {source}")]
    Unrecordable {
        /// The peer.
        peer: NodeId,
        /// Why not.
        source: io::Error,
    },
    /// The node belongs to another cluster, or that can't be noted.
    #[error("node {peer} belongs to cluster {cluster}: {source}")]
    OtherCluster {
        /// The peer.
        peer: NodeId,
        /// The id that was drawn for its cluster.
        cluster: ClusterId,
        /// Why this node does not go along.
        source: io::Error,
    },
    /// A later start was welcomed before this one said anything.
    #[error("a later start of node {0} has come")]
    Superseded(NodeId),
}

/// Whether the peer that dialled this node is recorded here. A later start of it is remembered as
/// welcome.
///
/// # Errors
/// When it is not let in.
pub fn admit(
    inbox: &dyn Inbox,
    own: NodeId,
    peer: NodeId,
    claimed: Introduction,
) -> Result<bool, Rejection> {
    match compare(inbox.remembered(peer), own, peer, claimed)? {
        Verdict::Unrecorded(_) => return Ok(false),
        Verdict::Known => {}
        Verdict::Later(later) => remember(inbox, peer, later)?,
    }
    Ok(true)
}

/// Records the peer that this node has dialled at its listed address, if it is not recorded yet.
/// `remembered` is from before the dial: the peer may have come further since it told where it is.
/// Or it was let in by this node after the dial began, and told of that already.
///
/// A node that does not know yet which id was drawn for its cluster takes over the peer's, before
/// it records the peer. So all that it records later are of that cluster.
///
/// # Errors
/// When it is not the peer that is remembered, or it is of another cluster.
pub fn record(
    inbox: &dyn Inbox,
    own: NodeId,
    peer: NodeId,
    remembered: Option<Remembered>,
    claimed: Introduction,
) -> Result<(), Rejection> {
    let before = compare(remembered, own, peer, claimed);
    let verdict = before.or_else(|mismatch| {
        compare(inbox.remembered(peer), own, peer, claimed).map_err(|_| mismatch)
    });
    let verdict = verdict?;
    if let Some(cluster) = claimed.cluster {
        let adopted = inbox.belongs_to(cluster);
        adopted.map_err(|source| Rejection::OtherCluster { peer, cluster, source })?;
    }
    match verdict {
        Verdict::Unrecorded(first) => remember(inbox, peer, first),
        // A start is welcomed when it dials, since nothing comes from it on this connection.
        Verdict::Later(_) | Verdict::Known => Ok(()),
    }
}

/// Notes that the peer lets this start in, before anything is sent to it.
///
/// # Errors
/// When that can't be noted.
pub fn note_welcome(inbox: &dyn Inbox, peer: NodeId) -> Result<(), Rejection> {
    inbox.let_in_by(peer).map_err(|source| Rejection::Unrecordable { peer, source })
}

/// Notes that a peer knows that its `start` was let in, since it goes on after its welcome.
///
/// # Errors
/// When that can't be noted, or a later start has come.
pub fn confirm(inbox: &dyn Inbox, peer: NodeId, start: Start) -> Result<(), Rejection> {
    let known = inbox.remembered(peer).unwrap_or_default();
    if known.let_in == Some(start) {
        Ok(())
    } else if known.welcomed == Some(start) {
        remember(inbox, peer, known.confirmed())
    } else {
        Err(Rejection::Superseded(peer))
    }
}

fn compare(
    remembered: Option<Remembered>,
    witness: NodeId,
    subject: NodeId,
    claimed: Introduction,
) -> Result<Verdict, Rejection> {
    judge(remembered, claimed).map_err(|refusal| {
        let remembered = remembered.unwrap_or_default().into();
        Rejection::Mismatch(Mismatch { refusal, witness, subject, remembered, claimed })
    })
}

fn remember(inbox: &dyn Inbox, peer: NodeId, remembered: Remembered) -> Result<(), Rejection> {
    inbox.remember(peer, remembered).map_err(|source| Rejection::Unrecordable { peer, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{BootNonce, Incarnation, MAX_SEGMENT_STEP};

    const fn start(count: u64, nonce: u64) -> Start {
        Start { count: BootCount(count), nonce: BootNonce(nonce) }
    }

    const fn end(segment: u32) -> LogPosition {
        LogPosition { segment, offset: 8 }
    }

    /// A start on the directory 7 that was last let in as start 5, with a log that ended in that
    /// segment then.
    fn claim(newest: Start, segment: u32) -> Introduction {
        let (incarnation, let_in) = (Incarnation(7), Some(start(5, 50)));
        Introduction { incarnation, newest, let_in, log_end: end(segment), cluster: None }
    }

    /// Start 5 on directory 7 was let in, and its log heard to be durable up to segment 9.
    fn known() -> Remembered {
        let (incarnation, let_in) = (Incarnation(7), Some(start(5, 50)));
        Remembered { incarnation, let_in, welcomed: None, heard: end(9), fenced: false }
    }

    /// What is remembered when a later start of it was welcomed.
    fn welcomed(later: Start, segment: u32) -> Remembered {
        Remembered { welcomed: Some(later), heard: end(segment), ..known() }
    }

    /// What is remembered when that start has gone on after its welcome.
    fn confirmed(start: Start) -> Remembered {
        Remembered { let_in: Some(start), ..known() }
    }

    #[test]
    fn who_is_let_in_and_why_others_are_not() {
        let other_directory =
            Introduction { incarnation: Incarnation(8), ..claim(start(6, 60), 9) };
        let let_in = |let_in| Introduction { let_in, ..claim(start(9, 90), 20) };
        let far = MAX_BOOT_STEP + 5;
        let later = |newest, segment| Ok(Verdict::Later(welcomed(newest, segment)));
        for (claimed, expected) in [
            (claim(start(5, 50), 9), Ok(Verdict::Known)),
            // The log went on within the start, and what is told is where it began. The node may
            // not know yet that it was let in.
            (Introduction { let_in: None, ..claim(start(5, 50), 3) }, Ok(Verdict::Known)),
            (claim(start(6, 60), 9), later(start(6, 60), 9)),
            (claim(start(9, 90), 12), later(start(9, 90), 12)),
            (claim(start(far, 60), 10), later(start(far, 60), 10)),
            (other_directory, Err(BootRefusal::Incarnation)),
            (claim(start(4, 40), 20), Err(BootRefusal::OldBoot)),
            (claim(start(0, 0), 0), Err(BootRefusal::OldBoot)),
            (claim(start(5, 51), 20), Err(BootRefusal::OtherBoot)),
            (claim(start(6, 60), 8), Err(BootRefusal::ShortLog)),
            (claim(start(900, 60), 8), Err(BootRefusal::ShortLog)),
            (claim(start(far + 1, 60), 10), Err(BootRefusal::FarBoot)),
            (claim(start(u64::MAX, 60), 10), Err(BootRefusal::FarBoot)),
            (let_in(None), Err(BootRefusal::ForgottenWelcome)),
            (let_in(Some(start(4, 40))), Err(BootRefusal::ForgottenWelcome)),
            (let_in(Some(start(5, 51))), Err(BootRefusal::ForgottenWelcome)),
            (let_in(Some(start(6, 60))), Err(BootRefusal::UnknownWelcome)),
        ] {
            assert_eq!(judge(Some(known()), claimed), expected, "{claimed:?}");
        }
    }

    #[test]
    fn a_welcome_may_have_been_noted_or_not() {
        let (confirmed, known) = (confirmed(start(6, 60)), welcomed(start(6, 60), 9));
        let noted = Introduction { let_in: Some(start(6, 60)), ..claim(start(8, 80), 9) };
        let later =
            Remembered { let_in: Some(start(6, 60)), welcomed: Some(start(8, 80)), ..known };
        for (claimed, expected) in [
            (claim(start(6, 60), 3), Ok(Verdict::Known)),
            (Introduction { newest: start(6, 60), ..noted }, Ok(Verdict::Later(confirmed))),
            (claim(start(5, 50), 3), Err(BootRefusal::OldBoot)),
            (claim(start(7, 70), 9), Ok(Verdict::Later(welcomed(start(7, 70), 9)))),
            (noted, Ok(Verdict::Later(later))),
            (claim(start(6, 61), 9), Err(BootRefusal::OtherBoot)),
            (
                Introduction { let_in: Some(start(6, 61)), ..noted },
                Err(BootRefusal::ForgottenWelcome),
            ),
        ] {
            assert_eq!(judge(Some(known), claimed), expected, "{claimed:?}");
        }
    }

    #[test]
    fn what_is_first_heard_of_a_node_is_to_be_recorded() {
        let first =
            Remembered { incarnation: Incarnation(7), heard: end(2), ..Remembered::default() };
        assert_eq!(judge(None, claim(start(3, 30), 2)), Ok(Verdict::Unrecorded(first)));
        let forged = claim(start(u64::MAX, 30), 2);
        assert_eq!(judge(None, forged), Err(BootRefusal::FarBoot));
        // Nothing was welcomed yet, which is no start that anybody could claim.
        let nothing = Introduction { let_in: None, ..claim(Start::default(), 2) };
        assert_eq!(judge(Some(first), nothing), Err(BootRefusal::OtherBoot));
        let unknown = judge(Some(first), claim(start(6, 60), 2));
        assert_eq!(unknown, Err(BootRefusal::UnknownWelcome));
    }

    #[test]
    fn a_node_that_was_given_up_is_refused_on_whatever_directory() {
        let fenced = Remembered { fenced: true, ..known() };
        let other = Introduction { incarnation: Incarnation(8), ..claim(start(1, 10), 9) };
        for claimed in [claim(start(5, 50), 9), claim(start(6, 60), 9), other] {
            assert_eq!(judge(Some(fenced), claimed), Err(BootRefusal::Fenced), "{claimed:?}");
        }
    }

    #[test]
    fn a_copy_is_refused_however_often_it_starts() {
        // Of the directory as it was before start 5 was let in.
        let old_copy = Introduction { let_in: Some(start(4, 40)), ..claim(start(5, 55), 30) };
        for count in 5..100 {
            let copy = Introduction { newest: start(count, 1_000 + count), ..old_copy };
            assert!(judge(Some(known()), copy).is_err(), "{copy:?}");
        }
    }

    #[test]
    fn a_log_that_claims_to_be_absurdly_long_is_remembered_as_shorter() {
        let absurd = claim(start(6, 60), u32::MAX);
        let Ok(Verdict::Later(remembered)) = judge(Some(known()), absurd) else {
            panic!("a later start is let in");
        };
        assert_eq!(remembered.heard.segment, 9 + MAX_SEGMENT_STEP);
    }

    #[test]
    fn a_refusal_says_what_each_side_knows_and_who_lacks_something() {
        let mismatch = |refusal| {
            let (witness, subject) = (NodeId(1), NodeId(2));
            let remembered = Progress { count: BootCount(7), log_end: end(12) };
            let claimed = claim(start(5, 2), 9);
            Mismatch { refusal, witness, subject, remembered, claimed }
        };
        assert_eq!(
            mismatch(BootRefusal::OldBoot).to_string(),
            "node 1 remembers start 7 of node 2, with its log durable up to 12:8, and this is \
             start 5, whose log ends at 9:8: an old copy of its directory"
        );
        for refusal in [
            BootRefusal::OtherBoot,
            BootRefusal::FarBoot,
            BootRefusal::ShortLog,
            BootRefusal::ForgottenWelcome,
        ] {
            let mismatch = mismatch(refusal);
            assert!(mismatch.to_string().contains("start 7"), "{mismatch}");
            assert_eq!(mismatch.culprit(), NodeId(2));
        }
        let unknown = mismatch(BootRefusal::UnknownWelcome);
        assert_eq!(
            unknown.to_string(),
            "node 1 let in start 5 of node 2, as that knows, and the directory of node 1 does not \
             know that: an old copy of its directory"
        );
        assert_eq!(unknown.culprit(), NodeId(1));
    }
}
