//! The sides of the contests: Logboat's log, and the peers, one module each.
//!
//! Every peer is used as its own documentation says, with the settings that its own benchmarks and
//! its largest user choose. The module of each says which, and why. Where a choice was open, it was
//! made by measurement in the peer's favour.

pub(crate) mod logboat_wal;
pub(crate) mod openraft;
pub(crate) mod raft_engine;
pub(crate) mod raft_node;
pub(crate) mod raft_rs;
