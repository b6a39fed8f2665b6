//! The clients: each does one operation after the other through the node that it is connected to,
//! as the router does, and notes what it asked and what it heard.

use super::host::Host;
use super::key_clients::KeyWork;
use super::machine::{
    QueryId, command_head, decode_count, decode_read, decode_sum, encode_command, encode_query,
};
use super::process::{group_id, group_place};
use super::scene::{Event, Scene, Target};
use crate::history::{Answer, Kind, Operation, Outcome};
use bytes::Bytes;
use logboat::internals::{decode_replies, encode_list};
use logboat::{NodeId, ReadFrom, ReadMode, RequestError, RequestKind};
use logboat_router::{Range, RangeMap};
use logboat_server::kv::{self, Lifetime};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// What a client wants: of a key with a text, or of one in a store of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    Text(Kind),
    Key(KeyWork),
}

impl Work {
    const fn is_read(&self) -> bool {
        match self {
            Self::Text(kind) => matches!(kind, Kind::Get),
            Self::Key(work) => work.is_read(),
        }
    }

    fn query(&self, key: &str) -> Bytes {
        match self {
            Self::Text(_) => Bytes::copy_from_slice(key.as_bytes()),
            Self::Key(work) => work.query(key),
        }
    }

    fn command(&self, number: u64, key: &str, padding: usize) -> Bytes {
        match self {
            Self::Text(kind) => encode_command(number, key, kind, padding),
            Self::Key(work) => {
                [command_head(number, padding), work.command(key).into()].concat().into()
            }
        }
    }
}

/// What is under way for a client.
struct Pending {
    number: u64,
    key: String,
    work: Work,
    /// What is proposed together with it, on the same key, with the numbers that follow.
    more: Vec<Work>,
    /// It is a read that came behind a deadline, and moves the clock of its group.
    is_late: bool,
    called_us: u64,
    /// The replicas to ask, and which comes next.
    attempts: usize,
    hint: Option<usize>,
    deadline_us: u64,
    /// How many commands were applied anywhere when the last attempt began.
    applied: u64,
}

struct Client {
    home: usize,
    /// Counts what was asked; answers to earlier questions are too late.
    attempt: u64,
    /// A question is out.
    asked: bool,
    pending: Option<Pending>,
}

/// A key's name changes now and then, so that no history grows long.
struct Key {
    generation: u64,
    operations: u64,
    unknown: u64,
}

/// Keys of each group.
const KEYS: usize = 2;
/// The most operations on a key.
const MAX_OPERATIONS: u64 = 100;
/// The most operations on a key whose outcome is not known.
const MAX_UNKNOWN: u64 = 5;

/// All clients.
pub(super) struct Clients {
    clients: Vec<Client>,
    keys: Vec<Key>,
    map: RangeMap,
    next: u64,
    pub(super) history: Vec<Operation>,
    /// Operations in stores of keys, which a history has no words for.
    pub(super) key_operations: usize,
    /// What is left to do when the faults have stopped.
    finale: Option<VecDeque<(String, Work)>>,
    /// The nodes that clients can reach, while some are cut off.
    reachable: Option<Vec<bool>>,
}

impl Pending {
    /// Whether it is asked without a command.
    const fn is_query(&self) -> bool {
        self.work.is_read() && !self.is_late
    }

    /// The numbers of its commands.
    fn numbers(&self) -> RangeInclusive<u64> {
        self.number..=self.number + self.more.len() as u64
    }
}

impl Clients {
    pub(super) fn new(scene: &mut Scene) -> Self {
        let plan = &scene.plan;
        let range = |group: usize| Range {
            start: if group == 0 { Bytes::new() } else { format!("{group:03}").into() },
            group: group_id(group),
            replicas: plan.hosts(group).into_iter().map(|node| NodeId(node as u64 + 1)).collect(),
        };
        let ranges = (0..plan.data_groups()).map(range).collect();
        let map = RangeMap::new(1, "range".to_owned(), ranges).expect("the ranges are in order");
        let (clients, nodes, keys) = (plan.clients, plan.nodes, plan.data_groups() * KEYS);
        let client =
            |number| Client { home: number % nodes, attempt: 0, asked: false, pending: None };
        for number in 0..clients {
            let wait = scene.random.below(1_000_000);
            scene.after(wait, Target::World, Event::Think(number));
        }
        Self {
            clients: (0..clients).map(client).collect(),
            keys: (0..keys).map(|_| Key { generation: 0, operations: 0, unknown: 0 }).collect(),
            // What one node sends is what another reads.
            map: RangeMap::decode(map.encode()).expect("a map survives its encoding"),
            next: 0,
            history: Vec::new(),
            key_operations: 0,
            finale: None,
            reachable: None,
        }
    }

