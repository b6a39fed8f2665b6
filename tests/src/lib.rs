//! What tests Logboat as a whole: the simulator of clusters, and histories of operations with the
//! checker that judges them.

pub mod history;
pub mod lin;
pub mod sim;
