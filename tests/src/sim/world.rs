//! The loop: one event after the other, first under faults, then without.

use super::bridge::Bridge;
use super::clients::Clients;
use super::elastic::{self, FOUNDERS, NODES, OPERATOR, PLACED_S};
use super::faults;
use super::forgeries;
use super::host::Host;
use super::introduction::{self, introduce};
use super::members;
use super::options::{Fault, FaultCounts, Options};
use super::process::group_id;
use super::scene::{Event, Scene, Scheduled, Target};
use super::stand_in;
use crate::history::Operation;
use logboat_raft::NodeId;
use std::fmt::Write;

/// All nodes, and all else.
pub(super) struct World {
    pub(super) scene: Scene,
    hosts: Vec<Host>,
    clients: Clients,
    steps: u64,
}

/// How many election timeouts after the last fault every group must have a leader again, must have
/// answered a write and a read, and must have brought every replica up to date.
pub const RECOVERY_ELECTIONS: u64 = 40;

/// How many events that may take, fifty times what the hungriest of 400 seeds took: messages that
/// cause each other would otherwise fill the time, or stop it.
const RECOVERY_EVENTS: u64 = 500_000;

impl World {
    pub(super) fn new(options: &Options) -> Self {
        let mut scene = Scene::new(options);
        let nodes = scene.plan.nodes;
        let begun = if scene.plan.elastic { FOUNDERS } else { nodes };
        scene.elastic.used = begun;
        for place in 0..begun {
            let late = scene.plan.late.filter(|(late, _)| *late == place);
            let begins = late.map_or(place as u64, |(_, micros)| micros);
            scene.after(begins, Target::Host(place), Event::Restart);
            for to in (0..begun).filter(|to| *to != place) {
                let soon = scene.random.between(nodes as u64, 20_000);
                scene.after(soon, Target::Host(place), Event::Reconnect { to });
            }
        }
        scene.after(1_000_000, Target::World, Event::Fault);
        if scene.plan.settings_differ() {
            scene.count(Fault::Settings);
        }
        let clients = Clients::new(&mut scene);
        let host = |place| if place < begun { Host::new(place) } else { Host::vacant(place) };
        Self { scene, hosts: (0..nodes).map(host).collect(), clients, steps: 0 }
    }

    /// Runs the whole simulation. A property that does not hold panics.
    pub(super) fn run(&mut self) {
        while self.steps < self.scene.options.steps {
            self.step();
        }
        if self.scene.options.faults.contains(&Fault::Bridge) {
            self.outlast_a_bridge();
        }
        self.end_faults();
        if let Some(left) = faults::isolate(&mut self.scene) {
            self.go_on_without_some(&left);
            self.scene.bridged = false;
            self.scene.heal_network();
        }
        if self.scene.plan.elastic {
            self.place_all();
        }
        self.clients.begin_finale(&mut self.scene);
        self.run_until("no recovery after the last fault", |world| {
            world.clients.is_finished() && world.laggards().is_empty()
        });
    }

    /// All faults end, and all nodes are founded soon.
    fn end_faults(&mut self) {
        faults::heal_all(&mut self.hosts, &mut self.scene);
        elastic::end_absences(&mut self.hosts, &mut self.scene);
        self.run_until("nodes wait for each other, and promise nothing", |world| {
            world.hosts.iter().all(|host| host.hardware.boot.founded || host.dead.is_some())
        });
    }

    /// The replicas of an elastic cluster come to where they should be.
    fn place_all(&mut self) {
        let deadline = self.scene.now + PLACED_S * 1_000_000;
        let mut next_look = self.scene.now;
        loop {
            self.step();
            if self.scene.now < next_look {
                continue;
            }
            next_look = self.scene.now + 1_000_000;
            let flaws = self.scene.elastic.flaws(&self.hosts, &self.scene);
            if flaws.is_empty() {
                return;
            }
            assert!(self.scene.now < deadline, "replicas are not in their places: {flaws:?}");
        }
    }

    /// While some nodes are cut off, each group that has a majority among those that are `left`
    /// serves a write and a read.
    fn go_on_without_some(&mut self, left: &[bool]) {
        let Self { scene, hosts, clients, .. } = self;
        let lives = |node: &usize| left[*node] && !hosts[*node].hardware.damaged;
        let has_majority = |group: &usize| scene.checks.has_majority(*group, |place| lives(&place));
        let groups: Vec<usize> = (0..scene.plan.groups).filter(has_majority).collect();
        clients.begin_isolation(left, &groups, scene);
        self.run_until("no progress without the nodes that were cut off", |world| {
            world.clients.is_finished()
        });
        self.clients.end_isolation();
    }

