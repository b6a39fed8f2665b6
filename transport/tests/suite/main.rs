//! The transport from outside: its format, and its behaviour in memory and over sockets.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod common;
mod conformance;
mod handshake;
mod locked;
mod panics;
mod peers;
mod played_peer;
mod tcp;
mod wire;
