//! The simulator: whole clusters in one thread, in virtual time, from one seed, running the code
//! that real nodes run.
//!
//! # What is real
//! The core and its [`Group`](logboat::internals::Group), the turn buffer, the requests that wait
//! for an outcome, the agreement of log and snapshot at a start, the store liveness with the order
//! in which log, workers and peers hear of it, the handshake and the founding with what they note,
//! the write-ahead log with its recovery and garbage collection, the snapshot files (both over
//! disks in memory that lose any part of what is not synced), the frames on the wire, and the map
//! of ranges. What cannot run in one thread is thin and replaced here: the workers' mailboxes and
//! loops (`worker`), the lock of the liveness manager (`vigil`), the threads of the log (`wal`),
//! the snapshot thread (`transfer`), sockets (`scene`), what comes over them (`peers`, `requests`),
//! and the router's retries (`clients`). A node has several workers. The seed decides when each
//! empties its inbox, and whether that is long after the liveness manager acted or before it goes
//! on.
//!
//! # What is checked
//! After every run of a replica: the five properties of Raft over all replicas, the core's own
//! invariants, and that nothing leaves a node that rests on what its disk does not hold (`checks`);
//! that a leader's search for where a follower's log parts from its own comes to an end; that a
//! read reflects all that any replica had applied when it was asked for, which is more than clients
//! could tell; that a message of an earlier term changes nothing. Campaigns and leaderships rest on
//! the votes of majorities, given by the very replicas that the configuration at the end of the
//! candidate's log names (`checks::elections`), and that configuration is the one in force. What
//! reads rest on is checked by
//! itself: that a bond stands on the follower's disk while its leader counts on it, and ends for
//! few reasons (`checks::bonds`); that a read is confirmed by a round which was opened after it
//! came, and by a majority that has stood by the leader since then, whoever serves it (`reads`);
//! that a lease ends before its supporter could withdraw, by the supporter's clock (`vigil`). After
//! every restart, and where a power cut would hurt (`probe`): that the log is one that was written,
//! with all that was durable, and agrees with the snapshot (`model`); that each snapshot is the one
//! that was durable or a newer one, and holds the state after its last entry. After the run: that
//! every acknowledged write is there, that the histories are linearizable, and that every group
//! recovers within [`RECOVERY_ELECTIONS`] election timeouts of the last fault. Before that come
//! faults that never heal. Behind a `bridge`, groups with a majority that reaches each other elect
//! leaders while it lasts. While some nodes are cut off, the groups that have a majority among the
//! others serve writes and reads.
//!
//! Members change at random, or towards ends that random changes seldom come to, and things go
//! wrong in the middle of that (`members`). Some words are said by nobody (`forgeries`), and nodes
//! do not know all of their peers at times (`strangers`).
//!
//! A cluster may be elastic: nodes join and leave, and the router's driver and placement move
//! replicas (`elastic`).
//!
//! Nodes begin on empty directories, one of them late perhaps. Nobody promises anything before all
//! who are waited for have recorded it (`introduction`). A directory that is emptied or set back is
//! never let in by peers that can tell, and a node that runs on what it wrote last always is
//! (`stand_in`).
//!
//! Where it is asked for, groups have the server's own stores of keys, in memory and on disk. Their
//! clients set deadlines, and read behind them, while clocks jump and run apart and a wall clock is
//! an hour wrong. No read sees a key after a read that saw it expired, and none expires earlier
//! than asked, by the clock of its group (`checks::keys`).
//!
//! Everything follows from the seed, to the byte of the trace.

mod bridge;
mod burial;
mod cells;
mod checks;
mod clients;
mod disk;
mod disk_machine;
mod elastic;
mod faults;
mod forgeries;
mod host;
mod introduction;
mod key_clients;
mod key_machine;
mod machine;
mod members;
mod model;
mod options;
mod peers;
mod probe;
mod process;
mod random;
mod reads;
mod requests;
mod scene;
mod stand_in;
mod strangers;
mod trace;
mod transfer;
mod vigil;
mod wal;
mod worker;
mod world;

use crate::history::Operation;
use crate::lin::{self, Verdict};
pub use elastic::PLACED_S;
pub use options::{Fault, FaultCounts, Options};
use std::panic::{AssertUnwindSafe, catch_unwind};
pub use world::RECOVERY_ELECTIONS;
use world::World;

/// What became of a simulation.
#[derive(Debug)]
pub struct Outcome {
    /// The first property that did not hold, if any.
    pub failure: Option<String>,
    /// Tells traces apart.
    pub hash: u64,
    /// The trace, if it was asked for.
    pub trace: Option<Vec<String>>,
    /// Virtual time that passed, in microseconds.
    pub micros: u64,
    /// Events that happened.
    pub steps: u64,
    /// How often a replica's run was checked.
    pub checks: u64,
    /// Operations of clients.
    pub operations: usize,
    /// Faults by kind.
    pub faults: FaultCounts,
}

/// Runs one simulation.
#[must_use]
pub fn simulate(options: &Options) -> Outcome {
    let mut world = World::new(options);
    let run = catch_unwind(AssertUnwindSafe(|| {
        world.run();
        check_history(world.history());
    }));
    let failure = run.err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
    });
    Outcome {
        failure,
        hash: world.scene.trace.hash(),
        micros: world.micros(),
        steps: world.steps(),
        checks: world.scene.checks.steps,
        operations: world.operations(),
        faults: world.counts().clone(),
        trace: world.scene.trace.into_lines(),
    }
}

/// Panics unless the history is linearizable.
fn check_history(history: &[Operation]) {
    match lin::check(history) {
        Verdict::Linearizable => {}
        verdict @ (Verdict::NotLinearizable(_) | Verdict::Undecided { .. }) => panic!("{verdict}"),
    }
}
