//! The consensus core of Logboat: one replica of one Raft group as a deterministic state machine.
//!
//! [`Raft::step`] takes an [`Input`] (a message, a proposal, time that passed, an answer from the
//! disk) and appends the [`Output`]s that follow from it. The core does no I/O, reads no clock,
//! draws no randomness of its own and waits for nothing; it is `no_std`, so that none of these can
//! slip in. What an output needs before it may take effect is written in its type: a message that
//! promises something durable is an [`Output::SendAfter`], never an [`Output::Send`].
#![no_std]

extern crate alloc;

mod candidate;
mod config;
mod entry;
mod follower;
mod ids;
mod io;
mod leader;
mod log;
mod message;
mod progress;
mod quorum;
mod raft;
mod reads;
mod replica;
mod time;

pub use config::{Config, Tuning};
pub use entry::{ChecksumMismatch, Entry, EntryKind};
pub use ids::{ClusterId, GroupId, Index, LogId, NodeId, Term};
pub use io::{
    HardState, Input, LoadFor, LogWrite, Mark, Output, Persist, ReadToken, Refusal, Restored,
    RoleKind, TermRun,
};
pub use message::{Conflict, Message, Payload};
pub use raft::{Flow, PeerStatus, Raft, Status};
pub use time::Time;
