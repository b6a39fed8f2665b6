//! Plans, and runs that are cut short, on directories that the tests write themselves.

use super::apply::learn;
use super::{CopySnapshot, RecoverError, RecoverOptions, RecoverPlan, Survivors, Verdict};
use logboat_raft::{
    BootNonce, ClusterId, Configuration, Entry, EntryKind, GroupId, HardState, Incarnation, Index,
    LogId, LogPosition, LogWrite, NodeId, Persist, ReplicaId, SnapshotMeta, Term, WriteSeq,
};
use logboat_storage::simulation::{FileDisk, InlineWal};
use logboat_storage::{DataDir, Identity, REJOIN, SnapshotStore, WalOptions, inspect};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const GROUP: GroupId = GroupId(7);

const SEGMENT_BYTES: u64 = 1 << 16;

/// A group of which two of the voters are left, on nodes 1 and 2.
struct Left {
    directory: TempDir,
    voters: Vec<NodeId>,
}

impl Left {
    /// Of voters 1 to 5, node 1 has entries up to the first position, node 2 up to the second one.
    fn new(first: LogId, second: LogId) -> Self {
        Self::of(5, first, second)
    }

    /// The same with so many voters.
    fn of(voters: u64, first: LogId, second: LogId) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let left = Self { directory, voters: (1..=voters).map(NodeId).collect() };
        for (node, last) in [(1, first), (2, second)] {
            left.found(node, GROUP, last);
        }
        left
    }

    fn path(&self, node: u64) -> PathBuf {
        self.directory.path().join(node.to_string())
    }

    fn data_dir(&self, node: u64) -> DataDir {
        let identity = Identity {
            cluster: ClusterId(1),
            name: "test".to_owned(),
            node: NodeId(node),
            members: (1..=5).map(NodeId).collect(),
            incarnation: Incarnation(node),
        };
        DataDir::open(&self.path(node), &identity).unwrap().0
    }

    fn founding(&self) -> Configuration {
        Configuration::founding(&self.voters, None)
    }

    /// What a snapshot up to there is of.
    fn snapshot_of(&self, last: LogId) -> SnapshotMeta {
        SnapshotMeta { last, configuration: self.founding().into() }
    }

    fn found(&self, node: u64, group: GroupId, last: LogId) {
        let entry = |index| {
            let id = LogId::new(last.term, Index(index));
            Entry::new(group, id, EntryKind::Command, "value".into())
        };
        let entries = (1..=last.index.0).map(entry).collect();
        self.write(node, group, None, LogWrite::Founding(self.founding().into()));
        let hard_state = HardState { term: last.term, commit: Index(1), ..HardState::default() };
        self.write(node, group, Some(hard_state), LogWrite::Append(entries));
    }

    fn write(&self, node: u64, group: GroupId, hard_state: Option<HardState>, log: LogWrite) {
        let mut wal = open(&self.data_dir(node).wal());
        let hard_state = hard_state.map(Box::new);
        wal.write(&[], &[(group, Persist { seq: WriteSeq(0), hard_state, log })]).unwrap();
        wal.close().unwrap();
    }

    /// Writes a snapshot of the group, and returns the file.
    fn snapshot(&self, node: u64, last: LogId) -> PathBuf {
        let store = SnapshotStore::open(&self.data_dir(node).snapshots()).unwrap();
        let mut writer = store.create(GROUP, self.snapshot_of(last)).unwrap();
        writer.write_all(b"the state").unwrap();
        writer.finish().unwrap();
        store.current_path(GROUP)
    }

    fn open(&self, nodes: &[u64]) -> Survivors {
        let paths: Vec<_> = nodes.iter().map(|node| self.path(*node)).collect();
        Survivors::open(&paths).unwrap()
    }

    /// The plan of nodes 1 and 2.
    fn plan(&self, options: &RecoverOptions) -> RecoverPlan {
        self.open(&[1, 2]).plan(options).unwrap()
    }
}

fn open(wal: &Path) -> InlineWal<FileDisk> {
    let options = WalOptions { segment_bytes: SEGMENT_BYTES, ..WalOptions::default() };
    InlineWal::open(FileDisk::open(wal).unwrap(), options).unwrap().0
}

