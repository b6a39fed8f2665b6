//! Logboat, a multi-group Raft engine: thousands of Raft groups in one process, over one
//! write-ahead log and one connection a peer.
//!
//! Implement [`StateMachine`], start a [`Node`] with a [`NodeConfig`], start the node's replicas of
//! your groups with [`Node::create_group`], and talk to them through their [`GroupHandle`]s. A
//! handle serves proposals and reads only while its replica leads the group:
//! [`RequestError::NotLeader`] says who does, and [`Node::call`] reaches that one. The crate
//! `logboat-router` does this for you.
//!
//! Groups move between nodes while they work: [`Node::join_group`] starts a replica elsewhere, and
//! [`GroupHandle::change`] makes it a member, in place of others. [`Node::events`] tells what
//! happens to replicas.
//!
//! Inside, a worker thread is an actix arbiter with the actor that owns its replicas. Each replica
//! is a lightweight actor of its own, an inbox around a plain group, and runs at most once a turn.
//! What the replicas of a worker produce in a turn is collected and leaves as one batch for the log
//! and one buffer for each peer.

// What only `internals` hands out is out of reach without it.
#![cfg_attr(not(feature = "internals"), allow(unreachable_pub))]

mod admission;
mod background;
mod batch;
mod budget;
mod config;
mod error;
mod events;
mod founding;
mod groups;
mod handle;
mod liveness;
pub mod lost_majority;
mod membership;
mod mending;
mod metrics;
mod node;
mod numbering;
mod peers;
mod remote;
mod replica;
mod request;
mod service;
mod start;
mod state_machine;
mod status;
mod turn;
mod view;
mod worker;

pub mod wal {
    //! Reading the log of a node that does not run: what it holds, and what is wrong with it.

    pub use logboat_storage::{
        Damage, GroupReport, SegmentReport, SegmentState, WalError, WalOptions, WalReport, inspect,
    };
}

pub mod former {
    //! What a node has left in a data directory that goes on as another node's, since the cluster
    //! has given it up.

    pub use logboat_storage::{
        BootRecord, ClusterFile, DirectoryError, REJOIN, check_set_aside, former_path,
        remove_former, set_aside,
    };
}

pub mod state {
    //! An ordered store on disk for the states of many groups, without a log of its own: for a
    //! [`DiskStateMachine`](crate::DiskStateMachine), as in `examples/tables.rs`.

    pub use logboat_storage::state::{
        LsmState, Namespace, Pair, Pressure, StateBatch, StateEngine, StateError, StateOptions,
        StateScan, StateStatistics, StateUpkeep, StateView, UpkeepReport, Write,
    };
}

pub mod transport {
    //! What it takes to bring a transport of one's own: [`Node::start_on`](crate::Node::start_on)
    //! hands its `connect` the node's [`Identity`] and [`Inbox`], and gets a [`Link`] back.
    //!
    //! A transport carries an [`Outgoing`] to the peer as [frames](Outgoing::into_frames), which
    //! the other side [`decode`]s into the [`Parcel`]s that its inbox takes. Raft does with loss,
    //! delay, repetition and reordering of whole frames, but not with changed ones. Before anything
    //! of a peer is delivered, its [`Introduction`] must have passed [`judge`] against what the
    //! inbox remembers, and the peer must have noted that it was let in ([`Remembered::let_in`]). A
    //! peer is recorded for the first time only by a node that dialled it itself.
    //! [`TcpTransport`] is the one that [`Node::start`](crate::Node::start) takes;
    //! [`MemoryNetwork`] joins nodes of one process.

    pub use crate::start::Link;
    pub use logboat_raft::{
        BootCount, BootNonce, Incarnation, Introduction, LogPosition, Remembered, Start,
    };
    pub use logboat_storage::Identity;
    pub use logboat_transport::{
        BootRefusal, DecodeError, Inbox, MemoryNetwork, Outgoing, Parcel, PeerStatus, RequestId,
        SendError, SnapshotChunk, SnapshotDone, SnapshotSource, StartError, TcpTransport,
        Transport, TransportConfig, TransportMetrics, Verdict, Visit, VisitAnswer, VisitError,
        decode, introductions, judge,
    };
}

