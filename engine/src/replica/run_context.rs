//! The context of one run of a replica: what it works with.

use crate::replica::request::Responder;
use crate::turn::Turn;
use logboat_raft::Output;

/// Lists that are empty between the runs of replicas. All replicas of a worker use the same ones,
/// so that a run allocates none.
#[derive(Default)]
pub struct RunScratch {
    /// Who proposed the commands that the core takes in now.
    pub(crate) proposing: Vec<Responder>,
    /// What the core wants done.
    pub(crate) outputs: Vec<Output>,
}

/// Where one run takes place.
pub struct RunContext<'a> {
    /// Takes what the replica produces.
    pub turn: &'a mut Turn,
    /// Lists to fill and to empty.
    pub scratch: &'a mut RunScratch,
}