fn at(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

fn nodes(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn lost(lost: &[u64]) -> RecoverOptions {
    RecoverOptions { lost: nodes(lost), ..RecoverOptions::default() }
}

fn forced() -> RecoverOptions {
    RecoverOptions { force: true, ..RecoverOptions::default() }
}

/// From which node the plan's only group starts over, and who learns.
fn start(plan: &RecoverPlan) -> Option<(u64, Vec<u64>)> {
    match &plan.groups[0].verdict {
        Verdict::StartsOver { from, learners, .. } => {
            Some((from.0, learners.iter().map(|node| node.0).collect()))
        }
        _ => None,
    }
}

fn flip_last_byte(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
}

fn verdict(survivors: &Survivors) -> Verdict {
    survivors.plan(&lost(&[3, 4, 5])).unwrap().groups[0].verdict.clone()
}

#[test]
fn a_later_term_counts_for_more_than_a_longer_log() {
    let left = Left::new(at(2, 40), at(3, 9));
    let plan = left.open(&[1, 2]).plan(&lost(&[3, 4, 5])).unwrap();
    let Verdict::StartsOver { from, learners, term } = &plan.groups[0].verdict else {
        panic!("{plan:?}");
    };
    assert_eq!((*from, &learners[..]), (NodeId(2), &[NodeId(1)][..]));
    assert_eq!(*term, Term(3 + (1 << 20)));
    let copies: Vec<_> = plan.groups[0].copies.iter().map(|it| (it.node.0, it.last)).collect();
    assert_eq!(copies, [(2, at(3, 9)), (1, at(2, 40))]);
}

#[test]
fn a_run_that_is_cut_short_is_finished_by_another_one() {
    let left = Left::new(at(2, 40), at(3, 9));
    // It ends after the fences.
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4, 5])).unwrap();
    survivors.fence(&plan).unwrap();
    drop(survivors);
    // Another one ends after the copies that learn.
    let survivors = left.open(&[1, 2]);
    assert!(matches!(verdict(&survivors), Verdict::StartsOver { from: NodeId(2), .. }));
    survivors.write(&plan, learn).unwrap();
    drop(survivors);
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4, 5])).unwrap();
    let (node_1, node_2) = (&plan.groups[0].copies[1], &plan.groups[0].copies[0]);
    assert_eq!((node_1.term, node_2.term), (Term(3 + (1 << 20)), Term(3)));
    survivors.apply(&plan).unwrap();
    drop(survivors);
    // The group has its majority, and is left alone from now on.
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4, 5])).unwrap();
    let group = &plan.groups[0];
    assert_eq!(group.verdict, Verdict::Whole);
    assert_eq!(group.members.to_string(), "voters 2, learners 1");
    let last = LogId::new(Term(3 + (2 << 20)), Index(10));
    assert_eq!((group.copies[0].last, group.copies[0].term), (last, last.term));
    assert_eq!((group.copies[1].last, group.copies[1].term), (at(2, 40), last.term));
    survivors.apply(&plan).unwrap();
    drop(survivors);
    for node in [1, 2] {
        let report = inspect(&left.path(node).join("wal")).unwrap();
        assert!(report.segments.iter().all(|segment| segment.bytes == SEGMENT_BYTES));
    }
    let after = left.open(&[1, 2]).plan(&lost(&[3, 4, 5])).unwrap();
    assert_eq!(after.groups[0].copies, group.copies);
}

#[test]
fn nothing_is_done_while_a_node_is_neither_lost_nor_here() {
    let left = Left::new(at(2, 40), at(3, 9));
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4])).unwrap();
    assert_eq!(plan.groups[0].verdict, Verdict::Whole);
    let error = survivors.apply(&plan).unwrap_err();
    assert!(matches!(&error, RecoverError::Absent(nodes) if nodes == &[NodeId(5)]), "{error}");
    drop(survivors);
    // With node 1 alone, node 2 may hold more.
    let survivors = left.open(&[1]);
    let plan = survivors.plan(&lost(&[3, 4, 5])).unwrap();
    assert_eq!(plan.groups[0].verdict, Verdict::Waits);
    assert!(survivors.apply(&plan).is_err());
    let plan = survivors.plan(&forced()).unwrap();
    assert_eq!(plan.lost, nodes(&[2, 3, 4, 5]));
    assert_eq!(start(&plan), Some((1, vec![])));
}

