//! The transport from outside: its format, and its behaviour in memory and over sockets.

mod common;
mod conformance;
mod tcp;
mod wire;
