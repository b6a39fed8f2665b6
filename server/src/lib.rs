//! A sharded key-value server over the Redis protocol.
//!
//! [`kv`] is the replicated state machine of one group; [`layout`] says how clients' keys lie on
//! the map of ranges.

pub mod backend;
pub mod glob;
pub mod kv;
pub mod layout;
pub mod limits;
pub mod memory;
pub mod resp;