#[cfg(feature = "internals")]
pub mod internals {
    //! What a node is made of, for simulators: a [`Group`] and its surroundings, the liveness of a
    //! node, and the form of requests between nodes. Only the tests of this workspace turn the
    //! feature `internals` on; what stands here may change at any time.

    pub use crate::admission::{Admission, Permit};
    pub use crate::background::arrivals::{Arrivals, Part};
    pub use crate::events::EventPublisher;
    pub use crate::founding::FoundingProgress;
    pub use crate::liveness::effects::{Grants, Sends, Surroundings, carry_out};
    pub use crate::liveness::protocol::{Effect, Liveness, LivenessTiming};
    pub use crate::mending::Mending;
    pub use crate::numbering::start_of;
    pub use crate::peers::Peers;
    pub use crate::replica::event::GroupEvent;
    pub use crate::replica::group::founding::founders_of;
    pub use crate::replica::group::{Group, Shared};
    pub use crate::replica::recovery::{Recovery, is_unborn, recover};
    pub use crate::replica::request::Request;
    pub use crate::replica::run_context::{RunContext, RunScratch};
    pub use crate::replica::wake_conditions::WakeConditions;
    pub use crate::request::administration::{
        ChangeRequest, decode_change_request, decode_changed, decode_transferred,
        encode_change_request, encode_transfer,
    };
    pub use crate::request::encoding::{
        decode_replies, decode_reply, decode_request, encode_list, encode_reply, encode_request,
    };
    pub use crate::turn::Turn;
    pub use crate::turn::gone::GoneReplica;
    pub use crate::turn::jobs::{LogReadJob, PartPlace, QueryJob, SnapshotJob};
    pub use crate::turn::peer_buffers::PeerBuffers;
    pub use crate::turn::slot::{Slot, SlotIndex};
    pub use crate::turn::storage::Storage;
    pub use crate::worker::departed::{Absent, Departed};
    pub use crate::worker::wait_lists::WaitLists;
}

pub mod security {
    //! Who may speak to a node, and who may hear it: for
    //! [`NodeConfig::tls`](crate::NodeConfig::tls) and
    //! [`NodeConfig::cluster_secret`](crate::NodeConfig::cluster_secret).

    pub use logboat_security::{
        AuthorityError, CertificateAuthority, ClusterSecret, Expiry, Identity, Issued, Own,
        PortTls, Role, SecretError, Tls, TlsError, TlsFiles,
    };
}

pub use batch::{Answers, Batch};
pub use bytes::Bytes;
pub use config::NodeConfig;
pub use error::{
    ChangeError, ConfigError, GroupError, PeerError, RequestError, StartError, TransferError,
};
pub use events::{Events, NodeEvent};
pub use founding::Founding;
pub use handle::GroupHandle;
pub use liveness::node_time::NodeTime;
pub use logboat_raft::{
    Change, ChangeRefusal, ClusterId, GroupId, Index, LogId, Member, MemberRole, NodeId, ReadFrom,
    ReadMode, ReplicaId, RoleKind, SupportSettings, Term, Tuning,
};
pub use logboat_storage::WalOptions;
pub use logboat_transport::PeerStatus;
pub use membership::Membership;
pub use mending::MendedReplica;
pub use metrics::EngineMetrics;
pub use node::{GroupSpec, Node};
pub use request::GroupRequest;
pub use request::kind::RequestKind;
pub use service::{NodeService, Reply};
pub use state_machine::{
    ApplyError, ApplyOn, CapturedState, Command, CommandAdmission, CommandBatch, DiskStateMachine,
    OnDisk, SnapshotWriter, StateMachine, StateReader,
};
pub use status::{
    FailedReplica, NodeStatus, OtherVoters, StoredGroup, StuckReplica, UserCode, WalStatus,
};
pub use view::GroupView;
