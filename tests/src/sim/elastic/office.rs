//! What the router of a simulated node does with tasks: it makes the cluster, announces the node,
//! follows the table, publishes the members of the groups that lead here, and answers questions.

use super::driver::{Driver, Errand};
use super::{Question, Told, foundation, group_of, machine};
use crate::sim::host::Hardware;
use crate::sim::process::{Process, group_place};
use crate::sim::requests::Caller;
use crate::sim::scene::{Event, Scene};
use bytes::Bytes;
use logboat::internals::GroupEvent;
use logboat::{RequestError, RequestKind, RoleKind};
use logboat_raft::{GroupId, LogId, NodeId};
use logboat_router::internals::{Change, Command, Feed, Outcome, Reported, expulsion};
use logboat_router::{Members, NodeCard};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The callers from this one on are nodes.
pub(in crate::sim) const NODES: usize = 1 << 20;

/// How often a node looks what is to be done, in microseconds.
const LOOK_US: u64 = 500_000;

/// How long a replica waits to hear from its group that it is gone, in microseconds.
const UNHEARD_US: u64 = 10_000_000;

/// At so many looks in a row a node must have reached nobody before it asks whether it has left.
const PATIENCE: u32 = 6;

/// A node's part of its cluster.
pub(in crate::sim) struct Office {
    pub(in crate::sim) feed: Arc<Feed>,
    pub(super) driver: Option<Driver>,
    /// What was asked of groups and is not answered.
    pub(super) asked: BTreeMap<u64, Asked>,
    next: u64,
    is_announced: bool,
    /// The node that leads the meta group, as another one says.
    hint: Option<NodeId>,
    /// Whom to ask next, of those who may know.
    turn: usize,
    /// Since when replicas that their groups are without hear of no leader.
    unheard: BTreeMap<GroupId, u64>,
    /// At how many looks nobody was reached.
    alone: u32,
    /// Why the node is not part of the cluster any more.
    pub(in crate::sim) expelled: Option<String>,
}

/// Something that was asked of a group.
pub(super) struct Asked {
    pub(super) errand: Errand,
    /// When it is given up, in microseconds.
    until: u64,
}

impl Office {
    pub(in crate::sim) fn new(incarnation: u64) -> Box<Self> {
        Box::new(Self {
            feed: Feed::new(),
            driver: None,
            asked: BTreeMap::new(),
            next: incarnation << 32,
            is_announced: false,
            hint: None,
            turn: 0,
            alone: 0,
            unheard: BTreeMap::new(),
            expelled: None,
        })
    }

    fn is_asked(&self, is_it: impl Fn(&Errand) -> bool) -> bool {
        self.asked.values().any(|asked| is_it(&asked.errand))
    }

    /// Whether a change of the table that the driver wants is under way.
    pub(super) fn settles(&self) -> bool {
        self.is_asked(|errand| matches!(errand, Errand::Settle))
    }

    fn publishes(&self, group: GroupId, entry: LogId) -> bool {
        self.is_asked(|errand| match errand {
            Errand::Publish(groups) => groups.contains(&(group, entry)),
            _ => false,
        })
    }
}

impl Process {
    /// The node's part of its cluster, which is elastic.
    pub(super) fn office(&mut self) -> &mut Office {
        self.office.as_mut().expect("the cluster is elastic")
    }

    /// Does what is due.
    pub(in crate::sim) fn look(&mut self, hardware: &Hardware, scene: &mut Scene) {
        scene.after(LOOK_US, hardware.target(), Event::Look);
        self.give_up(hardware, scene);
        self.take_note(hardware, scene);
        if self.office().expelled.is_some() {
            return;
        }
        self.make_cluster(hardware, scene);
        self.announce(hardware, scene);
        self.follow(hardware, scene);
        self.publish(hardware, scene);
        self.remove_remains(hardware, scene);
        self.drive(hardware, scene);
    }

    /// Looks whether the node is part of the cluster still, by what is known here.
    fn take_note(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let table = self.office().feed.newest();
        scene.note_table(&table);
        let reason = expulsion(&table, hardware.id());
        let office = self.office();
        office.expelled = office.expelled.take().or(reason);
    }

    /// Waits no longer for what takes too long.
    fn give_up(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let now = scene.now;
        let late = |_: &u64, asked: &mut Asked| asked.until <= now;
        let late: Vec<_> = self.office().asked.extract_if(.., late).collect();
        for (_, asked) in late {
            self.has_ended(hardware, asked.errand, Err(RequestError::TimedOut), scene);
        }
    }

    /// The leader of the meta group makes the cluster, if nobody has.
    fn make_cluster(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let is_new = self.office().feed.newest().version() == 0;
        if is_new && self.leads_meta(scene) && !self.office().settles() {
            let change = Change::Found(foundation(scene));
            let why = "it was started for the first time";
            self.change_table(hardware, change, why, Errand::Settle, scene);
        }
    }

