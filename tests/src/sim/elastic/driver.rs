//! The driver of the router, as a simulated node runs it where the meta group leads: what it knows
//! and wants is the router's own, and so is what it makes of answers.

use super::{Question, simulated};
use crate::sim::host::{Hardware, Host};
use crate::sim::process::{Process, group_place};
use crate::sim::scene::Scene;
use bytes::Bytes;
use logboat::internals::{
    ChangeRequest, GroupEvent, decode_changed, decode_transferred, encode_change_request,
    encode_transfer,
};
use logboat::{ChangeError, ChangeRefusal, RequestError, RequestKind, TransferError};
use logboat_raft::{GroupId, LogId, NodeId};
use logboat_router::internals::{Change, Ended, Helm, Next, Order, Progress, Reported};
use logboat_router::{Members, NodeState, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a step may take until it is given up, in microseconds.
const STEP_LIMIT_US: u64 = 20_000_000;

/// How often the nodes are asked while something is to be done, and while nothing is, in
/// microseconds.
const BUSY_US: u64 = 1_000_000;
const IDLE_US: u64 = 5_000_000;

/// How long a driver that has begun waits for what a node says of its replicas, in microseconds.
const REPORT_PATIENCE_US: u64 = 10_000_000;

/// How long a driver whose node stood still may take others for alive that are not, in
/// microseconds. Leaders know better.
const DAZED_US: u64 = 8_000_000;

/// How late the orders of a driver leave that lingers, in microseconds.
const LATEST_US: u64 = 8_000_000;

/// What a node has asked of a group.
pub(super) enum Errand {
    /// To have the table say that the node is there.
    Announce,
    /// To have it know the members of groups, as of these entries.
    Publish(Vec<(GroupId, LogId)>),
    /// To have it say what the driver wants.
    Settle,
    /// How far a learner is.
    Learner(GroupId, NodeId),
    /// To change members, asked by the driver that began then.
    Change { by: u64, leader: NodeId, order: Order },
    /// To hand over after that.
    Transfer { by: u64, order: Order, members: Members, to: NodeId },
}

/// A round of questions to all nodes. Their answers count together.
struct Asking {
    since: u64,
    awaited: BTreeSet<NodeId>,
    reports: Vec<(NodeId, Reported)>,
}

/// A driver that runs.
pub(in crate::sim) struct Driver {
    helm: Helm,
    /// When it began, in microseconds, by which it is known, too.
    begun: u64,
    next_reports: u64,
    next_learners: u64,
    next_settlement: u64,
    /// When it took its last turn, and until when it may go by what was so before its node stood
    /// still.
    turn: u64,
    dazed_until: u64,
    /// What nodes have said since they were asked, if they are being asked.
    asking: Option<Asking>,
    /// When the nodes were asked whose last answers are known.
    heard: BTreeMap<NodeId, u64>,
    /// Until when it goes on by this table, whoever leads the meta group.
    lingers: Option<(u64, Arc<Table>)>,
    /// The orders of one that is late, each with when it leaves.
    late: Vec<(u64, NodeId, Order)>,
    /// When it reached each node last, by which it may not give up any too soon.
    reached: BTreeMap<NodeId, u64>,
}

impl Driver {
    fn new(now: u64) -> Self {
        Self {
            helm: Helm::new(),
            begun: now,
            next_reports: now,
            next_learners: now,
            next_settlement: now,
            turn: now,
            dazed_until: 0,
            asking: None,
            heard: BTreeMap::new(),
            lingers: None,
            late: Vec::new(),
            reached: BTreeMap::new(),
        }
    }

    fn time(&self, scene: &Scene) -> Duration {
        Duration::from_micros(scene.now - self.begun)
    }

    /// Whether it goes on though another node may have one.
    fn lingers(&self, now: u64) -> bool {
        self.lingers.as_ref().is_some_and(|(until, _)| *until > now)
    }

    /// Its node may have stood still since its last turn.
    fn wake(&mut self, now: u64) {
        if now - self.turn > BUSY_US {
            self.dazed_until = now + DAZED_US;
        }
        self.turn = now;
    }

    /// A node has answered.
    pub(super) fn reported(&mut self, node: NodeId, report: Reported) {
        let Some(asking) = &mut self.asking else { return };
        if asking.awaited.remove(&node) {
            asking.reports.push((node, report));
        }
    }

    /// Takes the answers when all are there, or others are waited for no longer.
    fn take_reports(&mut self, now: u64) {
        let is_over = |it: &mut Asking| it.awaited.is_empty() || now >= it.since + BUSY_US;
        let Some(Asking { since, reports, .. }) = self.asking.take_if(is_over) else { return };
        for (node, report) in reports {
            self.heard.insert(node, since);
            self.helm.reported(node, report);
        }
        self.next_reports = now + if self.helm.is_idle() { IDLE_US } else { BUSY_US };
    }

    /// Whether it knows that a replica on a node was damaged at a moment, or has to wait for what
    /// that node says.
    fn minds_damage(&self, node: NodeId, at: u64, now: u64) -> bool {
        let is_reached = self.reached.get(&node) == Some(&now);
        let waits = is_reached && now < self.begun + REPORT_PATIENCE_US;
        self.heard.get(&node).map_or(waits, |heard| *heard >= at)
    }
}

impl Process {
    /// Lets the driver take a turn, if this node is to have one.
    pub(super) fn drive(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let driver = self.office().driver.take();
        let lingers = driver.as_ref().is_some_and(|driver| driver.lingers(scene.now));
        if !lingers && !self.leads_meta(scene) {
            return;
        }
        let is_over = |driver: &Driver| driver.lingers.is_some() && !driver.lingers(scene.now);
        let driver = driver.filter(|driver| !is_over(driver));
        let mut driver = driver.unwrap_or_else(|| Driver::new(scene.now));
        let newest = self.office().feed.newest();
        scene.note_table(&newest);
        let table = driver.lingers.as_ref().map_or(newest, |(_, table)| Arc::clone(table));
        if table.version() > 0 {
            let me = hardware.id();
            driver.wake(scene.now);
            driver.take_reports(scene.now);
            let reaches = |node| node == me || self.liveness.reaches(node);
            driver.helm.learn(driver.time(scene), &table, reaches);
            let nodes = (1..=scene.plan.nodes as u64).map(NodeId);
            driver.reached.extend(nodes.filter(|it| reaches(*it)).map(|it| (it, scene.now)));
            if !self.office().settles() && driver.next_settlement <= scene.now {
                driver.next_settlement = scene.now + BUSY_US / 4;
                self.settle(hardware, &driver, scene);
            }
            if !self.office().settles() {
                self.begin_orders(hardware, &mut driver, &table, scene);
            }
            self.begin_questions(hardware, &mut driver, scene);
        }
        self.office().driver = Some(driver);
    }

    /// Has the table say which nodes are lost, which have left, and which moves have ended.
    fn settle(&mut self, hardware: &Hardware, driver: &Driver, scene: &mut Scene) {
        let has_given_up = |node: NodeId| {
            let known = hardware.peers.lock().get(node);
            known.is_some_and(|known| known.fenced)
        };
        for (change, why) in driver.helm.settlements(has_given_up) {
            if let Change::SetState { node, state: NodeState::Lost, .. } = change
                && !has_given_up(node)
            {
                let since = driver.reached.get(&node).copied().unwrap_or(driver.begun);
                let silent = Duration::from_micros(scene.now - since);
                let limit = scene.plan.lost_after;
                assert!(silent >= limit, "{node} is given up after {silent:?}, not {limit:?}");
            }
            let text = format_args!("driver {}: {change:?}, since {why}", hardware.id());
            scene.trace.note(scene.now, &[hardware.place as u64], text);
            self.change_table(hardware, change, &why, super::driver::Errand::Settle, scene);
        }
    }

    fn begin_orders(
        &mut self,
        hardware: &Hardware,
        driver: &mut Driver,
        table: &Table,
        scene: &mut Scene,
    ) {
        for order in driver.helm.orders() {
            let Some(leader) = driver.helm.leader_of(order.group) else { continue };
            let Order { group, changes, why, .. } = &order;
            let text = format_args!("driver {}: {group}: {changes:?}, {why}", hardware.id());
            scene.trace.note(scene.now, &[hardware.place as u64, group.0], text);
            if driver.lingers.is_none() && driver.dazed_until <= scene.now {
                let (group, now) = (group_place(simulated(&scene.plan, *group)), scene.now);
                let minds = |node, at| driver.minds_damage(node, at, now);
                scene.order_begins(group, &order, table, minds);
            }
            let late = if driver.lingers.is_some() { LATEST_US } else { 0 };
            driver.late.push((scene.now + scene.random.below(late + 1), leader, order));
        }
        let due = driver.late.extract_if(.., |(at, ..)| *at <= scene.now);
        for (_, leader, order) in due.collect::<Vec<_>>() {
            let group = simulated(&scene.plan, order.group);
            let (from, changes) = (Some(order.from), order.changes.clone());
            let body = encode_change_request(&ChangeRequest::Make { from, changes });
            let errand = Errand::Change { by: driver.begun, leader, order };
            self.ask_leader(hardware, leader, group, (RequestKind::Change, body), errand, scene);
        }
    }

    /// Asks nodes what they lead, and leaders how far their learners are, where it is time.
    fn begin_questions(&mut self, hardware: &Hardware, driver: &mut Driver, scene: &mut Scene) {
        if driver.asking.is_none() && driver.next_reports <= scene.now {
            let nodes = (1..=scene.plan.nodes as u64).map(NodeId);
            let nodes = nodes.filter(|it| *it != hardware.id() && self.liveness.reaches(*it));
            let awaited: BTreeSet<_> = nodes.collect();
            for node in &awaited {
                scene.question(hardware.place, *node, Question::Report);
            }
            let reports = vec![(hardware.id(), self.report(hardware, scene))];
            driver.asking = Some(Asking { since: scene.now, awaited, reports });
        }
        if driver.next_learners <= scene.now {
            driver.next_learners = scene.now + BUSY_US / 2;
            for (leader, learners) in driver.helm.learners_to_ask() {
                for (group, node) in learners {
                    let body = encode_change_request(&ChangeRequest::CheckLearner(node));
                    let request = (RequestKind::Change, body);
                    let errand = Errand::Learner(group, node);
                    let group = simulated(&scene.plan, group);
                    self.ask_leader(hardware, leader, group, request, errand, scene);
                }
            }
        }
    }

    fn ask_leader(
        &mut self,
        hardware: &Hardware,
        leader: NodeId,
        group: GroupId,
        request: (RequestKind, Bytes),
        errand: Errand,
        scene: &mut Scene,
    ) {
        let caller = self.begin(hardware, errand, STEP_LIMIT_US, scene);
        self.ask(hardware, caller, leader.0 as usize - 1, group, request, scene);
    }

    /// Something that the driver has asked for is answered.
    pub(super) fn driver_hears(
        &mut self,
        hardware: &Hardware,
        errand: Errand,
        answer: Result<Bytes, RequestError>,
        scene: &mut Scene,
    ) {
        let Some(mut driver) = self.office().driver.take() else { return };
        match errand {
            Errand::Learner(group, node) => driver.heard_of_learner(group, node, answer),
            Errand::Change { by, leader, order } if by == driver.begun => {
                let changed = answer.map_err(ChangeError::from).and_then(|answer| {
                    let unknown = Err(RequestError::TimedOut.into());
                    decode_changed(&answer).unwrap_or(unknown)
                });
                match order.changed(leader, changed) {
                    Next::Ended(ended) => driver.ended(order.group, ended, scene),
                    Next::Transfer { members, to } => {
                        let group = simulated(&scene.plan, order.group);
                        let request = (RequestKind::Transfer, encode_transfer(to));
                        let errand = Errand::Transfer { by, order, members, to };
                        self.ask_leader(hardware, leader, group, request, errand, scene);
                    }
                }
            }
            Errand::Transfer { by, order, members, to } if by == driver.begun => {
                let transferred = answer.map_err(TransferError::from).and_then(|answer| {
                    let unknown = Err(RequestError::TimedOut.into());
                    decode_transferred(to, &answer).unwrap_or(unknown)
                });
                let ended = order.transferred(members, to, transferred);
                driver.ended(order.group, ended, scene);
            }
            _ => {}
        }
        self.office().driver = Some(driver);
    }
}

impl Driver {
    fn ended(&mut self, group: GroupId, ended: Ended, scene: &mut Scene) {
        let text = format_args!("driver: group {group}: {ended:?}");
        scene.trace.note(scene.now, &[group.0], text);
        self.helm.ended(self.time(scene), group, ended);
    }

    fn heard_of_learner(
        &mut self,
        group: GroupId,
        node: NodeId,
        answer: Result<Bytes, RequestError>,
    ) {
        let Some(answer) = answer.ok().and_then(|answer| decode_changed(&answer)) else { return };
        let (is_ready, matched) = match answer {
            Ok(_) => (true, 0),
            Err(ChangeError::Refused(ChangeRefusal::NotCaughtUp { matched, .. })) => {
                (false, matched.0)
            }
            Err(ChangeError::Refused(ChangeRefusal::NotFortified { .. })) => (false, 0),
            Err(_) => return,
        };
        self.helm.progressed(Progress { group, node, is_ready, matched });
    }
}

/// A driver goes on for a while by the table that it knows, while leadership of the meta group goes
/// elsewhere. Its orders leave late.
pub(super) fn double_drivers(hosts: &mut [Host], lasts: u64, scene: &mut Scene) -> bool {
    for Host { process, hardware, .. } in hosts {
        let Some(process) = process else { continue };
        let office = process.office();
        let table = office.feed.newest();
        let Some(driver) = office.driver.as_mut().filter(|it| it.lingers.is_none()) else {
            continue;
        };
        driver.lingers = Some((scene.now + lasts.max(LATEST_US), table));
        let to = NodeId(scene.random.between(1, scene.plan.nodes as u64));
        process.post_to_group(scene.plan.meta_group(), GroupEvent::Transfer(to));
        process.schedule_turns(hardware, scene);
        return true;
    }
    false
}
