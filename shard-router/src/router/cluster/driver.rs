//! The driver carries out what placement asks for, and the moves that somebody wants.
//!
//! It runs where the meta group leads. It keeps nothing that counts: what is next follows from the
//! table, from who leads and who is heard. So whoever leads the meta group later goes on where this
//! one stopped, and a step that was half done is found as it is. Every change is made by the leader
//! of its group, which refuses what would leave it without a live majority, and what was thought of
//! for other members than it has: two drivers may overlap for a moment.
//!
//! [`helm`] decides, and this file asks, waits and carries out.

pub(crate) mod helm;
pub(crate) mod orders;

use self::helm::{Helm, Progress, Reported};
use self::orders::Ended;
use super::service::{LearnerReport, Question, Report, ask};
use crate::map::META_GROUP;
use crate::router::Inner;
use crate::table::{Change, Note};
use logboat::{
    ChangeError, ChangeRefusal, GroupId, Index, LogId, NodeId, ReplicaId, RoleKind, Term,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// How often a node looks whether it is to drive.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the nodes are asked who leads while something is to be done, and while nothing is.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(5);

/// How often leaders are asked how far their learners are.
const LEARNER_INTERVAL: Duration = Duration::from_millis(50);

/// How often is looked whether another copy may begin.
const PACE_INTERVAL: Duration = Duration::from_millis(50);

/// How often the history is told.
const NOTE_INTERVAL: Duration = Duration::from_millis(200);

/// How long a step may take until it is given up, and thought of anew.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Drives whenever the meta group leads here, for as long as the router runs.
pub(super) async fn drive(inner: Arc<Inner>) {
    loop {
        if inner.leads_meta() {
            tracing::info!("this node carries out what is done to the cluster");
            Driver::new(Arc::clone(&inner)).run().await;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What was waited for.
enum Event {
    Ended(GroupId, Ended, Option<Note>),
    Reports(BTreeMap<NodeId, Report>),
    Learners(Vec<Progress>),
    /// The history was told, or was not.
    Noted,
}

struct Driver {
    inner: Arc<Inner>,
    helm: Helm,
    /// What times are counted from.
    begun: Instant,
    running: JoinSet<Event>,
    /// When nodes are asked next, unless they are being asked.
    next_look: Option<Instant>,
    next_learners: Option<Instant>,
    next_note: Option<Instant>,
    /// What the history is to be told.
    notes: Vec<Note>,
}

impl Driver {
    fn new(inner: Arc<Inner>) -> Self {
        let now = Instant::now();
        Self {
            inner,
            helm: Helm::new(),
            begun: now,
            running: JoinSet::new(),
            next_look: Some(now),
            next_learners: Some(now),
            next_note: Some(now),
            notes: Vec::new(),
        }
    }

    /// Drives until the meta group leads elsewhere.
    async fn run(&mut self) {
        let mut tables = self.inner.feed.watch();
        while self.inner.leads_meta() {
            let table = Arc::clone(&tables.borrow_and_update());
            let (node, now) = (&self.inner.node, self.begun.elapsed());
            self.helm.learn(now, &table, |peer| peer == node.id() || node.reaches(peer));
            self.settle().await;
            self.begin_orders();
            self.begin_questions();
            self.begin_notes();
            let next_turn = self.next_turn();
            tokio::select! {
                Some(Ok(event)) = self.running.join_next() => {
                    self.happened(event);
                    while let Some(Ok(event)) = self.running.try_join_next() {
                        self.happened(event);
                    }
                }
                _ = tables.changed() => {
                    // Something may have been asked for that has to be looked at.
                    let soon = Instant::now() + BUSY_INTERVAL;
                    self.next_look = self.next_look.map(|next| next.min(soon));
                }
                () = sleep_until(next_turn) => {}
            }
        }
    }

    /// When to look again, if nothing happens before.
    fn next_turn(&self) -> Instant {
        let now = Instant::now();
        let has_learners = !self.helm.learners_to_ask().is_empty();
        let turns = [
            self.next_look,
            self.next_learners.filter(|_| has_learners),
            self.next_note.filter(|_| !self.notes.is_empty()),
            self.helm.next_pause_end().map(|end| self.begun + end),
            self.helm.is_paced().then_some(now + PACE_INTERVAL),
        ];
        let next = turns.into_iter().flatten().min().unwrap_or(now + BUSY_INTERVAL);
        next.max(now + Duration::from_millis(1))
    }

    /// Has the table say which nodes are lost, which have left, and which moves have ended.
    async fn settle(&self) {
        for (change, why) in self.helm.settlements(|peer| self.inner.node.is_given_up(peer)) {
            match self.inner.change_table(change, why.as_str()).await {
                Ok(_) => tracing::info!("the table has changed, since {why}"),
                Err(error) => tracing::info!("the table stays as it is for now: {error}"),
            }
        }
    }

    fn begin_orders(&mut self) {
        for order in self.helm.orders() {
            let group = order.group;
            let Some(leader) = self.helm.leader_of(group) else { continue };
            let inner = Arc::clone(&self.inner);
            self.running.spawn(async move {
                match timeout(STEP_LIMIT, inner.carry_out(leader, &order)).await {
                    Ok((ended, note)) => Event::Ended(group, ended, note),
                    Err(_) => Event::Ended(group, Ended::Failed, None),
                }
            });
        }
    }

    /// Asks nodes what they lead, and leaders how far their learners are, where it is time.
    fn begin_questions(&mut self) {
        let now = Instant::now();
        if self.next_look.take_if(|next| *next <= now).is_some() {
            let inner = Arc::clone(&self.inner);
            self.running.spawn(async move { Event::Reports(inner.reports().await) });
        }
        let asked = self.helm.learners_to_ask();
        if !asked.is_empty() && self.next_learners.take_if(|next| *next <= now).is_some() {
            let inner = Arc::clone(&self.inner);
            self.running.spawn(async move { Event::Learners(inner.ask_for_learners(asked).await) });
        }
    }

    fn begin_notes(&mut self) {
        if !self.notes.is_empty()
            && self.next_note.take_if(|next| *next <= Instant::now()).is_some()
        {
            let change = Change::Notes(std::mem::take(&mut self.notes));
            let inner = Arc::clone(&self.inner);
            self.running.spawn(async move {
                if let Err(error) = inner.change_table(change, "").await {
                    tracing::info!("some steps are not in the history: {error}");
                }
                Event::Noted
            });
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Ended(group, ended, note) => {
                self.notes.extend(note);
                self.helm.ended(self.begun.elapsed(), group, ended);
            }
            Event::Reports(reports) => {
                for (node, report) in reports {
                    self.helm.reported(node, report.into());
                }
                let pause = if self.helm.is_idle() { IDLE_INTERVAL } else { BUSY_INTERVAL };
                self.next_look = Some(Instant::now() + pause);
            }
            Event::Learners(progress) => {
                progress.into_iter().for_each(|progress| self.helm.progressed(progress));
                self.next_learners = Some(Instant::now() + LEARNER_INTERVAL);
            }
            Event::Noted => self.next_note = Some(Instant::now() + NOTE_INTERVAL),
        }
    }
}

impl From<Report> for Reported {
    fn from(report: Report) -> Self {
        let Report { led, failed, gone, is_full, reaches, .. } = report;
        let floor = |(term, index)| ReplicaId(LogId::new(Term(term), Index(index)));
        Self {
            led: led.into_iter().map(|(group, bytes)| (GroupId(group), bytes)).collect(),
            failed: failed.into_iter().map(GroupId).collect(),
            gone: gone.into_iter().map(|(group, id)| (GroupId(group), floor(id))).collect(),
            is_full,
            reaches: reaches.into_iter().map(NodeId).collect(),
        }
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
        let status = self.node.status();
        let peers = self.node.members().into_iter().filter(|node| self.node.reaches(*node));
        let let_in = self.node.starts_let_in().into_iter();
        let mut report = Report {
            is_full: status.wal.stalled,
            reaches: peers.map(|node| node.0).collect(),
            given_up: self.node.given_up().into_iter().map(|node| node.0).collect(),
            let_in: let_in.map(|(node, it)| (node.0, it.count.0, it.nonce.0)).collect(),
            ..Report::default()
        };
        for group in self.node.groups() {
            let Some(replica) = self.node.group(group) else { continue };
            if replica.view().role() == RoleKind::Leader {
                report.led.push((group.0, self.node.copy_bytes(group)));
            }
        }
        for failed in status.failed {
            let is_gone = self.node.group(failed.group).is_some_and(|it| it.view().is_gone());
            if !is_gone {
                report.failed.push(failed.group.0);
            }
        }
        let (table, me) = (self.feed.newest(), self.node.id());
        let ranges = table.ranges().iter().map(|range| (range.group, &range.members));
        let known = ranges.chain(table.meta().map(|meta| (META_GROUP, meta)));
        for (group, members) in known.filter(|(_, members)| members.contains(me)) {
            let tombstone = self.node.tombstone(group);
            if let Some(ReplicaId(floor)) = tombstone.filter(|_| members.is_gone(me, tombstone)) {
                report.gone.push((group.0, (floor.term.0, floor.index.0)));
            }
        }
        report
    }

    /// Asks leaders how far their learners are.
    async fn ask_for_learners(
        self: &Arc<Self>,
        asked: BTreeMap<NodeId, Vec<(GroupId, NodeId)>>,
    ) -> Vec<Progress> {
        let mut asking = JoinSet::new();
        for (leader, learners) in asked {
            let inner = Arc::clone(self);
            asking.spawn(async move {
                let learners: Vec<_> = learners.iter().map(|(group, it)| (group.0, it.0)).collect();
                if leader == inner.node.id() {
                    return inner.learners(&learners).await;
                }
                let question = Question::Learners { learners };
                let answer = timeout(BUSY_INTERVAL, ask(&inner.node, leader, &question)).await;
                answer.ok().and_then(Result::ok).unwrap_or_default()
            });
        }
        let mut progress = Vec::new();
        while let Some(answer) = asking.join_next().await {
            progress.extend(answer.unwrap_or_default().into_iter().map(Progress::from));
        }
        progress
    }

    /// How far learners of groups are that lead here.
    pub(super) async fn learners(&self, learners: &[(u64, u64)]) -> Vec<LearnerReport> {
        let mut reports = Vec::new();
        for (group, node) in learners {
            let Some(replica) = self.node.group(GroupId(*group)) else { continue };
            let (is_ready, matched) = match replica.check_learner(NodeId(*node)).await {
                Ok(()) => (true, 0),
                Err(ChangeError::Refused(ChangeRefusal::NotCaughtUp { matched, .. })) => {
                    (false, matched.0)
                }
                Err(ChangeError::Refused(ChangeRefusal::NotFortified { .. })) => (false, 0),
                Err(_) => continue,
            };
            reports.push(LearnerReport { group: *group, node: *node, is_ready, matched });
        }
        reports
    }
}

impl From<LearnerReport> for Progress {
    fn from(report: LearnerReport) -> Self {
        let LearnerReport { group, node, is_ready, matched } = report;
        Self { group: GroupId(group), node: NodeId(node), is_ready, matched }
    }
}