    /// Runs until something is reached, which has to be soon.
    fn run_until(&mut self, otherwise: &str, reached: impl Fn(&Self) -> bool) {
        let plan = &self.scene.plan;
        let election = plan.longest_election_timeout().as_micros() as u64;
        // What is to be read and written one by one takes its time besides.
        let work = self.clients.work() * 4 * (plan.sync_us + plan.delay_us);
        let events = self.steps + RECOVERY_EVENTS;
        let deadline = self.scene.now + RECOVERY_ELECTIONS * election + work;
        while !reached(self) {
            let late = self.scene.now > deadline || self.steps > events;
            assert!(!late, "{otherwise}: {}", self.describe());
            self.step();
        }
    }

    /// All faults end but for one of the network, which lasts until every group that can has had a
    /// leader meanwhile. It may lose it again, by a transfer to a node that can't reach the others.
    /// Those that lead when it begins and lose their majorities by it notice that within two
    /// election timeouts.
    fn outlast_a_bridge(&mut self) {
        self.end_faults();
        let mut bridge = Bridge::build(&self.hosts, &mut self.scene);
        let election = self.scene.plan.election_us();
        let deadline = self.scene.now + RECOVERY_ELECTIONS * election;
        let events = self.steps + RECOVERY_EVENTS;
        let mut next_look = self.scene.now + 3 * election;
        loop {
            self.step();
            if self.scene.now < next_look {
                continue;
            }
            next_look = self.scene.now + election / 4;
            bridge.look(&self.hosts, &self.scene);
            if bridge.stuck.is_empty() {
                return;
            }
            let late = self.scene.now > deadline || self.steps > events;
            assert!(!late, "{bridge:?} holds up groups: {}", self.describe());
        }
    }

    pub(super) const fn micros(&self) -> u64 {
        self.scene.now
    }

    pub(super) const fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn history(&self) -> &[Operation] {
        &self.clients.history
    }

    /// How many operations clients have asked for.
    pub(super) const fn operations(&self) -> usize {
        self.clients.history.len() + self.clients.key_operations
    }

    pub(super) const fn counts(&self) -> &FaultCounts {
        &self.scene.counts
    }

    fn step(&mut self) {
        let Some(next) = self.scene.next() else {
            panic!("nothing is left to happen");
        };
        self.steps += 1;
        let Some(host) = self.due(&next) else { return };
        match host {
            None => self.world_event(next.event),
            Some(host) => self.host_event(host, next.event),
        }
    }

    /// Whom an event concerns, unless it comes too late or its node stands still.
    fn due(&mut self, next: &Scheduled) -> Option<Option<usize>> {
        let host = match next.target {
            Target::World => return Some(None),
            Target::Host(host) => host,
            Target::Process { host, incarnation } => {
                if self.hosts[host].hardware.incarnation != incarnation {
                    return None;
                }
                host
            }
        };
        Some(Some(host))
    }

    fn world_event(&mut self, event: Event) {
        let Self { scene, hosts, clients, .. } = self;
        match event {
            Event::Think(client) => clients.think(client, hosts, scene),
            Event::Answer { client: OPERATOR, attempt, result } => {
                elastic::answered(attempt, result, hosts, scene);
            }
            Event::Answer { client, attempt, result } if client >= NODES => {
                let Host { process, hardware, .. } = &mut hosts[client - NODES];
                if let Some(process) = process {
                    process.office_hears(hardware, attempt, result, scene);
                }
            }
            Event::Wish(number) => elastic::ask(number, hosts, scene),
            Event::Return(place) => elastic::come_back(place, hosts, scene),
            Event::Expire { client, attempt } => clients.expired(client, attempt, scene),
            Event::Answer { client, attempt, result } => {
                clients.answered(client, attempt, result, scene);
            }
            Event::Fault if scene.stormy => faults::strike(hosts, scene),
            Event::Fault => {}
            Event::Change if scene.stormy => drop(members::change(hosts, scene)),
            Event::Interfere { host, place } if scene.stormy => {
                members::interfere(host, place, hosts, scene);
            }
            Event::Stall { host, lasts } if scene.stormy => {
                faults::stall(host, lasts, hosts, scene)
            }
            Event::SlowDisk { host, lasts } if scene.stormy => {
                members::slow_disk(host, lasts, hosts, scene);
            }
            Event::Lie if scene.stormy => {
                let liar = scene.random.place(hosts.len());
                forgeries::lie(hosts, liar, scene);
            }
            Event::Change
            | Event::Interfere { .. }
            | Event::Stall { .. }
            | Event::SlowDisk { .. }
            | Event::Lie => {}
            Event::Heal(heal) => faults::heal(&heal, hosts, scene),
            Event::PutBack { place, left } => stand_in::put_back(place, left, hosts, scene),
            Event::CutStandIn(place) => {
                hosts[place].hardware.doomed |= hosts[place].hardware.stands_in();
            }
            Event::Original(place) => stand_in::bring_back(&mut hosts[place], scene),
            event => unreachable!("{event:?} concerns a node"),
        }
        for host in 0..self.hosts.len() {
            self.fall(host);
        }
    }

