//! Clusters of real `logboat serve` processes on this machine, and what may befall them.
//!
//! The processes are this crate's own `chaos` executable, called by the name of `logboat`: see
//! [`Program`]. So `cargo test` builds what it runs, and no second build is needed. Whatever is
//! waited for is a condition that is looked at again and again; nothing sleeps for a guessed time.

mod certificates;
mod cluster;
mod disk;
mod namespace;
mod node;
mod ports;
mod program;

pub use certificates::{CLUSTER_NAME, Certificates};
pub use cluster::{Cluster, ClusterSpec};
pub use disk::SmallDisk;
pub use namespace::NetworkNamespace;
pub use node::{NodeProcess, NodeSpec};
pub use ports::free_ports;
pub use program::{PROGRAM_NAME, Program};
use std::time::{Duration, Instant};

/// How long a condition may take to come true. Only a failure ever waits this long: it is far
/// beyond what the busiest machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What can go wrong with a process that is tested.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It ended when it should have run.
    #[error("node {node} ended with {status}; it said:\n{log}")]
    Ended {
        /// Its id.
        node: u64,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its standard error.
        log: String,
    },
    /// It was to be sent a signal or to be waited for, and is not there.
    #[error("node {0} is not running")]
    NotRunning(u64),
    /// A condition did not come true.
    #[error("waited in vain for {0}")]
    InVain(String),
    /// A page of the admin port is not what it should be.
    #[error("the page {page} of node {node}: {reason}")]
    Page {
        /// The node's id.
        node: u64,
        /// The page's path.
        page: String,
        /// What is wrong.
        reason: String,
    },
    /// There are no ports left to try.
    #[error("found no {0} free ports in a row")]
    NoPorts(u16),
    /// The Redis client failed.
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    /// A certificate can't be made.
    #[error(transparent)]
    Certificate(#[from] logboat_security::AuthorityError),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It refused a signal.
    #[error("sending a signal: {0}")]
    Signal(#[from] rustix::io::Errno),
}

/// Looks at `condition` until it gives a value.
///
/// # Errors
/// [`ProcessError::InVain`] with `what` once the [patience](PATIENCE) is over, and whatever the
/// condition itself fails with, at once.
pub fn eventually<T>(
    what: &str,
    mut condition: impl FnMut() -> Result<Option<T>, ProcessError>,
) -> Result<T, ProcessError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(ProcessError::InVain(what.to_owned()));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
