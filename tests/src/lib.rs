//! What the tests of whole clusters share.
//!
//! [`sim`] runs whole clusters in one thread, from a seed. [`process`] runs nodes as real
//! processes, which tests kill, pause and cut off from each other. [`history`] is what their
//! clients saw, and [`lin`] judges it. [`plan`] says what a cluster would do that is larger than
//! any machine at hand.

pub mod history;
pub mod lin;
pub mod plan;
pub mod process;
pub mod random;
pub mod sim;