    fn announce(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let office = self.office();
        let is_known = office.feed.newest().node(hardware.id()).is_some();
        let is_asked = office.is_asked(|errand| matches!(errand, Errand::Announce));
        if office.is_announced || is_asked || !is_known {
            return;
        }
        let node = hardware.id();
        let (incarnation, card) = (hardware.directory.0, card_of(node));
        let change = Change::Announce { node, incarnation, card };
        self.change_table(hardware, change, "it has started", Errand::Announce, scene);
    }

    /// A node without a replica of the meta group that hears of its leader asks others for news.
    /// One that reaches nobody asks whether it is part of the cluster still.
    fn follow(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let meta = scene.plan.meta_group();
        let peers = (1..=scene.plan.nodes as u64).map(NodeId).filter(|it| *it != hardware.id());
        let reached: Vec<_> = peers.clone().filter(|it| self.liveness.reaches(*it)).collect();
        let is_told = self.leader_of(meta).is_some();
        let office = self.office();
        office.turn += 1;
        office.alone = if reached.is_empty() { office.alone + 1 } else { 0 };
        let (turn, alone, since) = (office.turn, office.alone, office.feed.newest().version());
        if alone >= PATIENCE {
            for peer in peers {
                let question = Question::Standing(hardware.id());
                scene.ask(hardware.place, peer, question, true);
            }
        } else if !is_told && !reached.is_empty() {
            let target = reached[turn % reached.len()];
            scene.ask(hardware.place, target, Question::Follow(since), false);
        }
    }

    /// Has the table know the members of the groups that lead here, as far as they are committed.
    fn publish(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let table = self.office().feed.newest();
        let mut news = Vec::new();
        for place in 0..self.cells.len() {
            let cell = &self.cells[place];
            let group = group_of(&scene.plan, group_place(cell.id));
            let view = &cell.view;
            let membership = view.membership();
            let entry = membership.entry();
            let is_committed = view.commit().0 >= entry.index.0;
            let is_news = table.members(group).is_some_and(|known| entry > known.entry);
            let leads = view.role() == RoleKind::Leader && !cell.failed;
            if leads && is_committed && is_news && !membership.is_joint() {
                let members = Members::of(&membership);
                if !self.office().publishes(group, entry) {
                    news.push((group, entry, members));
                }
            }
        }
        if !news.is_empty() {
            let errand = Errand::Publish(news.iter().map(|(it, entry, _)| (*it, *entry)).collect());
            let groups = news.into_iter().map(|(group, _, members)| (group.0, members)).collect();
            self.change_table(hardware, Change::Members { groups }, "", errand, scene);
        }
    }

    /// Removes replicas that have failed, or that hear of no leader, if their groups are known to
    /// have removed them.
    fn remove_remains(&mut self, hardware: &Hardware, scene: &mut Scene) {
        let (me, now, table) = (hardware.id(), scene.now, self.office().feed.newest());
        let before = std::mem::take(&mut self.office().unheard);
        let mut unheard = BTreeMap::new();
        let replicas: Vec<_> =
            self.by_group.iter().map(|(group, place)| (*group, *place)).collect();
        for (id, place) in replicas {
            let cell = &self.cells[place];
            let added = cell.view.membership().replica(me);
            let Some(members) = table.members(group_of(&scene.plan, group_place(id))) else {
                continue;
            };
            let waits = cell.group.raft().configuration().members().is_empty();
            let is_removed =
                !members.contains(me) && added.is_none_or(|replica| replica.0 <= members.entry);
            let hears_leader = !cell.failed && cell.view.leader().is_some();
            if waits || !is_removed || hears_leader {
                continue;
            }
            let since = *before.get(&id).unwrap_or(&now);
            if cell.failed || now - since >= UNHEARD_US {
                self.post(place, GroupEvent::Remove(id, Box::new(|| ())));
            }
            unheard.insert(id, since);
        }
        self.office().unheard = unheard;
        self.schedule_turns(hardware, scene);
    }

    /// Has the table changed, wherever the meta group is.
    pub(super) fn change_table(
        &mut self,
        hardware: &Hardware,
        change: Change,
        why: &str,
        errand: Errand,
        scene: &mut Scene,
    ) {
        let limit = 2 * scene.plan.request_timeout.as_micros() as u64;
        let caller = self.begin(hardware, errand, limit, scene);
        self.propose_change(hardware, caller, change, why, scene);
    }

    /// Proposes a change of the table where the meta group seems to lead.
    pub(super) fn propose_change(
        &mut self,
        hardware: &Hardware,
        caller: Caller,
        change: Change,
        why: &str,
        scene: &mut Scene,
    ) {
        let to = self.meta_leader(hardware, scene).0 as usize - 1;
        let number = scene.elastic.number();
        let command = Command::at(scene.now / 1_000, change, why);
        let body = machine::encode(number, &command);
        let group = scene.plan.meta_group();
        self.ask(hardware, caller, to, group, (RequestKind::Propose, body), scene);
    }

