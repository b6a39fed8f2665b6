//! The context of one run of a replica: the turn that collects its output, and scratch lists.

use crate::replica::call::{Outcome, Tasks};
use crate::replica::request::Responder;
use crate::turn::Turn;
use logboat_raft::Output;

/// Lists that are empty between the runs of replicas. All replicas of a worker use the same ones,
/// so that a run allocates none.
#[derive(Default)]
pub struct RunScratch {
    /// The responders of the commands that the core takes in now.
    pub(crate) proposing: Vec<Responder>,
    /// The outputs of the core.
    pub(crate) outputs: Vec<Output>,
    /// What the replica wants of its state machine.
    pub(crate) tasks: Tasks,
    /// What came of it.
    pub(crate) outcomes: Vec<Outcome>,
}

/// The context of one run.
pub struct RunContext<'a> {
    /// Collects what the replica produces.
    pub turn: &'a mut Turn,
    /// Lists to fill and to empty.
    pub scratch: &'a mut RunScratch,
}
