//! `logboat wal inspect` and `logboat wal verify`.

use crate::output::{Failure, print};
use logboat::wal::{SegmentReport, SegmentState, WalReport, inspect as read_log};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Prints what a log holds. Damage is printed as well, and is not a failure.
pub(crate) fn inspect(dir: &Path) -> Result<(), Failure> {
    let report = report_of(dir)?;
    print(&(segments(&report) + &groups(&report) + &faults(&report)))
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

fn groups(report: &WalReport) -> String {
    let mut text = format!(
        "\n{:>8} {:>8} {:>6} {:>10} {:>24} {:>16} {:>8} {:>12}\n",
        "group", "term", "vote", "commit", "entries", "snapshot", "records", "bytes"
    );
    for (group, log) in &report.groups {
        let state = log.hard_state;
        let vote = state.vote.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let entries = match log.last > log.snapshot.index {
            true => format!("{}..={}", log.snapshot.index.next(), log.last),
            false => "-".to_owned(),
        };
        let snapshot = log.snapshot.to_string();
        writeln!(
            text,
            "{group:>8} {:>8} {vote:>6} {:>10} {entries:>24} {snapshot:>16} {:>8} {:>12}",
            state.term, state.commit, log.records, log.bytes
        )
        .expect("writing to a string works");
    }
    text
}

/// What is wrong, a line each; nothing where nothing is.
fn faults(report: &WalReport) -> String {
    let damage = report.damage.iter().map(ToString::to_string);
    let missing = report.missing.iter().map(|file| format!("{} is missing", file.display()));
    let foreign = report.foreign.iter().map(|file| format!("{} is no segment", file.display()));
    damage.chain(missing).chain(foreign).map(|line| line + "\n").collect()
}
