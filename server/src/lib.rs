//! A sharded key-value server over the Redis protocol.
//!
//! A client's bytes come in through [`front`], whose connections cut them into requests
//! ([`resp`]) and carry these out one by one ([`commands`]). A command locates its keys
//! ([`layout`]) and asks their ranges through the [`backend`], where the state machine of each
//! group ([`kv`]) decides and answers.
//!
//! [`cli`] is the command line: [`serve`] runs a node, with its [`admin`] pages, over the
//! [`cluster`]'s backend; `demo` runs several.

pub mod admin;
mod admin_client;
mod admin_guard;
mod admin_listener;
mod admin_session;
pub mod backend;
mod backup;
mod cert_tool;
pub mod cli;
pub mod client_memory;
pub mod cluster;
pub mod cluster_pages;
mod cluster_tool;
pub mod commands;
pub mod debug;
mod demo;
mod descriptors;
pub mod front;
pub mod glob;
mod health;
pub mod kv;
pub mod latency;
pub mod layout;
pub mod limits;
mod load;
pub mod log_size;
mod logging;
pub mod memory;
pub mod monitor;
pub mod options;
pub mod output;
pub mod pause;
mod process;
mod recover_tool;
pub mod resp;
pub mod security;
pub mod serve;
pub mod server_state;
pub mod session;
pub mod settings;
pub mod stats;
mod status;
pub mod store_kind;
pub mod tables;
pub mod timekeeper;
pub mod topology;
mod wal_tool;