    /// Who leads the meta group, or may know.
    fn meta_leader(&mut self, hardware: &Hardware, scene: &mut Scene) -> NodeId {
        let known = self.leader_of(scene.plan.meta_group());
        let office = self.office();
        let table = office.feed.newest();
        let voters = table.meta().map(|meta| meta.voters.clone()).unwrap_or_default();
        let guess = voters.get(scene.random.place(voters.len().max(1))).copied();
        // What is known here may be over.
        let known = known.filter(|_| !scene.random.per_mille(250));
        office.hint.take().or(known).or(guess).unwrap_or(hardware.id())
    }

    /// Notes that something is asked.
    pub(super) fn begin(
        &mut self,
        hardware: &Hardware,
        errand: Errand,
        limit_us: u64,
        scene: &Scene,
    ) -> Caller {
        let office = self.office();
        office.next += 1;
        let number = office.next;
        office.asked.insert(number, Asked { errand, until: scene.now + limit_us });
        (NODES + hardware.place, number)
    }

    /// A group has answered.
    pub(in crate::sim) fn office_hears(
        &mut self,
        hardware: &Hardware,
        number: u64,
        answer: Result<Bytes, RequestError>,
        scene: &mut Scene,
    ) {
        let office = self.office();
        let Some(Asked { errand, .. }) = office.asked.remove(&number) else { return };
        if let Err(RequestError::NotLeader { leader }) = &answer
            && matches!(errand, Errand::Publish(_) | Errand::Announce | Errand::Settle)
        {
            office.hint = *leader;
        }
        self.has_ended(hardware, errand, answer, scene);
        self.drive(hardware, scene);
    }

    fn has_ended(
        &mut self,
        hardware: &Hardware,
        errand: Errand,
        answer: Result<Bytes, RequestError>,
        scene: &mut Scene,
    ) {
        match errand {
            Errand::Announce => {
                let outcome = answer.ok().and_then(|answer| Outcome::decode(&answer));
                let is_over = matches!(
                    outcome,
                    Some(Outcome::Done { .. } | Outcome::Unchanged { .. } | Outcome::Refused(_))
                );
                self.office().is_announced |= is_over;
            }
            Errand::Publish(_) | Errand::Settle => {}
            errand => self.driver_hears(hardware, errand, answer, scene),
        }
    }

    /// Another node asks something.
    pub(in crate::sim) fn questioned(
        &mut self,
        hardware: &Hardware,
        from: usize,
        question: &Question,
        scene: &mut Scene,
    ) {
        let (told, by_visit) = match question {
            Question::Follow(since) => {
                (Some(Told::News(*since, self.office().feed.since(*since))), false)
            }
            Question::Report => (Some(Told::Report(self.report(hardware, scene))), false),
            Question::Standing(node) => {
                (expulsion(&self.office().feed.newest(), *node).map(Told::Expelled), true)
            }
        };
        if let Some(told) = told {
            scene.tell(hardware.place, NodeId(from as u64 + 1), told, by_visit);
        }
    }

    /// Another node has answered.
    pub(in crate::sim) fn told(
        &mut self,
        hardware: &Hardware,
        from: usize,
        told: Told,
        scene: &mut Scene,
    ) {
        match told {
            Told::News(since, news) => self.office().feed.take(since, news),
            Told::Report(report) => {
                if let Some(driver) = &mut self.office().driver {
                    driver.reported(NodeId(from as u64 + 1), report);
                }
                self.drive(hardware, scene);
            }
            Told::Expelled(reason) => self.office().expelled = Some(reason),
        }
    }

    /// What the node says of its replicas.
    pub(super) fn report(&self, hardware: &Hardware, scene: &Scene) -> Reported {
        let mut report = Reported::default();
        let peers = (1..=scene.plan.nodes as u64).map(NodeId);
        let peers = peers.filter(|it| *it != hardware.id() && self.liveness.reaches(*it));
        report.reaches = peers.collect();
        for (group, place) in &self.by_group {
            let cell = &self.cells[*place];
            let group = group_of(&scene.plan, group_place(*group));
            if cell.failed {
                report.failed.push(group);
            } else if cell.view.role() == RoleKind::Leader {
                report.led.push((group, cell.view.applied_bytes()));
            }
        }
        report
    }

    /// Whether the meta group leads here.
    pub(super) fn leads_meta(&self, scene: &Scene) -> bool {
        let cell = self.cell_of(scene.plan.meta_group());
        cell.is_some_and(|cell| cell.view.role() == RoleKind::Leader)
    }
}

impl Scene {
    /// Asks another node. A visitor needs no connection that stands.
    fn ask(&mut self, from: usize, to: NodeId, question: Question, by_visit: bool) {
        self.send_word(from, to, by_visit, Event::Question { from, question });
    }

    fn tell(&mut self, from: usize, to: NodeId, told: Told, by_visit: bool) {
        self.send_word(from, to, by_visit, Event::Told { from, told });
    }

    pub(super) fn question(&mut self, from: usize, to: NodeId, question: Question) {
        self.ask(from, to, question, false);
    }
}

/// What is told of a node.
pub(super) fn card_of(node: NodeId) -> NodeCard {
    NodeCard { peers: format!("node{node}:1"), ..NodeCard::default() }
}
