//! The tests of commands once more, with keys and values in tables.
#![expect(clippy::duplicate_mod, reason = "each of these tests has its own support")]

#[path = "commands.rs"]
mod commands;
#[path = "expiry.rs"]
mod expiry;
#[path = "ranges.rs"]
mod ranges;