    /// A client goes on with what is pending, or thinks of something new.
    pub(super) fn think(&mut self, client: usize, hosts: &mut [Host], scene: &mut Scene) {
        if self.clients[client].asked {
            return;
        }
        if self.clients[client].pending.is_none() {
            let Some((key, work)) = self.choose(scene) else { return };
            let more = self.choose_more(&work, scene);
            let number = self.next + 1;
            self.next += 1 + more.len() as u64;
            let limit = 5 * scene.plan.request_timeout.as_micros() as u64;
            self.clients[client].pending = Some(Pending {
                number,
                key,
                work,
                more,
                is_late: false,
                called_us: scene.now,
                attempts: 0,
                hint: None,
                deadline_us: scene.now + limit,
                applied: 0,
            });
        }
        self.ask(client, hosts, scene);
    }

    /// An attempt got an answer, unless it comes too late.
    pub(super) fn answered(
        &mut self,
        client: usize,
        attempt: u64,
        result: Result<Bytes, RequestError>,
        scene: &mut Scene,
    ) {
        let state = &mut self.clients[client];
        if state.attempt != attempt || !state.asked {
            return;
        }
        state.asked = false;
        let pending = state.pending.as_mut().expect("what was asked is pending");
        let error = match result {
            Ok(answer) if pending.is_query() && says_late(&pending.work, &answer) => {
                pending.is_late = true;
                return scene.after(1, Target::World, Event::Think(client));
            }
            Ok(answer) => return self.finish(client, Some(answer), scene),
            Err(error) => error,
        };
        match error {
            RequestError::TimedOut if !pending.is_query() => {
                return self.finish(client, None, scene);
            }
            RequestError::NotLeader { leader } => {
                pending.hint = leader.map(|leader| leader.0 as usize - 1);
            }
            RequestError::TooLarge { .. }
            | RequestError::AnswerTooLarge { .. }
            | RequestError::NoRoomForAnswer { .. } => {
                panic!("no command or answer is too large: {error}")
            }
            RequestError::TimedOut
            | RequestError::Busy
            | RequestError::LogFull
            | RequestError::NoSuchGroup(_)
            | RequestError::Unreachable(_)
            | RequestError::Stopped => pending.hint = None,
        }
        if scene.now >= pending.deadline_us && self.finale.is_none() {
            // It certainly had no effect.
            state.pending = None;
        }
        let wait = scene.random.between(1_000, 100_000);
        scene.after(wait, Target::World, Event::Think(client));
    }

    /// An attempt took too long.
    pub(super) fn expired(&mut self, client: usize, attempt: u64, scene: &mut Scene) {
        self.answered(client, attempt, Err(RequestError::TimedOut), scene);
    }

    /// How many operations are left.
    pub(super) fn work(&self) -> u64 {
        self.finale.as_ref().map_or(0, VecDeque::len) as u64
    }

    /// A node is gone, and with it what its clients waited for.
    pub(super) fn crashed(&mut self, host: usize, scene: &mut Scene) {
        for client in 0..self.clients.len() {
            let state = &self.clients[client];
            if state.home == host && state.asked {
                let attempt = state.attempt;
                self.answered(client, attempt, Err(RequestError::TimedOut), scene);
            }
        }
    }

