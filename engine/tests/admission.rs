//! A state machine's own admission decides on the leader, for commands from wherever they come.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod common;

use bytes::Bytes;
use common::{Cluster, Counter, TestResult, number};
use logboat::{
    CommandAdmission, GroupId, GroupRequest, GroupSpec, RequestError, SnapshotWriter, StateMachine,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const GROUP: GroupId = GroupId(7);

/// Refuses commands that begin with `!`, and panics at those that begin with `?`. Counts what is
/// under way, and stamps `@`.
#[derive(Default)]
struct Refusing {
    under_way: AtomicU64,
    stamped: AtomicU64,
}

impl CommandAdmission for Refusing {
    fn admit(&self, command: &Bytes) -> Result<u64, Bytes> {
        assert!(!command.starts_with(b"?"), "as the command says");
        if command.starts_with(b"!") {
            return Err(Bytes::from_static(b"refused"));
        }
        self.under_way.fetch_add(5, Ordering::SeqCst);
        Ok(5)
    }

    fn stamp(&self, command: Bytes) -> Bytes {
        if command != "@" {
            return command;
        }
        self.stamped.fetch_add(1, Ordering::SeqCst);
        Bytes::from_static(b"@ stamped")
    }

    fn release(&self, amount: u64) {
        self.under_way.fetch_sub(amount, Ordering::SeqCst);
    }
}

struct Limited {
    counter: Counter,
    admission: Arc<Refusing>,
}

impl StateMachine for Limited {
    fn apply(&mut self, command: Bytes) -> Bytes {
        assert!(!command.starts_with(b"!"), "such a command is not proposed");
        assert_ne!(command, "@", "it is proposed with its stamp");
        self.counter.apply(command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        self.counter.query(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        self.counter.snapshot()
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        self.counter.restore(reader)
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        Some(Arc::clone(&self.admission) as Arc<dyn CommandAdmission>)
    }
}

#[tokio::test]
async fn a_command_is_refused_at_the_leader_whoever_sent_it() -> TestResult {
    let cluster = Cluster::new(3)?;
    let admissions: Vec<_> = cluster.ids().iter().map(|_| Arc::<Refusing>::default()).collect();
    for (node, admission) in cluster.ids().into_iter().zip(&admissions) {
        let (counter, admission) = (Counter::default(), Arc::clone(admission));
        let (replicas, machine) = (cluster.ids(), Box::new(Limited { counter, admission }));
        cluster.node(node).create_group(GroupSpec {
            group: GROUP,
            replicas,
            preferred: None,
            machine,
        })?;
    }
    assert_eq!(number(&cluster.propose(GROUP, b"+").await), 1);
    let leader = cluster.leader(GROUP).await;
    let other = cluster.ids().into_iter().find(|node| *node != leader).unwrap();

    let call = async |request: GroupRequest| {
        cluster.node(other).call(leader, GROUP, &request).await.map(|it| request.outcomes(it))
    };
    let refused = call(GroupRequest::propose_all(&[b"!"])).await?;
    assert_eq!(refused, [Ok(Bytes::from_static(b"refused"))]);
    let mixed = call(GroupRequest::propose_all(&["+", "!", "?", "+"])).await?;
    assert_eq!(number(mixed[0].as_ref().unwrap()), 2);
    assert_eq!(mixed[1], Ok(Bytes::from_static(b"refused")));
    assert_eq!(mixed[2], Err(RequestError::Stopped));
    assert_eq!(number(mixed[3].as_ref().unwrap()), 3);
    let here = cluster.handle(leader, GROUP).propose(Bytes::from_static(b"!")).await?;
    assert_eq!(here, "refused");

    while admissions.iter().any(|it| it.under_way.load(Ordering::SeqCst) > 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(number(&cluster.read(GROUP).await), 3);
    let stamped = call(GroupRequest::propose_all(&["@"])).await?;
    assert_eq!(number(stamped[0].as_ref().unwrap()), 4);
    let stamps: u64 = admissions.iter().map(|it| it.stamped.load(Ordering::SeqCst)).sum();
    assert_eq!(stamps, 1, "the leader stamps, and nobody else");
    Ok(())
}
