//! Plans, and runs that are cut short, on directories that the tests write themselves.

use super::apply::learn;
use super::{RecoverError, Survivors, Verdict};
use logboat_raft::{
    ClusterId, Configuration, Entry, EntryKind, GroupId, HardState, Incarnation, Index, LogId,
    LogWrite, NodeId, Persist, Term, WriteSeq,
};
use logboat_storage::simulation::{FileDisk, InlineWal};
use logboat_storage::{DataDir, Identity, WalOptions};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const GROUP: GroupId = GroupId(7);

/// A group with voters 1 to 5, of which node 1 and node 2 are left.
struct Left {
    directory: TempDir,
}

impl Left {
    /// Node 1 has entries up to the first position, node 2 up to the second one.
    fn new(first: LogId, second: LogId) -> Self {
        let left = Self { directory: tempfile::tempdir().unwrap() };
        for (node, last) in [(1, first), (2, second)] {
            left.found(node, last);
        }
        left
    }

    fn path(&self, node: u64) -> PathBuf {
        self.directory.path().join(node.to_string())
    }

    fn found(&self, node: u64, last: LogId) {
        let identity = Identity {
            cluster: ClusterId(1),
            name: "test".to_owned(),
            node: NodeId(node),
            members: (1..=5).map(NodeId).collect(),
            incarnation: Incarnation(node),
        };
        let (data_dir, _) = DataDir::open(&self.path(node), &identity).unwrap();
        let members: Vec<_> = (1..=5).map(NodeId).collect();
        let founding = Configuration::founding(&members, None).into();
        let entry = |index| {
            let id = LogId::new(last.term, Index(index));
            Entry::new(GROUP, id, EntryKind::Command, "value".into())
        };
        let hard_state = HardState { term: last.term, commit: Index(1), ..HardState::default() };
        let entries = (1..=last.index.0).map(entry).collect();
        let persist = |hard_state, log| (GROUP, Persist { seq: WriteSeq(0), hard_state, log });
        let mut wal = open(&data_dir.wal());
        wal.write(&[], &[persist(None, LogWrite::Founding(founding))]).unwrap();
        wal.write(&[], &[persist(Some(Box::new(hard_state)), LogWrite::Append(entries))]).unwrap();
        wal.close().unwrap();
    }

    fn open(&self, nodes: &[u64]) -> Survivors {
        let paths: Vec<_> = nodes.iter().map(|node| self.path(*node)).collect();
        Survivors::open(&paths).unwrap()
    }
}

fn open(wal: &Path) -> InlineWal<FileDisk> {
    InlineWal::open(FileDisk::open(wal).unwrap(), WalOptions::default()).unwrap().0
}

fn at(term: u64, index: u64) -> LogId {
    LogId::new(Term(term), Index(index))
}

fn lost(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn verdict(survivors: &Survivors) -> Verdict {
    survivors.plan(&lost(&[3, 4, 5]), false).unwrap().groups[0].verdict.clone()
}

#[test]
fn a_later_term_counts_for_more_than_a_longer_log() {
    let left = Left::new(at(2, 40), at(3, 9));
    let plan = left.open(&[1, 2]).plan(&lost(&[3, 4, 5]), false).unwrap();
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
    let plan = survivors.plan(&lost(&[3, 4, 5]), false).unwrap();
    survivors.fence(&plan).unwrap();
    drop(survivors);
    // Another one ends after the copies that learn.
    let survivors = left.open(&[1, 2]);
    assert!(matches!(verdict(&survivors), Verdict::StartsOver { from: NodeId(2), .. }));
    survivors.write(&plan, learn).unwrap();
    drop(survivors);
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4, 5]), false).unwrap();
    let (node_1, node_2) = (&plan.groups[0].copies[1], &plan.groups[0].copies[0]);
    assert_eq!((node_1.term, node_2.term), (Term(3 + (1 << 20)), Term(3)));
    survivors.apply(&plan).unwrap();
    drop(survivors);
    // The group has its majority, and is left alone from now on.
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4, 5]), false).unwrap();
    let group = &plan.groups[0];
    assert_eq!(group.verdict, Verdict::Whole);
    assert_eq!(group.members.to_string(), "voters 2, learners 1");
    let last = LogId::new(Term(3 + (2 << 20)), Index(10));
    assert_eq!((group.copies[0].last, group.copies[0].term), (last, last.term));
    assert_eq!((group.copies[1].last, group.copies[1].term), (at(2, 40), last.term));
    survivors.apply(&plan).unwrap();
    drop(survivors);
    let after = left.open(&[1, 2]).plan(&lost(&[3, 4, 5]), false).unwrap();
    assert_eq!(after.groups[0].copies, group.copies);
}

#[test]
fn nothing_is_done_while_a_node_is_neither_lost_nor_here() {
    let left = Left::new(at(2, 40), at(3, 9));
    let survivors = left.open(&[1, 2]);
    let plan = survivors.plan(&lost(&[3, 4]), false).unwrap();
    assert_eq!(plan.groups[0].verdict, Verdict::Whole);
    let error = survivors.apply(&plan).unwrap_err();
    assert!(matches!(&error, RecoverError::Absent(nodes) if nodes == &[NodeId(5)]), "{error}");
    drop(survivors);
    // With node 1 alone, node 2 may hold more.
    let survivors = left.open(&[1]);
    let plan = survivors.plan(&lost(&[3, 4, 5]), false).unwrap();
    assert_eq!(plan.groups[0].verdict, Verdict::Waits);
    assert!(survivors.apply(&plan).is_err());
    let forced = survivors.plan(&lost(&[]), true).unwrap();
    assert_eq!(forced.lost, lost(&[2, 3, 4, 5]));
    assert!(matches!(forced.groups[0].verdict, Verdict::StartsOver { from: NodeId(1), .. }));
}

#[test]
fn directories_that_do_not_belong_together_are_refused() {
    let left = Left::new(at(2, 4), at(3, 9));
    let twice = Survivors::open(&[left.path(1), left.path(1)]).err().unwrap();
    assert!(matches!(twice, RecoverError::Directory(_)), "{twice}");
    assert!(matches!(Survivors::open(&[]), Err(RecoverError::Nobody)));
    let nowhere = Survivors::open(&[left.directory.path().join("9")]).err().unwrap();
    assert!(nowhere.to_string().contains("no data directory of a node"), "{nowhere}");
    let survivors = left.open(&[1, 2]);
    let error = |nodes: &[u64]| survivors.plan(&lost(nodes), false).unwrap_err().to_string();
    assert!(error(&[1, 3]).contains("node 1 is named as lost"));
    assert!(error(&[3, 9]).contains("no directory knows node 9"));
    assert_eq!(error(&[]), "no node is named as lost");
}