#[test]
fn directories_that_do_not_belong_together_are_refused() {
    let left = Left::new(at(2, 4), at(3, 9));
    let twice = Survivors::open(&[left.path(1), left.path(1)]).err().unwrap();
    assert!(matches!(twice, RecoverError::Directory(_)), "{twice}");
    assert!(matches!(Survivors::open(&[]), Err(RecoverError::Nobody)));
    // What is left of the log of node 2 ends before what is known of it.
    let known_end = LogPosition { segment: 99, offset: 0 };
    left.data_dir(2).boot().begin(BootNonce(1), known_end).unwrap();
    let short = Survivors::open(&[left.path(1), left.path(2)]).err().unwrap();
    assert!(short.to_string().contains("had been durable up to"), "{short}");
    let left = Left::new(at(2, 4), at(3, 9));
    let nowhere = Survivors::open(&[left.directory.path().join("9")]).err().unwrap();
    assert!(nowhere.to_string().contains("no data directory of a node"), "{nowhere}");
    let survivors = left.open(&[1, 2]);
    let error = |nodes: &[u64]| survivors.plan(&lost(nodes)).unwrap_err().to_string();
    assert!(error(&[1, 3]).contains("node 1 is named as lost"));
    assert!(error(&[3, 9]).contains("no directory knows node 9"));
    assert_eq!(error(&[]), "no node is named as lost");
}

#[test]
fn who_was_given_up_before_counts_as_lost() {
    let left = Left::new(at(2, 40), at(3, 9));
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&forced()).unwrap();
    // It ends after the fences. The lost nodes can't come back any more, whoever is named.
    survivors.fence(&plan).unwrap();
    drop(survivors);
    for options in [forced(), lost(&[3]), lost(&[])] {
        let plan = left.plan(&options);
        assert_eq!((start(&plan), plan.lost), (Some((2, vec![1])), nodes(&[3, 4, 5])));
    }
    // Node 3 is found again. The others never let it in.
    left.found(3, GROUP, at(3, 50));
    let found = Survivors::open(&[left.path(1), left.path(3)]).err().unwrap();
    let by = NodeId(1);
    assert!(
        matches!(&found, RecoverError::GivenUp { node: NodeId(3), by: it, .. } if *it == by),
        "{found}"
    );
}

#[test]
fn who_is_about_to_join_again_as_a_new_node_is_no_survivor() {
    let left = Left::new(at(2, 40), at(3, 9));
    fs::write(left.path(2).join(REJOIN), "").unwrap();
    let refused = Survivors::open(&[left.path(1), left.path(2)]).err().unwrap();
    assert!(matches!(refused, RecoverError::JoinsAgain { path } if path == left.path(2)));
}

#[test]
fn directories_of_two_clusters_of_one_name_are_not_mixed() {
    let left = Left::new(at(2, 40), at(3, 9));
    left.found(3, GROUP, at(3, 9));
    let paths = [1, 2, 3].map(|node| left.path(node));
    // One that has not heard of an id yet may be of either.
    left.data_dir(2).adopt(ClusterId(7)).unwrap();
    assert!(Survivors::open(&paths).is_ok());
    left.data_dir(3).adopt(ClusterId(8)).unwrap();
    let refused = Survivors::open(&paths).err().unwrap();
    let RecoverError::OtherCluster { first, second } = refused else { panic!("{refused}") };
    assert_eq!((first, second), (left.path(2), left.path(3)));
}

#[test]
fn a_survivor_without_the_replica_does_not_count() {
    let left = Left::of(3, at(2, 40), at(2, 30));
    assert_eq!(left.plan(&lost(&[3])).groups[0].verdict, Verdict::Whole);
    // It was removed, or given up after damage.
    left.write(2, GROUP, None, LogWrite::Tombstone(ReplicaId::FOUNDER.next()));
    assert_eq!(start(&left.plan(&lost(&[3]))), Some((1, vec![])));
    // A later one waits to be added.
    let later = HardState { replica: ReplicaId(at(2, 50)), ..HardState::default() };
    left.write(2, GROUP, Some(later), LogWrite::Keep);
    assert_eq!(start(&left.plan(&lost(&[3]))), Some((1, vec![])));
}

