//! The driver carries out what placement asks for, and the moves that somebody wants.
//!
//! It runs where the meta group leads. It keeps nothing that counts: what is next follows from the
//! table, from who leads and who is heard. So whoever leads the meta group later goes on where this
//! one stopped, and a step that was half done is found as it is. Every change is made by the leader
//! of its group, which refuses what would leave it without a live majority.

use super::service::{Question, Report, ask};
use crate::map::META_GROUP;
use crate::placement::{
    self, Act, Cluster, Condition, GroupFacts, Heard, NodeFacts, Replica, Settings, Step,
};
use crate::router::Inner;
use crate::table::{Change as TableChange, Members, NodeState, Table, WantedMove};
use logboat::{
    Change, ChangeError, ChangeRefusal, GroupId, MemberRole, Membership, NodeId, RoleKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// How often a node looks whether it is to drive.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the nodes are asked who leads while something is to be done, and while nothing is.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a step may take until it is given up, and thought of anew.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// When a learner that was behind is tried again.
const LEARNER_PAUSE: Duration = Duration::from_millis(200);

/// When a group whose step failed is helped again.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// Copies of groups that a node receives and sends at a time.
const COPIES: usize = 4;

/// Drives whenever the meta group leads here, for as long as the router runs.
pub(super) async fn drive(inner: Arc<Inner>, lost_after: Duration) {
    loop {
        if inner.leads_meta() {
            tracing::info!("this node carries out what is done to the cluster");
            Driver::new(Arc::clone(&inner), lost_after).run().await;
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// What came of a step.
enum Outcome {
    /// The group has these members.
    Changed(Membership),
    /// The learner has not caught up yet.
    Behind,
    /// The leadership moved, or was to move.
    Transferred,
    Failed(String),
}

struct Driver {
    inner: Arc<Inner>,
    cluster: Cluster,
    /// What silence is counted from.
    begun: Instant,
    silent_since: BTreeMap<NodeId, Instant>,
    /// Who leads what, and whose replicas have failed, as the nodes say.
    leaders: BTreeMap<GroupId, NodeId>,
    failed: BTreeSet<(NodeId, GroupId)>,
    /// What placement was told last of each group.
    facts: BTreeMap<GroupId, GroupFacts>,
    /// The groups with a step under way.
    busy: BTreeSet<GroupId>,
    /// The groups that nothing is tried with until then.
    pausing: BTreeMap<GroupId, Instant>,
    running: JoinSet<(GroupId, Outcome)>,
}

impl Driver {
    fn new(inner: Arc<Inner>, lost_after: Duration) -> Self {
        let replicas = inner.feed.newest().replicas();
        let settings = Settings {
            replicas,
            lost_after,
            copies_in: COPIES,
            copies_out: COPIES,
            ..Settings::default()
        };
        Self {
            inner,
            cluster: Cluster::new(settings),
            begun: Instant::now(),
            silent_since: BTreeMap::new(),
            leaders: BTreeMap::new(),
            failed: BTreeSet::new(),
            facts: BTreeMap::new(),
            busy: BTreeSet::new(),
            pausing: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// Drives until the meta group leads elsewhere.
    async fn run(&mut self) {
        let mut next_look = Instant::now();
        let mut tables = self.inner.feed.watch();
        while self.inner.leads_meta() {
            let now = Instant::now();
            if now >= next_look {
                self.ask_nodes().await;
                let is_idle = self.running.is_empty() && self.pausing.is_empty();
                next_look = Instant::now() + if is_idle { IDLE_INTERVAL } else { BUSY_INTERVAL };
            }
            let table = Arc::clone(&tables.borrow_and_update());
            self.learn(&table);
            self.settle_nodes(&table).await;
            self.move_wanted(&table).await;
            self.follow_placement();
            let pause = match self.pausing.values().min() {
                Some(until) => until.saturating_duration_since(Instant::now()).min(BUSY_INTERVAL),
                None => next_look.saturating_duration_since(Instant::now()),
            };
            tokio::select! {
                Some(Ok((group, outcome))) = self.running.join_next() => {
                    self.ended(group, outcome);
                    while let Some(Ok((group, outcome))) = self.running.try_join_next() {
                        self.ended(group, outcome);
                    }
                }
                _ = tables.changed() => {
                    // Something may have been asked for that has to be looked at.
                    next_look = next_look.min(Instant::now() + BUSY_INTERVAL);
                }
                () = sleep(pause.max(Duration::from_millis(1))) => {}
            }
            let now = Instant::now();
            self.pausing.retain(|_, until| *until > now);
        }
    }

    /// Asks all nodes who leads what.
    async fn ask_nodes(&mut self) {
        let reports = self.inner.reports().await;
        for (node, report) in reports {
            self.leaders.retain(|_, leader| *leader != node);
            self.leaders.extend(report.led.into_iter().map(|group| (GroupId(group), node)));
            self.failed.retain(|(of, _)| *of != node);
            self.failed.extend(report.failed.into_iter().map(|group| (node, GroupId(group))));
        }
    }

    /// Tells placement what has changed.
    fn learn(&mut self, table: &Table) {
        let now = Instant::now();
        self.cluster.set_now(now - self.begun);
        let me = self.inner.node.id();
        for (node, record) in table.nodes() {
            if node == me || self.inner.node.reaches(node) {
                self.silent_since.remove(&node);
            } else {
                self.silent_since.entry(node).or_insert(now);
            }
            let heard = match self.silent_since.get(&node) {
                Some(since) => Heard::SilentSince(*since - self.begun),
                None => Heard::Now,
            };
            let state = state_of(record.state);
            let facts = NodeFacts { heard, state, ..NodeFacts::up(&record.card.zone) };
            self.cluster.set_node(node, facts);
        }
        let gone: Vec<_> =
            self.silent_since.keys().copied().filter(|node| table.has_left(*node)).collect();
        for node in gone {
            self.silent_since.remove(&node);
            self.cluster.remove_node(node);
        }
        let ranges = table.ranges().iter().map(|range| (range.group, &range.members));
        // It has as many replicas as the groups, and never fewer than three.
        let meta = table.meta().filter(|_| table.replicas() >= 3);
        for (group, members) in ranges.chain(meta.map(|meta| (META_GROUP, meta))) {
            if !self.busy.contains(&group) {
                self.learn_group(table, group, members);
            }
        }
    }

    fn learn_group(&mut self, table: &Table, group: GroupId, members: &Members) {
        let pauses = self.pausing.contains_key(&group);
        let condition = |node: NodeId| {
            if self.failed.contains(&(node, group)) {
                Condition::Damaged
            } else {
                Condition::CaughtUp
            }
        };
        let replica = |role| move |node: &NodeId| (*node, role);
        let voters = members.voters.iter().map(replica(MemberRole::Voter));
        let learners = members.learners.iter().map(replica(MemberRole::Learner));
        let replicas = voters.chain(learners);
        let replicas = replicas.map(|(node, role)| Replica {
            node,
            id: members.replica(node),
            role,
            condition: condition(node),
        });
        let facts = GroupFacts {
            configuration: members.entry,
            replicas: replicas.collect(),
            leader: self.leaders.get(&group).copied(),
            preferred: members.voters.first().copied(),
            bytes: 0,
            is_changing: pauses || table.wanted_move(group).is_some(),
        };
        if self.facts.get(&group) != Some(&facts) && self.cluster.set_group(group, facts.clone()) {
            self.facts.insert(group, facts);
        }
    }

    /// Has the table say which nodes are lost, and has those out of it that are empty and leave.
    async fn settle_nodes(&mut self, table: &Table) {
        let lost: Vec<_> = self.cluster.lost().collect();
        let emptied: Vec<_> = self.cluster.emptied().collect();
        for (node, record) in table.nodes() {
            let based_on = record.changed;
            let (change, why) = if lost.contains(&node) && record.state != NodeState::Lost {
                let change = TableChange::SetState { node, based_on, state: NodeState::Lost };
                (change, "it has been silent for too long")
            } else if emptied.contains(&node) && record.state == NodeState::Leaving {
                (TableChange::Forget { node, based_on }, "it holds nothing any more")
            } else {
                continue;
            };
            match self.inner.change_table(change, why).await {
                Ok(_) => tracing::warn!("node {node}: {why}"),
                Err(error) => tracing::info!("node {node} stays as it is for now: {error}"),
            }
        }
    }

    /// Begins the next steps of the moves that somebody wants.
    async fn move_wanted(&mut self, table: &Table) {
        for (group, wanted) in table.wanted_moves() {
            let Some(members) = table.members(group) else { continue };
            if self.busy.contains(&group) || self.pausing.contains_key(&group) {
                continue;
            }
            let taker = table.node(wanted.to).map(|record| record.state);
            let has_begun = members.contains(wanted.to);
            let changes = match wanted.next(members) {
                Some(changes) if taker == Some(NodeState::Up) || !has_begun => changes,
                ended => {
                    let what = match ended {
                        None => "is done",
                        Some(_) => "ends, since the other node does not take it any more",
                    };
                    let why = format!("the move to node {} {what}", wanted.to);
                    let ended = TableChange::EndMove { group };
                    if let Err(error) = self.inner.change_table(ended, why).await {
                        tracing::info!("the move of group {group} is still noted: {error}");
                    }
                    continue;
                }
            };
            let why = format!("the move from node {} to node {}", wanted.from, wanted.to);
            self.begin(group, changes, None, why);
        }
    }

    /// Begins the steps that placement asks for.
    fn follow_placement(&mut self) {
        let round = self.cluster.steps();
        for step in round.steps {
            // What has failed there has to be removed first.
            let meets_remains = matches!(step.act, Act::AddLearner(node)
                if self.failed.contains(&(node, step.group)));
            if self.busy.contains(&step.group)
                || meets_remains
                || self.cluster.check(&step).is_err()
            {
                continue;
            }
            self.cluster.begin(&step);
            self.facts.remove(&step.group);
            let successor = match step.act {
                Act::Transfer { to, .. } => Some(to),
                _ => None,
            };
            let Step { group, act, why, .. } = &step;
            self.begin(*group, act.changes(), successor, why.to_string());
        }
    }

    /// Has a step carried out: changes of the members, and then a transfer.
    fn begin(
        &mut self,
        group: GroupId,
        changes: Vec<Change>,
        successor: Option<NodeId>,
        why: String,
    ) {
        let Some(leader) = self.leaders.get(&group).copied() else {
            self.pausing.insert(group, Instant::now() + FAILURE_PAUSE);
            return;
        };
        self.busy.insert(group);
        let inner = Arc::clone(&self.inner);
        self.running.spawn(async move {
            let step = inner.carry_out(leader, group, &changes, successor, &why);
            let limit = timeout(STEP_LIMIT, step).await;
            (group, limit.unwrap_or_else(|_| Outcome::Failed("it took too long".to_owned())))
        });
    }

    fn ended(&mut self, group: GroupId, outcome: Outcome) {
        self.busy.remove(&group);
        // What the table says of it counts again, once it has heard of the change.
        self.facts.remove(&group);
        let now = Instant::now();
        match outcome {
            Outcome::Changed(membership) => {
                let leader = self.leaders.get(&group).copied();
                let failed = &self.failed;
                let condition = |node| match failed.contains(&(node, group)) {
                    true => Condition::Damaged,
                    false => Condition::CaughtUp,
                };
                let facts = GroupFacts::new(&membership, leader, 0, condition);
                self.cluster.set_group(group, facts);
            }
            Outcome::Transferred => {
                self.leaders.remove(&group);
                self.pausing.insert(group, now + LEARNER_PAUSE);
            }
            Outcome::Behind => _ = self.pausing.insert(group, now + LEARNER_PAUSE),
            Outcome::Failed(reason) => {
                tracing::info!("a step of group {group} is to be thought of anew: {reason}");
                self.leaders.remove(&group);
                self.pausing.insert(group, now + FAILURE_PAUSE);
            }
        }
    }
}

fn state_of(state: NodeState) -> placement::NodeState {
    match state {
        NodeState::Joining => placement::NodeState::Joining,
        NodeState::Up => placement::NodeState::Up,
        NodeState::Draining => placement::NodeState::Draining,
        NodeState::Leaving => placement::NodeState::Leaving,
        NodeState::Lost => placement::NodeState::Lost,
    }
}

impl Inner {
    /// Whether the meta group leads here.
    pub(super) fn leads_meta(&self) -> bool {
        let meta = self.node.group(META_GROUP);
        meta.is_some_and(|meta| meta.view().role() == RoleKind::Leader)
    }

    /// What the nodes say that answer soon, this one among them.
    pub(super) async fn reports(self: &Arc<Self>) -> BTreeMap<NodeId, Report> {
        let me = self.node.id();
        let mut reports = BTreeMap::from([(me, self.report())]);
        let mut asking = JoinSet::new();
        for node in self.node.members().into_iter().filter(|node| *node != me) {
            if self.node.reaches(node) {
                let inner = Arc::clone(self);
                asking.spawn(async move {
                    let answer = timeout(BUSY_INTERVAL, ask(&inner.node, node, &Question::Report));
                    Some((node, answer.await.ok()?.ok()?))
                });
            }
        }
        while let Some(answer) = asking.join_next().await {
            reports.extend(answer.ok().flatten());
        }
        reports
    }

    /// What this node says of its replicas.
    pub(super) fn report(&self) -> Report {
        let mut report = Report::default();
        for group in self.node.groups() {
            let Some(replica) = self.node.group(group) else { continue };
            if replica.view().role() == RoleKind::Leader {
                report.led.push(group.0);
            }
        }
        for failed in self.node.status().failed {
            let is_gone = self.node.group(failed.group).is_some_and(|it| it.view().is_gone());
            if !is_gone {
                report.failed.push(failed.group.0);
            }
        }
        report
    }

    async fn carry_out(
        &self,
        leader: NodeId,
        group: GroupId,
        changes: &[Change],
        successor: Option<NodeId>,
        why: &str,
    ) -> Outcome {
        let changed = match self.node.change(leader, group, changes).await {
            Ok(membership) => membership,
            Err(ChangeError::Refused(
                ChangeRefusal::NotCaughtUp { .. } | ChangeRefusal::NotFortified { .. },
            )) => return Outcome::Behind,
            // A leader that is to go has handed over, or is about to.
            Err(ChangeError::Request(error)) => return Outcome::Failed(error.to_string()),
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let what = described(group, changes);
        if let Err(error) = self.change_table(TableChange::Note { what }, why).await {
            tracing::info!("a step is not in the history: {error}");
        }
        let Some(successor) = successor.filter(|node| *node != leader) else {
            return Outcome::Changed(changed);
        };
        match self.node.transfer(leader, group, successor).await {
            Ok(()) => Outcome::Transferred,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// What changes do, for the history.
fn described(group: GroupId, changes: &[Change]) -> String {
    let word = |change: &Change| match change {
        Change::AddLearner(node) => format!("a learner on node {node}"),
        Change::Promote(node) => format!("node {node} votes"),
        Change::Demote(node) => format!("node {node} learns"),
        Change::Remove(node) => format!("none on node {node}"),
        Change::Prefer(node) => format!("node {node} is to lead"),
    };
    let words: Vec<_> = changes.iter().map(word).collect();
    format!("group {group}: {}", words.join(", "))
}

impl WantedMove {
    /// The next changes of a group that is to move. None if it has.
    fn next(&self, members: &Members) -> Option<Vec<Change>> {
        let Self { from, to } = *self;
        if members.learners.contains(&to) {
            let demote = members.voters.contains(&from).then_some(Change::Demote(from));
            Some([Change::Promote(to)].into_iter().chain(demote).collect())
        } else if !members.voters.contains(&to) {
            Some(vec![Change::AddLearner(to)])
        } else if members.voters.contains(&from) {
            Some(vec![Change::Demote(from)])
        } else {
            members.learners.contains(&from).then(|| vec![Change::Remove(from)])
        }
    }
}
