//! The consensus core of Logboat: one replica of one Raft group as a deterministic state machine.
//!
//! [`Raft::step`] takes an [`Input`] (a message, a proposal, time that passed, an answer from the
//! disk) and appends the [`Output`]s that follow from it. The core does no I/O, reads no clock,
//! draws no randomness of its own and waits for nothing. It is `no_std`, so that none of these can
//! slip in. The type of an output says what it needs before it may take effect. A message that
//! promises something durable is an [`Output::SendAfter`], never an [`Output::Send`].
//!
//! # The protocol
//! It is Raft as in the paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", extended version). From the thesis (Ongaro, "Consensus: Bridging Theory and
//! Practice") come pre-votes, leader transfer, pipelining and ReadIndex. The liveness of nodes
//! takes the place of heartbeats.
//!
//! **Liveness** is a matter of pairs of nodes, not of groups. A node *supports* a peer at an epoch,
//! and what it thereby promises stands on its disk ([`Grant`]). Each step is handed what the node
//! knows of that ([`Support`]). This is CockroachDB's store liveness; `support` says what differs.
//!
//! **Fortification.** With the first message of a leader that reaches it in a term, a follower
//! *fortifies* the leader's node ([`Fortification`]), at the epoch at which its own node supports
//! that one. It does so by the same write as the entries, and reports it. While the support lasts,
//! it neither campaigns nor votes for another node, in whatever term. So it has nothing to wait
//! for. Neither has a leader whose followers fortify it and have applied what is committed. A group
//! at rest has no timer and sends nothing. What else ends a fortification names a term, so that
//! late word of an earlier leadership does not end a later one.
//!
//! **Elections.**
//! - A follower whose node withdraws its support from the leader's node ([`Input::SupportChanged`])
//!   campaigns, one voter after the other, in an order that differs from group to group. A replica
//!   that fortifies nobody campaigns after one to two election timeouts without a leader.
//! - It first asks for pre-votes in the next term, which nobody enters yet (thesis, section 9.6).
//!   It campaigns only when a majority would vote for it.
//! - A replica refuses both kinds of votes while it fortifies another node, or if it heard a leader
//!   within an election timeout. The exception is a campaign that the leader itself asked for
//!   ([`Input::Transfer`]). A leader whose own node asks for votes does not lead any more.
//! - A leader steps down when no majority of nodes supports its own (check-quorum), and *resigns*
//!   ([`Payload::Resign`]): it tells those whose nodes still do that it leads no more, which sets
//!   them free. It repeats that until it hears of a leader or may campaign.
//! - A refusal carries the refuser's term, and a leader of an earlier term is answered with the
//!   later one. So replicas in different terms always find together.
//!
//! **Replication.**
//! - A new leader writes a no-op, sends it to all, and learns from their answers where the logs
//!   meet. A refusal names a term, its first index and the log's length ([`Conflict`]), so that one
//!   round trip skips a term (fast backup).
//! - From then on appends are pipelined, up to a limit of messages and bytes (flow control). After
//!   silence, the leader starts over after what the follower is known to hold. While the follower's
//!   node does not support the leader's, nothing is repeated.
//! - A follower learns of a commit by the next append. When none follows, [`Payload::Fortify`]
//!   tells it. A follower that needs entries which were compacted away gets a snapshot.
//!
//! **Durability.** Votes and acknowledgements leave when what they promise is durable. A leader's
//! appends leave at once, and its own disk counts in the majority like any other (thesis, section
//! 10.2.1). Writes are numbered ([`WriteSeq`]). A late write of entries that were replaced since
//! counts for nothing.
//!
//! **Commit.** What a majority holds durably is committed once it reaches into the leader's own
//! term, and everything before it along with it (paper, section 5.4.2). [`Output::Apply`] hands out
//! entries that are committed and durable here, in order, each once.
//!
//! **Reads.**
//! - A node confirms all of its leaders at once. It opens a numbered [`Round`], and its peers
//!   answer at which epoch they support it. If that is the epoch of a follower's fortification, the
//!   follower has voted for no other leader. A majority of those proves that the leader led when
//!   the round was opened, without a clock.
//! - A read waits for a round that is opened after it came ([`Raft::awaited_round`],
//!   [`Input::Confirmed`]), and for the state machine to reach the commit index of that moment.
//! - A follower serves reads as well, once the leader has told it that index (thesis, section 6.4).
//! - On request a leader relies on how long its peers have promised their support ([`Lease`]). That
//!   is safe only as far as clocks run equally fast.
//! - Once a leader has told its successor to campaign, it confirms nothing any more.
//!
//! **Members** change by joint consensus (thesis, section 4.3). A [`Configuration`] is an entry,
//! and in force as soon as it is appended. A change of voters is two of them: a joint one, which
//! needs majorities of both the old and the new voters, and the one after it. Learners get
//! everything and count nowhere. `docs/membership.md` has the rules, and the argument why they are
//! safe.
//!
//! # The code
//! Imports go down in this list, never up.
//!
//! - `raft`: [`Raft`], which is what callers see. A step is an input, its handler, and what every
//!   step ends with.
//! - `role`: the roles and their handlers. `role/receive` has the rules of terms and hands messages
//!   to their handlers, `role/election` gives votes and asks for them, and `follower`, `candidate`
//!   and `leader` are one file a role. `leader/replication` is what goes to one follower,
//!   `leader/reads` the reads and their proof, `leader/membership` the changes of members.
//! - `step`: the context that every handler works with, and the place where outputs arise that rest
//!   on durability.
//! - `replica`: what every role has: term, vote, fortification, log, commit index, order of writes.
//!   `replica/timing` says when to campaign.
//! - `progress`: a follower as its leader sees it. `read_queue` and `follower_reads` hold the reads
//!   under way, on a leader and on a follower.
//! - `log`: the terms of all entries, but only those entries that are not yet both durable and
//!   applied, so that an idle replica takes a few hundred bytes.
//! - `configuration`: who belongs to a group, its changes, and their encoding.
//! - `quorum`: the arithmetic of majorities, also of those in both halves of a joint configuration.
//! - `plausible`: how far ahead a number that a peer names can be.
//! - `io`, `disk`, `message`, `support`: the boundary, which is inputs and outputs, what is
//!   written, what is sent, and the liveness of nodes.
//! - `voters`: how replicas of groups that were founded with different voters tell each other.
//! - `node_boot`: what nodes tell each other of their disks. The core itself needs none of it.
#![no_std]