    fn host_event(&mut self, place: usize, event: Event) {
        let Self { scene, hosts, .. } = self;
        let host = &mut hosts[place];
        if host.paused_until > scene.now && host.process.is_some() {
            let target = match event {
                Event::Frame { .. }
                | Event::Restart
                | Event::Disconnected { .. }
                | Event::Reconnect { .. } => Target::Host(place),
                _ => host.hardware.target(),
            };
            return scene.after(host.paused_until - scene.now, target, event);
        }
        note(scene, place, &event);
        if let Some(process) = &host.process {
            process.show_time(&host.hardware, scene);
        }
        match event {
            Event::Restart => host.start(scene),
            Event::Crash => host.hardware.doomed = true,
            Event::Reconnect { to } => self.reconnect(place, to),
            Event::Frame { from, bytes, connection } => {
                let broken = connection
                    .is_some_and(|connection| connection != scene.link(from, place).connection);
                // What the network kept for long was meant for the node that is stood in for.
                let is_foreign =
                    (connection.is_none() && host.hardware.stands_in()) || is_stranger(host, from);
                if !broken && !is_foreign && self.may_go_on(from, place) {
                    let Self { scene, hosts, .. } = self;
                    let host = &mut hosts[place];
                    if let Some(process) = &mut host.process {
                        process.receive(&mut host.hardware, from, bytes, scene);
                    }
                }
            }
            event => {
                if let Some(process) = &mut host.process {
                    process.handle(&mut host.hardware, event, scene);
                }
            }
        }
        self.check_clock(place);
        self.check_leases(place);
        self.hosts[place].expel(&mut self.scene);
        self.fall(place);
    }

    fn check_clock(&self, place: usize) {
        if let Host { process: Some(process), hardware, .. } = &self.hosts[place] {
            process.check_clock(hardware, &self.scene);
        }
    }

    /// Leases are only counted on where clocks are as they should be.
    fn check_leases(&self, place: usize) {
        let Host { process: Some(leader), hardware, .. } = &self.hosts[place] else { return };
        if !self.scene.plan.leases {
            return;
        }
        for Host { process, hardware: its, .. } in &self.hosts {
            // One that starts goes on supporting whom it did, for as long as if it had just begun.
            let is_parted = self.scene.parted.contains(&(its.place, place));
            let is_other = its.place != place && !its.stands_in() && !is_parted;
            if let Some(supporter) = process.as_ref().filter(|_| is_other) {
                leader.check_lease(hardware, (supporter, its), &self.scene);
            }
        }
    }

    /// Cuts the power of a node that is doomed.
    fn fall(&mut self, place: usize) {
        let hardware = &self.hosts[place].hardware;
        if hardware.doomed || hardware.snapshots.is_cut() {
            self.hosts[place].crash(&mut self.scene);
            self.hosts[place].hardware.doomed = false;
            self.clients.crashed(place, &mut self.scene);
        }
    }