    /// Some nodes are cut off from those that are `left`, which clients turn to: each of these
    /// groups is written to, and read. What they were waiting for is given up.
    pub(super) fn begin_isolation(&mut self, left: &[bool], groups: &[usize], scene: &mut Scene) {
        for client in 0..self.clients.len() {
            let state = &mut self.clients[client];
            if state.asked && state.pending.as_ref().is_some_and(|it| !it.is_query()) {
                self.finish(client, None, scene);
            }
            let state = &mut self.clients[client];
            (state.asked, state.pending) = (false, None);
            scene.after(1_000, Target::World, Event::Think(client));
        }
        let keys = scene.plan.keys;
        let cut = |group: &usize| {
            let key = format!("{group:03}-cut");
            [(key.clone(), put("1;", keys)), (key, get(keys))]
        };
        self.finale = Some(groups.iter().flat_map(cut).collect());
        self.reachable = Some(left.to_vec());
    }

    /// All nodes are within reach again.
    pub(super) fn end_isolation(&mut self) {
        self.reachable = None;
    }

    /// The faults have stopped: every group is written to, and every key read, once more.
    pub(super) fn begin_finale(&mut self, scene: &mut Scene) {
        let keys = scene.plan.keys;
        let mut left = VecDeque::new();
        for group in 0..scene.plan.data_groups() {
            let key = format!("{group:03}-last");
            left.push_back((key.clone(), put("0;", keys)));
            left.push_back((key, get(keys)));
        }
        for place in 0..self.keys.len() {
            for generation in 0..=self.keys[place].generation {
                left.push_back((name(place, generation), get(keys)));
            }
        }
        self.finale = Some(left);
        for (client, state) in self.clients.iter().enumerate() {
            if !state.asked {
                scene.after(1_000, Target::World, Event::Think(client));
            }
        }
    }

    /// Whether all is done.
    pub(super) fn is_finished(&self) -> bool {
        self.finale.as_ref().is_some_and(VecDeque::is_empty)
            && self.clients.iter().all(|client| client.pending.is_none())
    }

