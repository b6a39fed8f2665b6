use super::*;
use crate::config::NodeConfig;
use crate::error::RequestError;
use crate::state_machine::SnapshotWriter;
use bytes::Bytes;
use logboat_raft::{Entry, EntryKind, Index, LogId, LogWrite, Persist, Term, WriteSeq};
use logboat_storage::Batch;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Counts commands.
struct Counter(u8);

impl StateMachine for Counter {
    fn apply(&mut self, _: Bytes) -> Bytes {
        self.0 += 1;
        Bytes::copy_from_slice(&[self.0])
    }

    fn query(&self, _: Bytes) -> Bytes {
        Bytes::copy_from_slice(&[self.0])
    }

    fn snapshot(&self) -> SnapshotWriter {
        let count = self.0;
        Box::new(move |writer| writer.write_all(&[count]))
    }

    fn restore(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        let mut count = [0];
        reader.read_exact(&mut count)?;
        self.0 = count[0];
        Ok(())
    }
}

fn create(node: &Node, group: u64) -> Result<GroupHandle, GroupError> {
    let (group, replicas, machine) = (GroupId(group), vec![NodeId(1)], Box::new(Counter(0)));
    node.create_group(GroupSpec { group, replicas, preferred: None, machine })
}

/// Has the log refuse what the group writes from now on.
async fn have_refused(node: &Node, group: u64) {
    let (group, id) = (GroupId(group), LogId::new(Term(1), Index(1_000)));
    let entry = Entry::new(group, id, EntryKind::Noop, Bytes::new());
    let log = LogWrite::Append([entry].into());
    let writes = vec![(group, Persist { seq: WriteSeq(0), hard_state: None, log })];
    let (told, done) = oneshot::channel();
    let completion = Box::new(move |_: Result<&_, _>| told.send(()).unwrap());
    node.0.parts.wal.submit(Batch { grants: Vec::new(), writes, completion });
    done.await.unwrap();
}

#[tokio::test]
async fn a_replica_whose_writes_the_log_refuses_fails_alone_and_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    let node = Node::start(NodeConfig::new(NodeId(1), members, directory.path()).unwrap()).unwrap();
    let (first, other) = (create(&node, 1).unwrap(), create(&node, 2).unwrap());
    for handle in [&first, &other] {
        handle.view().led().await;
        assert_eq!(handle.propose(Bytes::new()).await.unwrap(), [1][..]);
    }
    let mut events = node.events();
    have_refused(&node, 1).await;
    // What is not in the log is not acknowledged, and nobody is told that it is not there: entries
    // of a replica that fails may be on other nodes.
    assert_eq!(first.propose(Bytes::new()).await, Err(RequestError::TimedOut));
    let reason = first.view().failure().unwrap().to_owned();
    assert!(reason.contains("entry 1000 was submitted where at most"), "{reason}");
    let failed = loop {
        if let NodeEvent::Failed { group, reason } = events.next().await.unwrap() {
            break (group, reason);
        }
    };
    assert_eq!(failed, (GroupId(1), reason.clone()));
    assert_eq!(node.stored_groups()[0].failure, Some(reason));
    for count in 2..=5 {
        assert_eq!(other.propose(Bytes::new()).await.unwrap(), [count][..]);
    }

    let again = create(&node, 1).unwrap();
    again.view().led().await;
    assert_eq!(again.propose(Bytes::new()).await.unwrap(), [2][..]);
    // One that is refused can be removed, too.
    have_refused(&node, 1).await;
    assert!(again.propose(Bytes::new()).await.is_err());
    node.remove_group(GroupId(1)).await.unwrap();
    assert!(matches!(create(&node, 1), Err(GroupError::Removed(_))));
    assert!(node.0.parts.wal.poisoned().is_none());
    node.stop();
}
