//! `logboat wal inspect` and `logboat wal verify`.

use crate::output::{Failure, print};
use logboat::wal::{SegmentReport, SegmentState, WalReport, inspect as read_log};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Prints what a log holds. Damage is printed as well, and is not a failure.
pub(crate) fn inspect(dir: &Path) -> Result<(), Failure> {
    let report = report_of(dir)?;
    print(&(segments(&report) + &grants(&report) + &groups(&report) + &faults(&report)))
}

/// Checks every checksum of a log.
pub(crate) fn verify(dir: &Path) -> Result<(), Failure> {
    let report = report_of(dir)?;
    if !report.is_whole() {
        return Err(faults(&report).trim_end().into());
    }
    let batches: u64 = report.segments.iter().map(|segment| segment.batches).sum();
    let (segments, groups) = (report.segments.len(), report.groups.len());
    print(&format!(
        "{segments} segments, {batches} batches, {groups} groups: every checksum is right\n"
    ))
}

fn report_of(dir: &Path) -> Result<WalReport, Failure> {
    let dir = log_dir(dir);
    Ok(read_log(&dir).map_err(|error| format!("{}: {error}", dir.display()))?)
}

/// The log's directory, whether it or the node's data directory is named.
fn log_dir(dir: &Path) -> PathBuf {
    let inside = dir.join("wal");
    if inside.is_dir() { inside } else { dir.to_owned() }
}

fn segments(report: &WalReport) -> String {
    let mut text = format!(
        "{:<28} {:>16} {:>10} {:>10} {:>9}  {:<10} {}\n",
        "segment", "salt", "bytes", "used", "batches", "state", "durable up to"
    );
    for segment in &report.segments {
        let SegmentReport { file, segment: _, salt, bytes, end, batches, durable, state } = segment;
        let file = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let state = state_name(*state);
        let durable = format!("segment {} offset {}", durable.segment, durable.offset);
        writeln!(
            text,
            "{file:<28} {salt:>16x} {bytes:>10} {end:>10} {batches:>9}  {state:<10} {durable}"
        )
        .expect("writing to a string works");
    }
    text
}

const fn state_name(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Obsolete => "obsolete",
        SegmentState::Sealed => "sealed",
        SegmentState::Active => "active",
        SegmentState::Prepared => "prepared",
        SegmentState::Unreadable => "unreadable",
    }
}

/// The support that the node granted its peers, a line each.
fn grants(report: &WalReport) -> String {
    if report.grants.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:>8} {:>8} {:>6}  support\n", "peer", "epoch", "boot");
    for (peer, grant) in &report.grants {
        let support = if grant.live { "stands" } else { "none" };
        writeln!(text, "{peer:>8} {:>8} {:>6}  {support}", grant.epoch, grant.boot)
            .expect("writing to a string works");
    }
    text
}

fn groups(report: &WalReport) -> String {
    let mut text = format!(
        "\n{:>8} {:>8} {:>6} {:>10} {:>10} {:>24} {:>16} {:>8} {:>12}\n",
        "group", "term", "vote", "fortified", "commit", "entries", "snapshot", "records", "bytes"
    );
    for (group, log) in &report.groups {
        let state = log.hard_state;
        let vote = state.vote.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let fortified = state
            .fortified
            .map_or_else(|| "-".to_owned(), |bond| format!("{}@{}", bond.leader, bond.epoch));
        let entries = match log.last > log.snapshot.index {
            true => format!("{}..={}", log.snapshot.index.next(), log.last),
            false => "-".to_owned(),
        };
        let snapshot = log.snapshot.to_string();
        writeln!(
            text,
            "{group:>8} {:>8} {vote:>6} {fortified:>10} {:>10} {entries:>24} {snapshot:>16} {:>8} \
             {:>12}",
            state.term, state.commit, log.records, log.bytes
        )
        .expect("writing to a string works");
    }
    text
}

/// The damage, a line each.
fn faults(report: &WalReport) -> String {
    let damage = report.damage.iter().map(ToString::to_string);
    let missing = report.missing.iter().map(|file| format!("{} is missing", file.display()));
    let foreign = report.foreign.iter().map(|file| format!("{} is no segment", file.display()));
    damage.chain(missing).chain(foreign).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat::wal::WalOptions;
    use logboat_raft::{
        BootCount, Epoch, Fortification, Grant, GroupId, HardState, LogWrite, NodeId, Persist,
        ReplicaAddress, Term, WriteSeq,
    };
    use logboat_storage::simulation::{FileDisk, InlineWal};

    #[test]
    fn grants_and_bonds_are_told_a_line_each() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(dir.path()).unwrap();
        let options = WalOptions { segment_bytes: 16 << 10, ..WalOptions::default() };
        let (mut wal, _) = InlineWal::open(disk, options).unwrap();
        assert_eq!(grants(&report_of(dir.path()).unwrap()), "");
        let grant = |epoch, live| {
            let (epoch, boot) = (Epoch(epoch), BootCount(4));
            Grant { epoch, boot, live, ..Grant::default() }
        };
        let leader = ReplicaAddress::founder(NodeId(2));
        let (epoch, term) = (Epoch(17), Term(3));
        let bond = Fortification { leader: leader.node, replica: leader.replica, epoch, term };
        let persist = |fortified| {
            let vote = Some(ReplicaAddress::founder(NodeId(3)));
            let state = HardState { term: Term(5), vote, fortified, ..HardState::default() };
            Persist { seq: WriteSeq(0), hard_state: Some(state.into()), log: LogWrite::Keep }
        };
        wal.write(
            &[(NodeId(2), grant(17, true)), (NodeId(3), grant(6, false))],
            &[(GroupId(1), persist(Some(bond))), (GroupId(2), persist(None))],
        )
        .unwrap();
        wal.close().unwrap();
        let report = report_of(dir.path()).unwrap();
        let text = grants(&report) + &groups(&report);
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let lines: Vec<String> = words.filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                "peer epoch boot support",
                "2 17 4 stands",
                "3 6 4 none",
                "group term vote fortified commit entries snapshot records bytes",
                "1 5 3 2@17 0 - 0@0 0 0",
                "2 5 3 - 0 - 0@0 0 0",
            ]
        );
    }
}
