//! Recovery of a replica at a start: its log and its snapshot are made to agree (reconciled).

use crate::state_machine::{DiskStateMachine, StateMachine};
use logboat_raft::{Index, LogId, LogWrite, Persist, Restored, SnapshotMeta, Term, WriteSeq};
use std::io::Read;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a replica starts from.
#[derive(Debug)]
pub struct Recovery {
    /// Its log.
    pub restored: Restored,
    /// What has to be written to the log first.
    pub reset: Option<Persist>,
    /// The last entry that its state holds, if its state machine keeps that on disk.
    pub state_holds: Option<LogId>,
}

impl Recovery {
    /// The log as the core goes on with it. What the state holds is committed, whether the log
    /// says so or not.
    #[must_use]
    pub fn known_committed(&self) -> Restored {
        let mut restored = self.restored.clone();
        let commit = &mut restored.hard_state.commit;
        *commit = (*commit).max(self.state_holds.unwrap_or_default().index);
        restored
    }
}

/// Whether a start finds no replica in the log: of those that were here, nothing is left, or at the
/// most that the last one is gone. One that `founds` its group is itself even so.
///
/// What else is there of the group has to go, durably: state, and then snapshot, which tells a
/// start after a crash that the state has to go. Either a former replica left it, or it is the
/// first snapshot of one that joined: it is put in place before the log records it, and a crash
/// came between. That replica has promised nothing, since a promise waits for its record. And which
/// one it was is lost. Its leader calls it by an id, which a replica takes for its own only as long
/// as it has no log. With a log it would take itself for gone.
#[must_use]
pub fn is_unborn(log: &Restored, founds: bool) -> bool {
    !founds && *log == Restored::default()
}

/// Restores `machine` from the group's snapshot, if there is one and the state on disk does not
/// hold it already, and says where the replica goes on from, and what has to be written to the log
/// first.
///
/// # Errors
/// When the snapshot is damaged or missing, or the log begins after it, or log and state contradict
/// each other: what is wrong with them.
pub fn recover(
    log: Restored,
    snapshot: Option<(SnapshotMeta, impl Read)>,
    machine: &mut dyn StateMachine,
) -> Result<Recovery, String> {
    let restored = AssertUnwindSafe(|| match machine.on_disk() {
        Some(machine) => recover_on_disk(log, snapshot, machine),
        None => recover_in_memory(log, snapshot, machine),
    });
    catch_unwind(restored).unwrap_or_else(|_| Err("the state machine panicked".to_owned()))
}

fn recover_in_memory(
    log: Restored,
    snapshot: Option<(SnapshotMeta, impl Read)>,
    machine: &mut dyn StateMachine,
) -> Result<Recovery, String> {
    let (restored, reset) = reconcile(log, snapshot.as_ref().map(|(meta, _)| meta))?;
    if let Some((SnapshotMeta { last, .. }, mut reader)) = snapshot {
        machine.restore(&mut reader).map_err(|error| format!("up to {last}: {error}"))?;
    }
    Ok(Recovery { restored, reset, state_holds: None })
}

/// A state on disk mostly holds what the log has let go, and the log what the state does not hold.
/// If not, a leader's snapshot was being taken over. It became the replica's own before the state
/// machine took it, and the log was to follow: what is missing of that is done now.
fn recover_on_disk(
    log: Restored,
    snapshot: Option<(SnapshotMeta, impl Read)>,
    machine: &mut dyn DiskStateMachine,
) -> Result<Recovery, String> {
    let opened = machine.open().map_err(|error| format!("opening the state: {error}"))?;
    let opened = opened.unwrap_or_default();
    let is_needed = |meta: &SnapshotMeta| {
        let follows = opened.index >= log.snapshot.index && holds(&log, meta.last);
        meta.last.index > log.snapshot.index && !follows
            || meta.last == log.snapshot && opened.index < log.snapshot.index
    };
    let snapshot = snapshot.filter(|(meta, _)| is_needed(meta));
    let mut state_holds = opened;
    let (restored, reset) = match snapshot {
        Some((meta, mut reader)) => {
            if opened.index < meta.last.index {
                let restored = machine.restore(&mut reader, meta.last);
                restored.map_err(|error| format!("up to {}: {error}", meta.last))?;
                state_holds = meta.last;
            }
            reconcile(log, Some(&meta))?
        }
        None => (log, None),
    };
    if !holds(&restored, state_holds) {
        let Restored { snapshot, last, .. } = restored;
        return Err(format!(
            "its state holds all up to {state_holds}, which a log after {snapshot} up to {last} \
             does not follow"
        ));
    }
    Ok(Recovery { restored, reset, state_holds: Some(state_holds) })
}

