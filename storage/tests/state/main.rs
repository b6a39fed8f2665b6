//! State engines: what all of them do, and what can go wrong on a disk.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod conformance;
mod damage;
mod kills;
mod support;
