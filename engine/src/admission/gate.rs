//! The admission gate: every request passes it before anything is done for it.

use crate::admission::{Admission, OVERHEAD_BYTES, Permit};
use crate::error::RequestError;
use crate::metrics::EngineMetrics;
use crate::request::encoding::count_of_list;
use crate::request::kind::RequestKind;
use logboat_storage::Wal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest proposal that is let in while the disk is full. What is left of the log's last
/// segment has to last.
const MOST_WHILE_FULL: usize = 4 << 10;

/// Where requests are let in, shared by all handles of a node and by its peers' requests.
pub(crate) struct AdmissionGate {
    pub(crate) admission: Arc<Admission>,
    pub(crate) wal: Wal,
    pub(crate) max_log_bytes: usize,
    pub(crate) max_command_bytes: usize,
    pub(crate) metrics: Arc<EngineMetrics>,
    /// The node stops: no more requests are admitted.
    pub(crate) stopped: AtomicBool,
}

impl AdmissionGate {
    /// Checks a request before anything is done for it, and returns its weight.
    ///
    /// # Errors
    /// [`RequestError::Stopped`] and [`RequestError::TooLarge`].
    pub(crate) fn check(&self, kind: RequestKind, body: &[u8]) -> Result<usize, RequestError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(RequestError::Stopped);
        }
        let bytes = weight(kind, body);
        if bytes > self.max_command_bytes {
            return Err(RequestError::TooLarge { bytes, limit: self.max_command_bytes });
        }
        Ok(bytes)
    }

    /// Whether too many bytes wait to become durable.
    pub(crate) fn log_is_behind(&self) -> bool {
        self.wal.queued_bytes() > self.max_log_bytes
    }

    /// Admits a request to a replica on this node. Proposals are refused while the log is too far
    /// behind. While the disk is full, those are let in that are small, and may free space. Reads
    /// need no disk.
    ///
    /// # Errors
    /// [`RequestError::Busy`] and [`RequestError::LogFull`], and those of [`Self::check`].
    pub(crate) fn admit(&self, kind: RequestKind, body: &[u8]) -> Result<Permit, RequestError> {
        let refusal = if !kind.writes() {
            None
        } else if self.wal.stalled() && (body.len() > MOST_WHILE_FULL || !self.wal.relieves()) {
            Some(RequestError::LogFull)
        } else if self.log_is_behind() {
            Some(RequestError::Busy)
        } else {
            None
        };
        let Some(refusal) = refusal else { return self.admit_passing(kind, body) };
        self.check(kind, body)?;
        self.metrics.busy.inc();
        Err(refusal)
    }

    /// Admits a request that is passed on to another node, and needs no disk here.
    ///
    /// # Errors
    /// [`RequestError::Busy`], and those of [`Self::check`].
    pub(crate) fn admit_passing(
        &self,
        kind: RequestKind,
        body: &[u8],
    ) -> Result<Permit, RequestError> {
        let bytes = self.check(kind, body)?;
        self.admission.admit(bytes).inspect_err(|_| {
            self.metrics.busy.inc();
        })
    }
}

/// How many bytes a request takes while it is pending, without what every request takes. Each
/// command of a list after the first takes as much more as a request does.
fn weight(kind: RequestKind, body: &[u8]) -> usize {
    let commands = match kind {
        RequestKind::ProposeAll => count_of_list(body),
        RequestKind::Propose
        | RequestKind::Read(_)
        | RequestKind::Change
        | RequestKind::Transfer
        | RequestKind::ReadLocal => 1,
    };
    body.len().saturating_add(commands.saturating_sub(1).saturating_mul(OVERHEAD_BYTES))
}