/// Whether the log begins with or holds this entry.
fn holds(log: &Restored, id: LogId) -> bool {
    id == log.snapshot || id.index > log.snapshot.index && term_at(log, id.index) == Some(id.term)
}

/// A crash may fall between the moment a snapshot becomes current and the moment the log records
/// it: then the snapshot is ahead of where the log begins. The log keeps what follows the snapshot
/// if it holds the snapshot's last entry, and gives way whole if it does not (Raft paper, section
/// 7).
fn reconcile(
    mut log: Restored,
    meta: Option<&SnapshotMeta>,
) -> Result<(Restored, Option<Persist>), String> {
    let snapshot = meta.map_or(LogId::default(), |meta| meta.last);
    if snapshot.index < log.snapshot.index {
        let begin = log.snapshot;
        return Err(match snapshot == LogId::default() {
            true => format!("it is missing, though the log begins after {begin}"),
            false => format!("it ends at {snapshot}, though the log begins after {begin}"),
        });
    }
    let Some(meta) = meta.filter(|_| snapshot != log.snapshot) else {
        return Ok((log, None));
    };
    let mut hard_state = log.hard_state;
    hard_state.term = hard_state.term.max(snapshot.term);
    if hard_state.term != log.hard_state.term {
        hard_state.vote = None;
    }
    let keeps = term_at(&log, snapshot.index) == Some(snapshot.term);
    let (change, last, runs) = if keeps {
        // The run that the log goes on with begins at or before `begin`, since the log holds the
        // entry before it.
        let begin = snapshot.index.next();
        let behind = log.runs.partition_point(|run| run.first <= begin) - 1;
        let mut runs = log.runs.split_off(behind);
        runs[0].first = begin;
        runs.retain(|run| run.first <= log.last);
        (LogWrite::Compact(meta.clone()), log.last, runs)
    } else {
        (LogWrite::Reset(meta.clone()), snapshot.index, Vec::new())
    };
    let later = log.configurations.into_iter().filter(|it| {
        let index = it.id().index;
        snapshot.index < index && index <= last
    });
    let configurations = iter::once(Arc::clone(&meta.configuration)).chain(later).collect();
    let written = Some(Box::new(hard_state));
    let persist = Persist { seq: WriteSeq::default(), hard_state: written, log: change };
    Ok((Restored { hard_state, snapshot, last, runs, configurations }, Some(persist)))
}

