//! Writing snapshots: the state that a replica captured goes to a file. The writer is user code.

use crate::background::guard::contain;
use crate::background::pace::Paces;
use crate::background::pool::{Job, Late, Pool, Progress};
use crate::metrics::EngineMetrics;
use crate::replica::event::GroupEvent;
use crate::state_machine::SnapshotWriter;
use crate::turn::slot::Slot;
use logboat_raft::{GroupId, SnapshotMeta};
use logboat_storage::{DataDir, SnapshotError, SnapshotStore, SnapshotTicket};
use std::io::{self, Write};
use std::sync::Arc;

/// Why a snapshot was not written; it is only ever printed.
type SnapshotFailure = Box<dyn std::error::Error + Send + Sync>;

/// Has snapshots written, one after the other.
pub(crate) struct SnapshotWriters {
    pub(crate) store: SnapshotStore,
    pub(crate) pool: Arc<Pool>,
    pub(crate) metrics: Arc<EngineMetrics>,
    /// The lock of the directory, which no other node gets while a writer may write there.
    pub(crate) directory: Arc<DataDir>,
    /// Of what is sent and arrives. What is written here is not paced: the log waits for it.
    pub(crate) paces: Paces,
}

impl SnapshotWriters {
    /// Has the captured state of a replica written.
    pub(crate) fn write(
        &self,
        group: GroupId,
        slot: Slot,
        meta: SnapshotMeta,
        writer: SnapshotWriter,
    ) {
        // Until its turn comes, the replica may be gone.
        let ticket = self.store.ticket(group);
        let metrics = Arc::clone(&self.metrics);
        let directory = Arc::clone(&self.directory);
        let work = Box::new(move |progress: &Progress| {
            let written = contain(|| try_write(ticket, meta.clone(), writer, progress));
            drop(directory);
            Some(match written {
                Ok(Ok(())) => {
                    metrics.snapshots_written.inc();
                    GroupEvent::SnapshotWritten(Some(meta))
                }
                Ok(Err(error)) => {
                    tracing::error!(group = group.0, "writing a snapshot: {error}");
                    GroupEvent::SnapshotWritten(None)
                }
                Err(panic) => {
                    GroupEvent::Fail(format!("the writer of its snapshot panicked: {panic}"))
                }
            })
        });
        self.pool.submit([Job { group, slot, late: Late::Nothing, work }]);
    }
}

/// The snapshot is durable, or nobody needs it: a leader's that covers as much has arrived
/// meanwhile.
fn try_write(
    ticket: SnapshotTicket,
    meta: SnapshotMeta,
    writer: SnapshotWriter,
    progress: &Progress,
) -> Result<(), SnapshotFailure> {
    let mut file = ticket.create(meta)?;
    writer(&mut Watched { file: &mut file, progress })?;
    match file.finish() {
        Ok(_) | Err(SnapshotError::Superseded { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that shows that its writer gets on.
struct Watched<'a, W> {
    file: &'a mut W,
    progress: &'a Progress,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.progress.made();
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