#[test]
fn a_founder_that_was_never_started_counts() {
    let left = Left::of(3, at(2, 40), at(2, 30));
    left.found(1, GroupId(8), at(1, 1));
    let plan = left.plan(&lost(&[3]));
    assert_eq!(plan.groups[1].copies.len(), 1);
    assert_eq!(plan.groups[1].verdict, Verdict::Whole);
}

#[test]
fn a_group_that_can_not_start_over_does_not_hold_up_others() {
    let left = Left::new(at(2, 40), at(2, 30));
    [1, 2].into_iter().for_each(|node| left.found(node, GroupId(8), at(2, 7)));
    for node in [1, 2] {
        let cut = LogWrite::Compact(left.snapshot_of(at(2, 20)));
        left.write(node, GROUP, None, cut);
    }
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4, 5])).unwrap();
    let verdict = &plan.groups[0].verdict;
    assert!(matches!(verdict, Verdict::Unusable { node: NodeId(1), .. }), "{verdict:?}");
    assert_eq!(plan.unusable().count(), 1);
    survivors.apply(&plan).unwrap();
    drop(survivors);
    let plan = left.plan(&lost(&[]));
    assert_eq!(plan.groups[1].verdict, Verdict::Whole);
    assert_eq!(plan.groups[1].members.to_string(), "voters 1, learners 2");

    // Its state is on disk: nothing is missing.
    let options = RecoverOptions { state_on_disk: true, ..lost(&[]) };
    let plan = left.plan(&options);
    assert_eq!(plan.groups[0].copies[0].snapshot, CopySnapshot::Missing);
    assert_eq!(start(&plan), Some((1, vec![2])));
}

#[test]
fn a_copy_whose_snapshot_is_damaged_counts_nowhere() {
    let left = Left::of(3, at(2, 40), at(2, 40));
    let file = left.snapshot(1, at(2, 20));
    left.write(1, GROUP, None, LogWrite::Compact(left.snapshot_of(at(2, 20))));
    assert_eq!(left.plan(&lost(&[3])).groups[0].verdict, Verdict::Whole);
    flip_last_byte(&file);
    // The other one holds as much.
    let plan = left.plan(&lost(&[3]));
    assert_eq!(start(&plan), Some((2, vec![1])));
    // Of an older one, somebody has to say so.
    let left = Left::of(3, at(2, 40), at(2, 30));
    let file = left.snapshot(1, at(2, 35));
    flip_last_byte(&file);
    let verdict = &left.plan(&lost(&[3])).groups[0].verdict;
    assert!(matches!(verdict, Verdict::Unusable { node: NodeId(1), .. }), "{verdict:?}");
    let options = RecoverOptions { passes_over_unusable: true, ..lost(&[3]) };
    assert_eq!(start(&left.plan(&options)), Some((2, vec![1])));
    // What it knows as committed the new log does not have: it can't learn from that.
    let committed = HardState { term: Term(2), commit: Index(31), ..HardState::default() };
    left.write(1, GROUP, Some(committed), LogWrite::Keep);
    assert_eq!(start(&left.plan(&options)), Some((2, vec![])));
}

#[test]
fn a_snapshot_ahead_of_where_the_log_begins_is_no_flaw_if_the_log_holds_its_end() {
    let left = Left::new(at(2, 40), at(2, 30));
    left.snapshot(1, at(2, 40));
    let plan = left.plan(&lost(&[3, 4, 5]));
    assert_eq!(start(&plan), Some((1, vec![2])));
    assert_eq!(plan.groups[0].copies[0].known_committed, Index(40));
    left.snapshot(1, at(2, 41));
    let group = &left.plan(&lost(&[3, 4, 5])).groups[0];
    assert_eq!(group.copies[0].snapshot, CopySnapshot::Unfinished);
    assert!(matches!(&group.verdict, Verdict::Unusable { what, .. } if what.contains("start the")));
}
