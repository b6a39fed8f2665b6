//! The file descriptors of the process: how many there are, and who may hold how many.
//!
//! Clients come in any number. So what the log, the snapshots, the peers and the admin pages need
//! is set aside first, and the clients share what is left.

use crate::options::NodeOptions;
use crate::output::Failure;
use crate::store_kind::StoreKind;
use logboat::WalOptions;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More descriptors than that are of no use, and some systems give a billion.
const MOST: u64 = 1 << 20;
/// What a process has open at any rate: standard streams, sockets that listen, the lock of the data
/// directory, files that are open for a moment.
const BASE: u64 = 64;
/// What the event loop of a thread has open.
const A_WORKER: u64 = 4;
/// Connections of strangers that have not introduced themselves.
const STRANGERS: u64 = 64;
/// Connections from and to a peer, those that are being made, and its snapshots that are arriving.
const A_PEER: u64 = 32;
/// Snapshots that are written and read.
const SNAPSHOTS: u64 = 32;
/// Segments beside those in the log's budget: the next one, and those on their way out.
const MORE_SEGMENTS: u64 = 8;
/// Tables that are open, and those that are being written.
const TABLES: u64 = 320;
/// Connections to the admin pages.
pub(crate) const ADMIN_CONNECTIONS: usize = 32;
/// A node that could serve fewer clients does not start.
const LEAST_CLIENTS: u64 = 16;

/// Raises the limit of the process as far as it may, and returns how many descriptors there are.
///
/// # Errors
/// When the system refuses.
pub(crate) fn raise_limit() -> Result<u64, Failure> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST).min(MOST);
    let current = limit.current.unwrap_or(MOST).min(MOST);
    if current >= wanted {
        return Ok(current);
    }
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error: Errno| format!("raising the limit of open files to {wanted}: {error}"))?;
    Ok(wanted)
}

/// How many descriptors a node's log and its clients may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    segments: u64,
    clients: u64,
}

impl Shares {
    /// Divides `descriptors`; none if there are too few for a node.
    fn of(
        descriptors: u64,
        workers: usize,
        members: usize,
        wal: &WalOptions,
        store: StoreKind,
    ) -> Option<Self> {
        let set_aside = BASE
            + STRANGERS
            + SNAPSHOTS
            + ADMIN_CONNECTIONS as u64
            + A_WORKER * workers as u64
            + A_PEER * members as u64
            + if store == StoreKind::Disk { TABLES } else { 0 };
        let left = descriptors.checked_sub(set_aside)?;
        let wanted = wal.max_bytes / wal.segment_bytes + MORE_SEGMENTS;
        let segments = wanted.min(left / 2);
        let clients = left - segments;
        let is_enough = segments > MORE_SEGMENTS && clients >= LEAST_CLIENTS;
        is_enough.then_some(Self { segments, clients })
    }
}

impl NodeOptions {
    /// The options of a node that may have `descriptors` open. Its log has no more segments than
    /// there are descriptors for, and it serves no more clients.
    ///
    /// # Errors
    /// When a node can't do with so few.
    pub(crate) fn within(mut self, descriptors: u64) -> Result<Self, Failure> {
        let wal = &mut self.node.wal;
        let (workers, members) = (self.node.workers, self.node.members.len());
        let shares =
            Shares::of(descriptors, workers, members, wal, self.store).ok_or_else(|| {
                format!("a limit of {descriptors} open files is too low for a node: raise it")
            })?;
        let log_bytes = (shares.segments - MORE_SEGMENTS) * wal.segment_bytes;
        if log_bytes < wal.max_bytes {
            tracing::warn!(
                "{descriptors} open files allow a log of {log_bytes} bytes, not {}: raise the \
                 limit, or --wal-segment-bytes",
                wal.max_bytes
            );
            wal.max_bytes = log_bytes;
        }
        let clients = u32::try_from(shares.clients).unwrap_or(u32::MAX);
        let settings = &mut self.settings;
        settings.client_ceiling = clients;
        if clients < settings.max_clients {
            tracing::warn!(
                "{descriptors} open files allow {clients} clients, not {}",
                settings.max_clients
            );
            settings.max_clients = clients;
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_needs_is_set_aside_before_clients_come() {
        let (wal, memory) = (WalOptions::default(), StoreKind::Memory);
        let shares = Shares::of(1024, 2, 3, &wal, memory).unwrap();
        assert_eq!(shares.segments, 32 + MORE_SEGMENTS);
        assert_eq!(shares.clients, 1024 - 64 - 64 - 32 - 32 - 8 - 96 - 40);
        let small = WalOptions { segment_bytes: 1 << 20, ..wal.clone() };
        let shares = Shares::of(1024, 2, 3, &small, memory).unwrap();
        assert_eq!((shares.segments, shares.clients), (364, 364));
        assert_eq!(Shares::of(256, 2, 3, &wal, memory), None);
        let disk = Shares::of(1024, 2, 3, &wal, StoreKind::Disk).unwrap();
        assert_eq!(disk.clients, 1024 - 64 - 64 - 32 - 32 - 8 - 96 - 40 - TABLES);
        assert!(Shares::of(MOST, 128, 9, &wal, memory).unwrap().clients > 1_000_000);
    }

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let descriptors = raise_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(MOST).min(MOST), descriptors);
        assert_eq!(limit.maximum.unwrap_or(MOST).min(MOST), descriptors);
    }
}
