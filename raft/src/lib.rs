//! The consensus core of Logboat: one replica of one Raft group as a deterministic state machine.
//!
//! [`Raft::step`] takes an [`Input`] (a message, a proposal, time that passed, an answer from the
//! disk) and appends the [`Output`]s that follow from it. The core does no I/O, reads no clock,
//! draws no randomness of its own and waits for nothing; it is `no_std`, so that none of these can
//! slip in. What an output needs before it may take effect is written in its type: a message that
//! promises something durable is an [`Output::SendAfter`], never an [`Output::Send`].
//!
//! # The protocol
//! It is Raft as in the paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", extended version) with what the thesis (Ongaro, "Consensus: Bridging Theory and
//! Practice") adds for practice.
//!
//! - **Elections.** A follower that hears no leader for one to two election timeouts asks for
//!   pre-votes in the next term, which nobody enters yet, and campaigns in it only when a majority
//!   would vote for it. Whoever heard a leader within an election timeout refuses both kinds of
//!   votes, unless that leader itself asked for the campaign ([`Input::Transfer`]). A leader that
//!   heard no majority for so long steps down. A refusal carries the refuser's term, and a leader
//!   of an earlier term is answered with the later one: nodes in different terms always find
//!   together.
//! - **Replication.** A new leader writes a no-op, sends it to all, and learns from their answers
//!   where the logs meet: a refusal names term, first index of that term, and length
//!   ([`Conflict`]), so that one round trip skips a term. From then on appends are pipelined, up to
//!   a limit of messages and bytes. Silence makes the leader start over after what the follower is
//!   known to hold. Who needs entries that were compacted away gets a snapshot.
//! - **Durability.** Votes and acknowledgements leave when what they promise is durable; a leader's
//!   appends leave at once, and its own disk counts in the majority like any other. Writes are
//!   numbered by [`Mark`]s. A late write of entries that were replaced since counts for nothing.
//! - **Commit.** What a majority has durably is committed once it reaches into the leader's own
//!   term, and everything before it along with it. Entries are handed out by [`Output::Apply`] when
//!   they are committed and durable here, in order, each once.
//! - **Reads.** A majority that answers a numbered heartbeat proves that the leader led when the
//!   number was given out, without a clock. Reads wait for that and for the state machine to reach
//!   the commit index of that moment.
//!
//! # The code
//! [`Raft`] meets the term of every message, changes roles, and hands the rest to the handlers of
//! the role: `follower`, `candidate`, `leader`. Roles are enum variants that own what only they
//! need; what every role has (term and vote, log, commit index, the order of writes) is in
//! `replica`. A leader keeps a `progress` for each follower and its `reads`. `log` knows the terms
//! of all entries but holds only those that are not yet both durable and applied, so that an idle
//! replica takes a few hundred bytes. `quorum` is the arithmetic of majorities.
#![no_std]

extern crate alloc;

/// Whether a deliberate bug is to be lived with; see `mutants`.
#[cfg(logboat_mutants)]
#[macro_export]
#[doc(hidden)]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutants::is($crate::mutants::Mutant::$name)
    };
}

/// Never outside of builds for it: no bug is deliberate.
#[cfg(not(logboat_mutants))]
#[macro_export]
#[doc(hidden)]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

mod candidate;
mod config;
mod entry;
mod follower;
mod ids;
mod io;
mod leader;
mod log;
mod message;
#[cfg(logboat_mutants)]
pub mod mutants;
mod progress;
mod quorum;
mod raft;
mod reads;
mod replica;
mod status;
mod time;

pub use config::{Config, Tuning};
pub use entry::{ChecksumMismatch, Commands, Entries, Entry, EntryKind, checksum};
pub use ids::{ClusterId, Epoch, GroupId, Incarnation, Index, LogId, NodeId, Run, Term};
pub use io::{
    Fortification, Grant, HardState, Input, LoadFor, LogWrite, Mark, Output, Persist, ReadToken,
    Refusal, Restored, RoleKind, TermRun,
};
pub use message::{Conflict, Message, Payload};
pub use raft::Raft;
pub use status::{Flow, PeerStatus, Status};
pub use time::Time;
