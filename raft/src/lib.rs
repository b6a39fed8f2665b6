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
//! - **Liveness** is a matter of pairs of nodes, not of groups: a node *supports* a peer at an
//!   epoch, and what it thereby promises stands on its disk ([`Grant`]). A step is handed what the
//!   node knows of that ([`Support`]). With the first message of a leader that reaches it in a
//!   term, a follower *binds* itself to the leader's node at the epoch of its own node's support
//!   ([`Fortification`]), by the same write as the entries, and says so. While the support lasts it
//!   neither campaigns nor votes for another, in whatever term. So it has nothing to wait for, and
//!   neither has a leader whose followers are bound and have applied what is committed: a group at
//!   rest has no timer and sends nothing.
//! - **Elections.** A follower that loses its node's support for the leader's node
//!   ([`Input::SupportChanged`]) campaigns, one voter after the other in an order that differs from
//!   group to group; one that never was bound does so after one to two election timeouts without a
//!   leader. It asks for pre-votes in the next term, which nobody enters yet, and campaigns in it
//!   only when a majority would vote for it. Whoever is bound to another, or heard one within an
//!   election timeout, refuses both kinds of votes, unless the leader itself asked for the campaign
//!   ([`Input::Transfer`]). A bond with who asks for votes itself in a later term ends, since that
//!   one does not lead. A leader whom no majority of nodes supports steps down. A refusal carries
//!   the refuser's term, and a leader of an earlier term is answered with the later one: nodes in
//!   different terms always find together.
//! - **Replication.** A new leader writes a no-op, sends it to all, and learns from their answers
//!   where the logs meet: a refusal names term, first index of that term, and length
//!   ([`Conflict`]), so that one round trip skips a term. From then on appends are pipelined, up to
//!   a limit of messages and bytes. Silence makes the leader start over after what the follower is
//!   known to hold, unless its node does not support the leader's: then nothing is repeated until
//!   it does. When nothing follows an entry, a word of its own tells of its commit. Who needs
//!   entries that were compacted away gets a snapshot.
//! - **Durability.** Votes and acknowledgements leave when what they promise is durable; a leader's
//!   appends leave at once, and its own disk counts in the majority like any other. Writes are
//!   numbered by [`WriteSeq`]s. A late write of entries that were replaced since counts for nothing.
//! - **Commit.** What a majority has durably is committed once it reaches into the leader's own
//!   term, and everything before it along with it. Entries are handed out by [`Output::Apply`] when
//!   they are committed and durable here, in order, each once.
//! - **Reads.** A node confirms all of its leaders at once: it opens a numbered *round*, and its
//!   peers answer at which epoch they support it. Where that is the epoch of a follower's bond, the
//!   follower has voted for no other leader; a majority of those proves that the leader led when
//!   the round was opened, without a clock. Reads wait for a round that is opened after they came
//!   ([`Raft::awaited_round`], [`Input::Confirmed`]), and for the state machine to reach the commit
//!   index of that moment. A follower serves reads as well, once the leader has told it that index.
//!   On request a leader relies on how long its peers have promised their support instead, which is
//!   safe only as far as clocks run equally fast. Nothing can be confirmed any more once a
//!   successor was told to campaign.
//!
//! # The code
//! [`Raft`] meets the term of every message, changes roles, and hands the rest to the handlers of
//! the role: `follower`, `candidate`, `leader`. Roles are enum variants that own what only they
//! need; what every role has (term, vote and bond, log, commit index, the order of writes) is in
//! `replica`. Votes are given and refused in `election`. A leader keeps a `progress` for each
//! follower and its `reads`; `follower_reads` are those that a follower asks its leader about. `log`
//! knows the terms of all entries but holds only those that are not yet both durable and applied,
//! so that an idle replica takes a few hundred bytes. `quorum` is the arithmetic of majorities.
#![no_std]

extern crate alloc;

mod candidate;
mod config;
mod election;
mod entry;
mod follower;
mod follower_reads;
mod ids;
mod io;
mod leader;
mod log;
mod message;
mod plausible;
mod progress;
mod quorum;
mod raft;
mod reads;
mod replica;
mod reserve_one;
mod status;
mod support;
mod time;

pub use config::{Config, Tuning};
pub use entry::{ChecksumMismatch, Commands, Entries, Entry, EntryKind, checksum};
pub use ids::{
    BootCount, ClusterId, Epoch, GroupId, Incarnation, Index, LogId, NodeId, RequestSeq, Round,
    Term,
};
pub use io::{
    Fortification, Grant, HardState, Input, LoadFor, LogWrite, Output, Persist, ReadFrom, ReadMode,
    ReadToken, Refusal, Restored, RoleKind, TermRun, WriteSeq,
};
pub use message::{Conflict, Message, Payload};
pub use plausible::{MAX_COUNT, MAX_STEP, is_plausible};
pub use raft::Raft;
pub use status::{Flow, PeerStatus, Status};
pub use support::{Confirmation, Lease, PeerSupport, Support, SupportMessage};
pub use time::Time;
