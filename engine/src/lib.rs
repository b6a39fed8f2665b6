//! Logboat, a multi-group Raft engine: thousands of Raft groups in one process, over one
//! write-ahead log and one connection a peer.
//!
//! Implement [`StateMachine`], start a [`Node`] with a [`NodeConfig`], start the node's replicas of
//! your groups with [`Node::start_group`], and talk to them through their [`GroupHandle`]s. A handle
//! serves proposals and reads only while its replica leads the group: [`RequestError::NotLeader`]
//! says who does, and [`Node::call`] reaches that one. The crate `logboat-router` does this for you.
//!
//! Inside, a worker thread is an actix arbiter with the actor that owns its replicas. Each replica is
//! a lightweight actor of its own, an inbox around a plain group, and runs at most once a turn. What the
//! replicas of a worker produce in a turn is collected and leaves as one batch for the log and one
//! buffer for each peer.

// What only `internals` hands out is out of reach without it.
#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]

mod admission;
mod background;
mod budget;
mod config;
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
mod turn;
mod view;
mod worker;

#[cfg(feature = "internals")]
pub mod internals {
    //! What a node is made of, for simulators: a [`Group`] and its surroundings, the liveness of a node,
    //! and the form of requests between nodes. Only the tests of this workspace turn the feature
    //! `internals` on; what stands here may change at any time.

    pub use crate::admission::{Admission, Permit};
    pub use crate::liveness::protocol::{Effect, Liveness, LivenessTiming};
    pub use crate::replica::event::GroupEvent;
    pub use crate::replica::group::{Group, Shared};
    pub use crate::replica::recovery::recover;
    pub use crate::replica::request::Request;
    pub use crate::replica::run_context::{RunContext, RunScratch};
    pub use crate::replica::wake_conditions::WakeConditions;
    pub use crate::request::encoding::{
        decode_reply, decode_request, encode_reply, encode_request,
    };
    pub use crate::turn::Turn;
    pub use crate::turn::jobs::{LogReadJob, SnapshotJob};
    pub use crate::turn::peer_buffers::PeerBuffers;
    pub use crate::turn::slot::Slot;
    pub use crate::turn::storage::Storage;
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
pub use request::RequestKind;
pub use request::encoding::{decode_replies, encode_list};
pub use start::Link;
pub use state_machine::{SnapshotWriter, StateMachine};
pub use status::{NodeStatus, WalStatus};
pub use view::GroupView;