    /// What is not done yet, for people to read.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let pending = self.clients.iter().filter_map(|client| client.pending.as_ref());
        pending.map(|pending| format!("{:?} of {:?}", pending.work, pending.key)).collect()
    }

    fn choose(&mut self, scene: &mut Scene) -> Option<(String, Work)> {
        if let Some(left) = &mut self.finale {
            return left.pop_front();
        }
        let place = scene.random.place(self.keys.len());
        let key = &mut self.keys[place];
        if key.operations >= MAX_OPERATIONS || key.unknown >= MAX_UNKNOWN {
            *key = Key { generation: key.generation + 1, operations: 0, unknown: 0 };
        }
        key.operations += 1;
        if scene.plan.keys {
            let work = KeyWork::draw(self.next + 1, scene.now, &mut scene.random);
            return Some((name(place, key.generation), Work::Key(work)));
        }
        let value = format!("{};", self.next);
        let kind = match scene.random.below(10) {
            0..4 => Kind::Get,
            // Keys that are only appended to, or counted up, show most.
            _ if place.is_multiple_of(KEYS)
                && ((place / KEYS) as u64 + key.generation) % 3 == 1 =>
            {
                Kind::Incr { by: 1 + i64::from(self.next.is_multiple_of(3)) }
            }
            _ if place.is_multiple_of(KEYS) => Kind::Append { value },
            4..6 => Kind::Put { value },
            6..8 => Kind::Append { value },
            8 => Kind::Cas { expect: self.last_read(place, scene), value },
            _ => Kind::Delete,
        };
        Some((name(place, self.keys[place].generation), Work::Text(kind)))
    }

    /// What else is proposed at once with a command: more of the same.
    fn choose_more(&self, work: &Work, scene: &mut Scene) -> Vec<Work> {
        let Work::Text(kind) = work else { return Vec::new() };
        let is_list = self.finale.is_none() && scene.random.per_mille(150);
        let count = if is_list { scene.random.between(1, 3) } else { 0 };
        let value = |offset| format!("{};", self.next + 1 + offset);
        let another = |offset| match kind {
            Kind::Append { .. } => Some(Kind::Append { value: value(offset) }),
            Kind::Put { .. } => Some(Kind::Put { value: value(offset) }),
            Kind::Incr { by } => Some(Kind::Incr { by: *by }),
            Kind::Get | Kind::Cas { .. } | Kind::Delete | Kind::Expire { .. } => None,
        };
        (1..=count).map_while(another).map(Work::Text).collect()
    }

    /// A value that the key had not long ago, or none.
    fn last_read(&self, place: usize, scene: &mut Scene) -> Option<String> {
        let key = name(place, self.keys[place].generation);
        let recent = self.history.iter().rev().take(50).filter(|operation| operation.key == key);
        let mut values =
            recent.filter_map(|operation| match (&operation.outcome, &operation.kind) {
                (Outcome::Done { answer: Answer::Read(value), .. }, _) => Some(value.clone()),
                (Outcome::Done { .. }, Kind::Put { value }) => Some(Some(value.clone())),
                _ => None,
            });
        let skip = scene.random.place(2);
        values.nth(skip).flatten()
    }

    fn ask(&mut self, client: usize, hosts: &mut [Host], scene: &mut Scene) {
        let state = &mut self.clients[client];
        let pending = state.pending.as_mut().expect("there is something to ask");
        let reachable = |node: usize| self.reachable.as_ref().is_none_or(|nodes| nodes[node]);
        while hosts[state.home].dead.is_some() || !reachable(state.home) {
            state.home = (state.home + 1) % hosts.len();
        }
        let home = &mut hosts[state.home];
        // One that stands still answers when it goes on.
        let Some(process) = home.process.as_mut() else {
            return scene.after(50_000, Target::World, Event::Think(client));
        };
        let range = &self.map.ranges()[self.map.locate(pending.key.as_bytes())];
        let next = range.replicas[pending.attempts % range.replicas.len()];
        let known = || process.leader_of(range.group);
        // Two replicas may point at each other, so a hint is not always followed.
        let hint = pending.hint.take().filter(|_| pending.attempts % 4 != 3);
        let to = hint.unwrap_or_else(|| {
            let leader = if pending.attempts % 4 == 3 { None } else { known() };
            leader.unwrap_or(next).0 as usize - 1
        });
        let lease = scene.plan.leases && scene.random.per_mille(500);
        let anywhere = pending.is_query() && scene.random.per_mille(300);
        let from = if anywhere { ReadFrom::Any } else { ReadFrom::Leader };
        let mode = ReadMode { from, lease };
        let to = if anywhere { next.0 as usize - 1 } else { to };
        pending.attempts += 1;
        pending.applied = scene.checks.commands(group_place(range.group));
        state.attempt += 1;
        state.asked = true;
        let (request, body, limit) = if pending.is_query() {
            let id = QueryId { client: client as u64, attempt: state.attempt };
            (RequestKind::Read(mode), encode_query(id, &pending.work.query(&pending.key)), 1)
        } else {
            let padding = scene.random.place(scene.plan.padding_bytes);
            let works = std::iter::once(&pending.work).chain(&pending.more);
            let commands = (pending.number..).zip(works);
            let mut commands: Vec<Bytes> = commands
                .map(|(number, work)| work.command(number, &pending.key, padding))
                .collect();
            if pending.more.is_empty() {
                (RequestKind::Propose, commands.remove(0), 2)
            } else {
                scene.checks.proposed_together(group_place(range.group), pending.numbers());
                (RequestKind::ProposeAll, encode_list(&commands).into(), 2)
            }
        };
        let limit = limit * scene.plan.request_timeout.as_micros() as u64;
        let attempt = state.attempt;
        scene.after(limit, Target::World, Event::Expire { client, attempt });
        if !reachable(to) {
            let unreachable = Err(RequestError::Unreachable(NodeId(to as u64 + 1)));
            let event = Event::Answer { client, attempt, result: unreachable };
            return scene.after(1, Target::World, event);
        }
        let (caller, group) = ((client, attempt), range.group);
        process.ask(&home.hardware, caller, to, group, (request, body), scene);
    }

    /// What a client had asked for is as known as it will be.
    fn finish(&mut self, client: usize, answer: Option<Bytes>, scene: &mut Scene) {
        let pending = self.clients[client].pending.take().expect("it was pending");
        let count = 1 + pending.more.len();
        let answers = match answer {
            Some(answer) if count > 1 => decode_replies(answer, count),
            Some(answer) => vec![Ok(answer)],
            None => vec![Err(RequestError::TimedOut); count],
        };
        let numbers = pending.numbers();
        let works = std::iter::once(&pending.work).chain(&pending.more);
        for ((number, work), answer) in numbers.zip(works).zip(answers) {
            match answer {
                Ok(answer) => self.note(client, &pending, (number, work), Some(answer), scene),
                Err(RequestError::TimedOut) => {
                    self.note(client, &pending, (number, work), None, scene);
                }
                // It certainly had no effect.
                Err(_) => {}
            }
        }
        let wait = if self.finale.is_some() { 1 } else { scene.random.below(scene.plan.think_us) };
        scene.after(wait, Target::World, Event::Think(client));
    }

    /// Notes an operation with its outcome.
    fn note(
        &mut self,
        client: usize,
        pending: &Pending,
        (number, work): (u64, &Work),
        answer: Option<Bytes>,
        scene: &mut Scene,
    ) {
        let Pending { key, called_us, applied, .. } = pending;
        let (key, applied) = (key.clone(), *applied);
        let group = self.map.ranges()[self.map.locate(key.as_bytes())].group;
        if !pending.is_query() && answer.is_some() {
            scene.checks.acknowledged(group_place(group), number);
        }
        if answer.is_none() {
            let names = |(place, state): &(usize, &mut Key)| name(*place, state.generation) == key;
            if let Some((_, state)) = self.keys.iter_mut().enumerate().find(names) {
                state.unknown += 1;
            }
            if let Some(left) = self.finale.as_mut().filter(|_| is_errand(&key)) {
                left.push_back((key.clone(), work.clone()));
            }
        }
        let kind = match work {
            Work::Text(kind) => kind.clone(),
            Work::Key(work) => {
                self.key_operations += 1;
                let is_known = answer.is_some();
                if let Some(answer) = answer.filter(|_| pending.is_query()) {
                    assert!(decode_count(&answer) >= applied, "a read lacks commands");
                }
                let numbers = [client as u64, number, u64::from(is_known)];
                let text = format_args!("client {client}: {work:?} of {key:?}: {is_known}");
                return scene.trace.note(scene.now, &numbers, text);
            }
        };
        let outcome = answer.map_or(Outcome::Unknown, |answer| Outcome::Done {
            return_ns: scene.now * 1_000,
            answer: match kind {
                Kind::Get => {
                    let (count, value) = decode_read(answer);
                    assert!(count >= applied, "a read lacks {} commands", applied - count);
                    Answer::Read(value)
                }
                Kind::Incr { .. } => Answer::Counted(decode_sum(answer)),
                Kind::Cas { .. } if answer[0] == 1 => Answer::Swapped,
                Kind::Cas { .. } => Answer::Mismatched { current: None },
                Kind::Put { .. } | Kind::Append { .. } | Kind::Delete | Kind::Expire { .. } => {
                    Answer::Written
                }
            },
        });
        let numbers = [client as u64, number, u64::from(outcome == Outcome::Unknown)];
        let text = format_args!("client {client}: {kind:?} of {key:?}: {outcome:?}");
        scene.trace.note(scene.now, &numbers, text);
        let (client_id, call_ns) = (client as u64, *called_us * 1_000);
        let operation = Operation { client: client_id, call_ns, key, kind, outcome, info: None };
        self.history.push(operation);
    }
}

/// A write of a value that does not expire, and a read, of texts or in stores of keys.
fn put(value: &str, keys: bool) -> Work {
    let value = value.to_owned();
    match keys {
        true => Work::Key(KeyWork::Set { value, lifetime: Lifetime::Endless }),
        false => Work::Text(Kind::Put { value }),
    }
}

const fn get(keys: bool) -> Work {
    if keys { Work::Key(KeyWork::Get) } else { Work::Text(Kind::Get) }
}

/// Whether the answer to a read is that it came behind a deadline.
fn says_late(work: &Work, answer: &Bytes) -> bool {
    let told = answer.slice(size_of::<u64>()..);
    matches!(work, Work::Key(_)) && kv::Answer::decode(&told) == Ok(kv::Answer::Late)
}

/// Whether a key is one that is written to at the end, as often as it takes.
fn is_errand(key: &str) -> bool {
    key.ends_with("last") || key.ends_with("cut")
}

fn name(place: usize, generation: u64) -> String {
    format!("{:03}-{}-{generation}", place / KEYS, place % KEYS)
}