    fn reconnect(&mut self, from: usize, to: usize) {
        let Self { scene, hosts, .. } = self;
        if scene.link(from, to).up {
            return;
        }
        // Whoever comes to an elastic cluster, or comes back, dials anew.
        if scene.plan.elastic && (hosts[from].dead.is_some() || hosts[to].dead.is_some()) {
            return;
        }
        let is_strange = is_stranger(&hosts[from], to) || is_stranger(&hosts[to], from);
        let is_blocked = scene.link(from, to).blocked || scene.link(to, from).blocked;
        let is_blocked = is_blocked || is_strange;
        let founded = hosts[from].hardware.boot.founded;
        let welcomed = if is_blocked || hosts[to].paused_until > scene.now {
            None
        } else {
            let places = hosts.get_disjoint_mut([from, to]);
            let [from, to] = places.expect("two nodes");
            introduce(from, to, scene)
        };
        match welcomed {
            Some(_) => {
                let link = scene.link(from, to);
                (link.up, link.unconfirmed) = (true, welcomed);
            }
            None => scene.after(100_000, Target::Host(from), Event::Reconnect { to }),
        }
        if hosts[from].hardware.boot.founded && !founded {
            self.is_founded(from);
        }
        self.fall(to);
    }

    /// Whether a frame from a node may be taken in. With the first one of a connection the node
    /// shows that it knows of its welcome.
    fn may_go_on(&mut self, from: usize, to: usize) -> bool {
        let Some(start) = self.scene.link(from, to).unconfirmed.take() else { return true };
        let goes_on = introduction::goes_on(NodeId(from as u64 + 1), start, &mut self.hosts[to]);
        if !goes_on {
            self.scene.disconnect(from, to);
        }
        goes_on
    }

    /// A node is founded: all others that it had to wait for have recorded its directory durably.
    fn is_founded(&mut self, place: usize) {
        let Self { scene, hosts, .. } = self;
        let (own, directory) = (hosts[place].hardware.id(), hosts[place].hardware.directory);
        for peer in scene.plan.awaited(place) {
            let known = hosts[peer.0 as usize - 1].hardware.has_noted(own);
            let known = known.map(|known| known.incarnation);
            assert_eq!(known, Some(directory), "{own} is founded, and {peer} knows it by this");
        }
        scene.checks.founded(own);
    }

    /// Replicas that should be up to date and are not.
    fn laggards(&self) -> Vec<(usize, usize)> {
        let mut laggards = Vec::new();
        for group in 0..self.scene.plan.groups {
            for node in self.scene.checks.members(group) {
                let host = &self.hosts[node];
                let cell = host.process.as_ref().and_then(|p| p.cell_of(group_id(group)));
                let applied = cell.map(|cell| cell.group.raft().applied().0);
                if !host.hardware.damaged && applied != Some(self.scene.checks.committed(group)) {
                    laggards.push((group, node));
                }
            }
        }
        laggards
    }

    /// How things stand, for people who look for the reason.
    fn describe(&self) -> String {
        let mut text = format!("unfinished {:?}", self.clients.unfinished());
        let mut groups: Vec<usize> = self.laggards().into_iter().map(|(group, _)| group).collect();
        groups.dedup();
        for group in groups.into_iter().take(3) {
            let committed = self.scene.checks.committed(group);
            let _ = write!(text, "\n  group {}: {committed} entries are committed", group + 1);
            for node in self.scene.plan.hosts(group) {
                let Host { process, hardware, dead, .. } = &self.hosts[node];
                let cell = process.as_ref().and_then(|process| process.cell_of(group_id(group)));
                let status = cell.map(|cell| cell.group.raft().status());
                let damaged = hardware.damaged;
                let _ = write!(text, "\n    {node}: damaged {damaged}, {dead:?}, {status:?}");
            }
        }
        text
    }
}

/// Whether a node does not know the one in this place as a peer for now.
fn is_stranger(host: &Host, place: usize) -> bool {
    let stranger = host.process.as_ref().and_then(|process| process.stranger);
    stranger == Some(NodeId(place as u64 + 1))
}

fn note(scene: &mut Scene, place: usize, event: &Event) {
    let now = scene.now;
    let node = place + 1;
    let place = place as u64;
    match event {
        Event::Frame { from, bytes, .. } => {
            let sum = crc_of(bytes);
            let numbers = [place, *from as u64, u64::from(sum)];
            let (from, length) = (from + 1, bytes.len());
            let text = format_args!("{from} -> {node}: {length} bytes, {sum:08x}");
            scene.trace.note(now, &numbers, text);
        }
        event => {
            let kind = event.kind();
            scene.trace.note(now, &[place, kind as u64], format_args!("{node}: {kind:?}"));
        }
    }
}

/// The checksum that a frame carries.
fn crc_of(frame: &[u8]) -> u32 {
    let bytes = frame[8..12].try_into().expect("a frame has a header");
    u32::from_le_bytes(bytes)
}