extern crate alloc;

mod config;
mod configuration;
mod disk;
mod entry;
mod follower_reads;
mod ids;
mod io;
mod log;
mod message;
mod node_boot;
mod plausible;
mod progress;
mod quorum;
mod raft;
mod read_queue;
mod replica;
mod reserve_one;
mod resignation;
mod role;
mod status;
mod step;
mod support;
mod time;
mod violation;
mod voters;

pub use config::{Config, Tuning};
pub use configuration::{
    Change, ChangeError, ChangeRefusal, Configuration, InvalidConfiguration, MAX_MEMBERS, Member,
    MemberRole,
};
pub use disk::{
    Fortification, HardState, LogWrite, Persist, Restored, SnapshotMeta, TermRun, WriteSeq,
};
pub use entry::{ChecksumMismatch, Commands, Entries, Entry, EntryKind, checksum};
pub use ids::{
    BootCount, ClusterId, Epoch, GroupId, Incarnation, Index, LogId, NodeId, ReplicaAddress,
    ReplicaId, RequestSeq, Round, Term,
};
pub use io::{Input, LogReadTarget, Output, ReadFrom, ReadMode, ReadToken, Refusal, RoleKind};
pub use message::{Conflict, Message, Payload};
pub use node_boot::{BootNonce, Introduction, LogPosition, MAX_SEGMENT_STEP, Remembered, Start};
pub use plausible::{MAX_COUNT, MAX_INDEX_STEP, MAX_STEP};
pub use raft::Raft;
pub use resignation::Resignation;
pub use status::{Flow, PeerStatus, Status};
pub use support::{
    ClockReading, Confirmation, Grant, Lease, PeerSupport, Support, SupportMessage, SupportSettings,
};
pub use time::Time;
pub use violation::Violation;
pub use voters::VotersDigest;