fn term_at(log: &Restored, index: Index) -> Option<Term> {
    if index > log.last {
        return None;
    }
    log.runs.iter().rev().find(|run| run.first <= index).map(|run| run.term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_raft::{
        Change, Configuration, Epoch, Fortification, HardState, NodeId, ReplicaAddress, ReplicaId,
        TermRun,
    };

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(Term(term), Index(index))
    }

    fn run(term: u64, first: u64) -> TermRun {
        TermRun { term: Term(term), first: Index(first) }
    }

    fn log(snapshot: LogId, runs: &[TermRun], last: u64) -> Restored {
        let hard_state = HardState {
            term: Term(5),
            vote: Some(ReplicaAddress::founder(NodeId(1))),
            commit: snapshot.index,
            fortified: Some(Fortification {
                leader: NodeId(2),
                replica: ReplicaId::FOUNDER,
                epoch: Epoch(3),
                term: Term(1),
            }),
            ..HardState::default()
        };
        let (last, runs) = (Index(last), runs.to_vec());
        let configurations = vec![founding(), configuration(6), configuration(9)];
        Restored { hard_state, snapshot, last, runs, configurations }
    }

    fn founding() -> Arc<Configuration> {
        Configuration::founding(&[NodeId(1)], None).into()
    }

    /// The one that an entry holds.
    fn configuration(index: u64) -> Arc<Configuration> {
        founding().change(id(2, index), &[Change::AddLearner(NodeId(2))]).unwrap().into()
    }

    /// What a snapshot is of.
    fn meta(last: LogId) -> SnapshotMeta {
        let configuration = if last.index < Index(6) { founding() } else { configuration(6) };
        SnapshotMeta { last, configuration }
    }

    #[test]
    fn a_snapshot_where_the_log_begins_changes_nothing() {
        let log = log(id(1, 4), &[run(2, 5)], 9);
        assert_eq!(reconcile(log.clone(), Some(&meta(id(1, 4)))), Ok((log, None)));
    }

    #[test]
    fn a_log_that_begins_after_its_snapshot_is_refused() {
        assert!(reconcile(log(id(1, 4), &[], 4), Some(&meta(id(1, 3)))).is_err());
        assert!(reconcile(log(id(1, 4), &[], 4), None).is_err());
    }

    #[test]
    fn entries_behind_a_snapshot_that_the_log_holds_stay() {
        let log = log(id(1, 4), &[run(2, 5), run(3, 7), run(5, 9)], 12);
        for (snapshot, runs) in [
            (id(2, 5), vec![run(2, 6), run(3, 7), run(5, 9)]),
            (id(2, 6), vec![run(3, 7), run(5, 9)]),
            (id(3, 8), vec![run(5, 9)]),
            (id(5, 11), vec![run(5, 12)]),
            (id(5, 12), vec![]),
        ] {
            let (restored, persist) = reconcile(log.clone(), Some(&meta(snapshot))).unwrap();
            assert_eq!(restored.runs, runs, "{snapshot}");
            let begin = meta(snapshot).configuration;
            let held = [6, 9].into_iter().filter(|index| *index > snapshot.index.0);
            let held: Vec<_> = iter::once(begin).chain(held.map(configuration)).collect();
            assert_eq!(restored.configurations, held, "{snapshot}");
            assert_eq!((restored.snapshot, restored.last), (snapshot, Index(12)));
            let cut = LogWrite::Compact(meta(snapshot));
            assert_eq!(persist.map(|persist| persist.log), Some(cut));
        }
    }

    #[test]
    fn a_log_that_parts_from_the_snapshot_gives_way() {
        let log = log(id(1, 4), &[run(2, 5)], 9);
        for snapshot in [id(3, 7), id(2, 10), id(6, 20)] {
            let (restored, persist) = reconcile(log.clone(), Some(&meta(snapshot))).unwrap();
            assert_eq!(restored.configurations, [meta(snapshot).configuration]);
            assert_eq!((restored.snapshot, restored.last), (snapshot, snapshot.index));
            assert!(restored.runs.is_empty());
            assert!(restored.hard_state.term >= snapshot.term);
            let cut = LogWrite::Reset(meta(snapshot));
            assert_eq!(persist.map(|persist| persist.log), Some(cut));
        }
    }

    #[test]
    fn a_term_learnt_from_a_snapshot_has_no_vote_yet_and_ends_no_bond() {
        let log = log(id(1, 4), &[], 4);
        let (restored, persist) = reconcile(log.clone(), Some(&meta(id(6, 20)))).unwrap();
        assert_eq!((restored.hard_state.term, restored.hard_state.vote), (Term(6), None));
        assert_eq!(restored.hard_state.fortified, log.hard_state.fortified);
        assert_eq!(
            persist.and_then(|persist| persist.hard_state),
            Some(restored.hard_state.into())
        );
    }
}
