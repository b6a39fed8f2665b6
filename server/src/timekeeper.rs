//! Writes the time into the logs of the groups in which keys have expired, so that their memory is
//! freed. Commands and queries that need the time bring it with them: `docs/expiry.md` tells how.

use crate::kv::{Command, GroupTime, NodeClock};
use logboat::{GroupId, Node, RoleKind};
use logboat_router::{Access, RangeRequest, Router};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time;

/// A group hears the time no more often than this for the sake of memory, so that the sweep for
/// expired keys takes a small part of the processor.
const INTERVAL: Duration = Duration::from_millis(100);

/// How often to look whether a deadline has passed, while there are any.
const LOOK: Duration = Duration::from_millis(250);

/// The most groups that hear the time together.
const MAX_GROUPS: usize = 256;

/// How long to wait for a group to take the time.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a node knows of the clocks of its groups.
#[derive(Debug)]
pub struct GroupTimes {
    clock: Arc<NodeClock>,
    /// Those whose stores were there at the last look, and new ones.
    groups: Mutex<BTreeMap<GroupId, Weak<GroupTime>>>,
}

impl GroupTimes {
    /// Of no group yet.
    #[must_use]
    pub fn new(clock: NodeClock) -> Self {
        Self { clock: Arc::new(clock), groups: Mutex::default() }
    }

    /// The time for a store of `group`, which begins with nothing.
    pub fn enter(&self, group: GroupId) -> Arc<GroupTime> {
        let time = Arc::new(GroupTime::new(Arc::clone(&self.clock)));
        self.groups.lock().insert(group, Arc::downgrade(&time));
        time
    }

    /// Whether any group has deadlines.
    fn any_deadlines(&self) -> bool {
        self.groups.lock().values().filter_map(Weak::upgrade).any(|time| time.has_deadlines())
    }

    /// The groups that are to hear the time.
    fn due(&self) -> Vec<GroupId> {
        let mut groups = self.groups.lock();
        groups.retain(|_, time| time.strong_count() > 0);
        let is_due = |time: &Weak<GroupTime>| time.upgrade().is_some_and(|time| time.is_due());
        groups.iter().filter(|(_, time)| is_due(time)).map(|(group, _)| *group).collect()
    }
}

/// Keeps the time in the groups that this node leads. Never returns.
pub async fn keep(times: Arc<GroupTimes>, router: Router) {
    let map = router.map();
    let ranges: BTreeMap<GroupId, usize> =
        map.ranges().iter().enumerate().map(|(number, range)| (range.group, number)).collect();
    let mut turn = 0;
    loop {
        let mut due = times.due();
        due.retain(|group| leads(router.node(), *group));
        if due.is_empty() {
            // Without deadlines nothing is looked at, and the node sleeps.
            let first = times.clock.first_deadline();
            match times.any_deadlines() {
                true => drop(time::timeout(LOOK, first).await),
                false => first.await,
            }
            continue;
        }
        // When there are too many, each of them gets its turn.
        let first = turn % due.len();
        due.rotate_left(first);
        due.truncate(MAX_GROUPS);
        turn = turn.wrapping_add(due.len());
        let request = |group| {
            let range = *ranges.get(&group)?;
            Some(RangeRequest { range, access: Access::Write, body: Command::Tick.encode() })
        };
        let mut answers = router.request_all(due.into_iter().filter_map(request).collect());
        // A group that does not answer now is asked again.
        let _ = time::timeout(PATIENCE, async { while answers.next().await.is_some() {} }).await;
        time::sleep(INTERVAL).await;
    }
}

fn leads(node: &Node, group: GroupId) -> bool {
    node.group(group).is_some_and(|replica| replica.view().role() == RoleKind::Leader)
}
