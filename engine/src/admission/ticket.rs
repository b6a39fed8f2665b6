//! The ticket of a command that the state machine's own admission has let in.

use crate::state_machine::CommandAdmission;
use std::sync::Arc;

/// What a command may use, given back when the ticket is dropped.
pub(crate) struct Ticket {
    admission: Arc<dyn CommandAdmission>,
    amount: u64,
}

impl Ticket {
    /// A ticket for `amount`, if that is anything.
    pub(crate) fn of(admission: &Arc<dyn CommandAdmission>, amount: u64) -> Option<Self> {
        (amount > 0).then(|| Self { admission: Arc::clone(admission), amount })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.release(self.amount);
    }
}
