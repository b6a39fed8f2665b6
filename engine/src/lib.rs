//! Logboat, a multi-group Raft engine: thousands of Raft groups in one process, over one
//! write-ahead log and one connection a peer.
//!
//! Implement [`StateMachine`], start a [`Node`] with a [`NodeConfig`], start the node's replicas of
//! your groups with [`Node::start_group`], and talk to them through their [`GroupHandle`]s. A handle
//! serves proposals and reads only while its replica leads the group: [`RequestError::NotLeader`]
//! says who does, and [`Node::call`] reaches that one. The crate `logboat-router` does this for you.
//!
//! Inside, a worker thread is an actix arbiter with the actor that owns its replicas. Each replica is
//! a lightweight actor of its own, an inbox around a plain [`Group`](group::Group), and runs at most
//! once a turn. What the replicas of a worker produce in a turn is collected in a
//! [`Turn`](turn::Turn) and leaves as one batch for the log and one buffer for each peer.

mod admission;
mod background;
mod budget;
mod config;
mod durable;
mod error;
mod handle;
mod liveness;
mod metrics;
mod node;
mod remote;
mod replica;
mod request;
mod start;
mod state_machine;
mod status;
pub mod turn;
mod view;
mod worker;

pub mod group {
    //! A replica without its mailbox.

    pub use crate::replica::group::{Group, GroupEvent, Request, Shared, WakeConditions};
}

pub mod storage {
    //! What a replica needs from its node's disk at once.

    pub use crate::turn::storage::Storage;
}

pub mod simulation {
    //! What drives a [`Group`](crate::replica::group::Group) besides the node, for simulators: requests and
    //! their form between nodes, the snapshots that a turn asks for, and the start of a replica.

    pub use crate::admission::{Admission, Permit};
    pub use crate::background::log_reader::LogReadJob;
    pub use crate::background::snapshots::SnapshotJob;
    pub use crate::liveness::protocol::{Effect, Liveness, LivenessTiming};
    pub use crate::replica::restore::restore;
    pub use crate::request::{decode_reply, decode_request, encode_reply, encode_request};
    pub use crate::worker::wait_lists::WaitLists;
}

pub use bytes::Bytes;
pub use config::NodeConfig;
pub use error::{GroupError, RequestError, StartError};
pub use handle::GroupHandle;
pub use logboat_raft::{
    ClusterId, GroupId, Index, LogId, NodeId, ReadFrom, ReadMode, RoleKind, Term, Tuning,
};
pub use logboat_storage::{self as wal, WalOptions};
pub use logboat_transport::PeerStatus;
pub use metrics::EngineMetrics;
pub use node::{GroupSpec, Node};
pub use request::{RequestKind, decode_replies, encode_list};
pub use start::Link;
pub use state_machine::{SnapshotWriter, StateMachine};
pub use status::{NodeStatus, WalStatus};
pub use view::GroupView;
