//! What the tests of whole clusters share.
//!
//! [`process`] runs nodes as real processes, to be killed, paused and cut off from each other.
//! [`history`] is what their clients saw, and [`lin`] judges it.

pub mod history;
pub mod lin;
pub mod process;
