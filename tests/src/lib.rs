//! What the tests of whole clusters share: histories of operations and the checker that judges them.

pub mod history;
pub mod lin;
