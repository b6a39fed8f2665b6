//! Deliberate bugs, to find out whether the tests of whole clusters notice them.
//!
//! They exist only in builds with `--cfg logboat_mutants`, of which release builds can't be made. One
//! build has them all; [`choose`] picks the one to live with, for the whole process. A place in the
//! code asks `mutant!(Name)`, which is `false` everywhere else.

use core::sync::atomic::{AtomicU8, Ordering};

#[cfg(not(debug_assertions))]
compile_error!("deliberate bugs are for debug builds only");

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A deliberate bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutant {
            /// None.
            None,
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

mutants! {
    /// A follower acknowledges entries before they are durable.
    AcknowledgeBeforeSync,
    /// What waits for the log to be durable leaves at once.
    PromiseBeforeSync,
    /// A vote is not written.
    VoteNotPersisted,
    /// A new term is not written until there is a vote in it.
    TermNotPersisted,
    /// A second candidate gets a vote in the same term.
    TwoVotesATerm,
    /// A vote goes to a candidate whose log is behind.
    VoteForAShorterLog,
    /// A leader commits an entry of an older term by counting.
    CommitOlderTerm,
    /// A leader counts itself for entries that it has not on its disk.
    CountUnsyncedLeader,
    /// A pre-vote makes its receiver enter the term.
    PreVoteRaisesTerm,
    /// An append cuts off what follows it, though it holds nothing new.
    TruncateOnStaleAppend,
    /// A leader looks for where two logs part one entry after what the follower named.
    WrongConflictIndex,
    /// A word on what was committed tells a follower to commit what it may not have.
    CommitPastMatch,
    /// A read is answered without asking a majority.
    ReadWithoutQuorum,
    /// A read is confirmed by any answer of a peer, whatever the epoch of its support, if there is any.
    ReadOfStaleEpoch,
    /// A leader serves reads on bonds after it told a successor to campaign.
    ReadAfterAbdication,
    /// A replica votes though it is bound to another's node.
    VoteWhileBound,
    /// A node forgets whom it supports when it restarts.
    SupportNotPersisted,
    /// A node gives support again at the epoch at which it withdrew it.
    SupportRegresses,
    /// Replicas are not told that the support for their leader's node has ended.
    WakeUpLost,
    /// A replica that meets a later term forgets whom it is bound to.
    BondEndsWithTerm,
    /// A new leader answers reads before its no-op is committed.
    ReadBeforeNoop,
    /// A read is answered though the state machine lags behind what was committed.
    ReadBeforeApply,
    /// A snapshot that got lost is never sent again.
    SnapshotLostForGood,
    /// A restart ignores that the snapshot is ahead of the log, and applies entries again.
    ApplyTwiceAfterSnapshot,
    /// A proposal is answered by whatever entry has its index.
    AnswerForAnotherEntry,
    /// An answer to a vote goes to another group.
    WrongGroup,
    /// The log says that it is durable without a sync.
    NoSync,
    /// Recovery believes a batch whose records don't verify.
    TornTailKept,
    /// A segment that is used again keeps its salt.
    RecycledSalt,
    /// What garbage collection moves cuts off what follows.
    RewriteTruncates,
    /// A segment goes though a group needs something in it.
    NeededSegmentDropped,
    /// A vote is left behind when garbage collection moves what a group needs.
    VoteLeftBehind,
    /// A batch header calls durable what is not.
    MarkAhead,
}

static CHOSEN: AtomicU8 = AtomicU8::new(0);

/// Makes this process live with a mutant from now on.
pub fn choose(mutant: Mutant) {
    CHOSEN.store(mutant as u8, Ordering::Relaxed);
}

/// Whether this is the one.
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    CHOSEN.load(Ordering::Relaxed) == mutant as u8
}
