//! What the load generator, the criterion benches and the comparison with peers share.

pub mod allocator;
pub mod cluster;
mod machine;
pub mod phase;
pub mod process;
pub mod svg;
pub mod three_nodes;

/// Why a bench could not be run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
