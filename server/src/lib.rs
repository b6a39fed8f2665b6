//! A sharded key-value server over the Redis protocol.
//!
//! A client's bytes come in through [`front`], whose connections cut them into requests
//! ([`resp`]) and carry these out one by one ([`commands`]). A command locates its keys
//! ([`layout`]) and asks their ranges through the [`backend`], where the state machine of each
//! group ([`kv`]) decides and answers.

pub mod backend;
pub mod commands;
mod connection;
pub mod front;
pub mod glob;
pub mod kv;
pub mod layout;
pub mod limits;
pub mod memory;
pub mod resp;
pub mod server_state;
pub mod session;
