//! `logboat status`: a node's `/status` page as a table.

use crate::admin::{PeerPage, StatusPage};
use crate::admin_client::AdminClient;
use crate::output::{Failure, print};
use crate::store_kind::StoreKind;

/// Asks a node for its status and prints it.
pub(crate) fn run(client: &AdminClient) -> Result<(), Failure> {
    let page = client.get("/status");
    let failed = |error| format!("no status from {}: {error}", client.address());
    print(&table(&page.map_err(failed)?))
}

fn table(page: &StatusPage) -> String {
    let state = match (&page.failure, page.ready) {
        (Some(failure), _) => format!("failed: {failure}"),
        (None, true) => "ready".to_owned(),
        (None, false) if !page.waiting_for.is_empty() => {
            let waiting: Vec<_> = page.waiting_for.iter().map(ToString::to_string).collect();
            format!("new: waits to be recorded by {}", waiting.join(", "))
        }
        (None, false) => "waiting for a majority of the nodes".to_owned(),
    };
    let wal = &page.wal;
    let stalled = wal.stall_reason.as_ref().map(|reason| format!("yes: {reason}"));
    let stalled = stalled.unwrap_or_else(|| "no".to_owned());
    let store = page.store.as_ref().map_or("memory".to_owned(), |store| match store.kind {
        StoreKind::Memory => store.kind.to_string(),
        StoreKind::Disk => format!(
            "{}, {} bytes in {} tables, {} flushes, {} compactions, {} stalls",
            store.kind,
            store.table_bytes,
            store.tables,
            store.flushes,
            store.compactions,
            store.stalls
        ),
    });
    let rows = [
        ("node", page.node_id.to_string()),
        ("cluster", page.cluster_id.clone()),
        ("state", state),
        ("groups", page.groups.to_string()),
        ("leaders", page.leaders.to_string()),
        ("without leader", page.groups_without_leader.to_string()),
        ("pending bytes", page.pending_bytes.to_string()),
        ("apply lag", page.apply_lag.to_string()),
        ("store", store),
        ("log segments", wal.segments.to_string()),
        ("log syncs", wal.syncs.to_string()),
        ("entries a sync", format!("{:.1}", wal.entries_per_sync)),
        ("log bytes written", wal.written_bytes.to_string()),
        ("log stalled", stalled),
    ];
    let rows = rows.into_iter().map(|(name, value)| format!("{name:<18} {value}\n"));
    rows.chain(page.peers.iter().map(peer_row)).chain(trouble(page)).collect()
}

/// What is wrong with replicas, and what peers have set otherwise.
fn trouble(page: &StatusPage) -> impl Iterator<Item = String> + '_ {
    let failed = page.failed.iter();
    let failed = failed.map(|it| (format!("failed group {}", it.group), it.reason.clone()));
    let mended = page.mended.iter().map(|it| {
        (format!("mended group {}", it.group), format!("from node {}: {}", it.from, it.reason))
    });
    let former = page
        .former
        .iter()
        .map(|it| ("in place of".to_owned(), format!("node {}: {}", it.node_id, it.reason)));
    let stuck = page.stuck.iter().map(|it| {
        let since = format!("{} has not returned for {} ms", it.code, it.elapsed_ms);
        (format!("stuck group {}", it.group), since)
    });
    let voters = page.other_voters.iter().map(|it| {
        let other = format!("started with other replicas on node {}", it.node_id);
        (format!("group {}", it.group), other)
    });
    let settings = page.differing_settings.iter().map(|it| {
        let leases = if it.leases { "on" } else { "off" };
        let other = format!("election timeout {} ms, leases {leases}", it.election_timeout_ms);
        (format!("settings of {}", it.node_id), other)
    });
    let warnings = page.security_warnings.iter().map(|it| ("warning".to_owned(), it.clone()));
    let rows = warnings.chain(former).chain(failed).chain(mended);
    let rows = rows.chain(stuck).chain(voters).chain(settings);
    rows.map(|(name, value)| format!("{name:<18} {value}\n"))
}

fn peer_row(peer: &PeerPage) -> String {
    let state = match (&peer.last_error, peer.connected) {
        (_, true) => "connected".to_owned(),
        (Some(error), false) => format!("not connected: {error}"),
        (None, false) => "not connected".to_owned(),
    };
    let name = format!("peer {}", peer.node_id);
    format!("{name:<18} {} {state}, {} bytes queued\n", peer.address, peer.queued_bytes)
}
