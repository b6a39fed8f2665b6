//! The store against a model, in which a key is a value and a time and nothing else is remembered.

use crate::kv::clock::{GroupTime, NodeClock};
use crate::kv::message::{
    Answer, Command, Condition, Deadline, ExpireIf, Expiry, Lifetime, Proposal, Query,
};
use crate::kv::suite::{AnyStore, Kind};
use bytes::Bytes;
use logboat::CommandAdmission;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A replica of a group, on a node of its own.
struct Replica {
    clock: Arc<NodeClock>,
    store: Box<dyn AnyStore>,
}

impl Replica {
    fn new(number: usize) -> Self {
        let clock = Arc::new(NodeClock::manual(0));
        let time = Arc::new(GroupTime::new(Arc::clone(&clock)));
        let kind = Kind::ALL[number % Kind::ALL.len()];
        Self { clock, store: kind.store(time) }
    }

    fn ask(&self, query: &Query) -> Answer {
        Answer::decode(&self.store.query(&query.encode())).unwrap()
    }
}

/// Values with their deadlines, by the clock of the group.
#[derive(Default)]
struct Model {
    clock_ms: u64,
    keys: BTreeMap<u8, (u8, Option<u64>)>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Set(u8, u8, Lifetime),
    SetIfMissing(u8, u8),
    Append(u8),
    Expire(u8, Deadline, ExpireIf),
    Persist(u8),
    Delete(u8),
    Rename(u8, u8),
    Tick,
}

impl Action {
    fn command(self) -> Command {
        let set = |key, value, condition, lifetime| Command::Set {
            key: word(key),
            value: word(value),
            condition,
            want_old: None,
            lifetime,
        };
        match self {
            Self::Set(key, value, lifetime) => set(key, value, Condition::Always, lifetime),
            Self::SetIfMissing(key, value) => {
                set(key, value, Condition::Missing, Lifetime::Endless)
            }
            Self::Append(key) => {
                Command::Append { key: word(key), value: Bytes::new(), limit_bytes: 9 }
            }
            Self::Expire(key, deadline, condition) => {
                Command::Expire { key: word(key), deadline, condition }
            }
            Self::Persist(key) => Command::Persist { key: word(key) },
            Self::Delete(key) => Command::Delete { keys: vec![word(key)] },
            Self::Rename(from, to) => {
                Command::Rename { from: word(from), to: word(to), only_if_missing: false }
            }
            Self::Tick => Command::Tick,
        }
    }
}

impl Model {
    /// Carries out an action that comes at this time, if it goes by any.
    fn apply(&mut self, stamp_ms: Option<u64>, action: Action) {
        self.clock_ms = self.clock_ms.max(stamp_ms.unwrap_or(0));
        self.expire_all();
        match action {
            Action::Set(key, value, lifetime) => {
                let deadline = match lifetime {
                    Lifetime::Endless => None,
                    Lifetime::Kept => self.keys.get(&key).and_then(|(_, deadline)| *deadline),
                    Lifetime::Until(deadline) => Some(self.time_of(deadline)),
                };
                self.keys.insert(key, (value, deadline));
            }
            Action::SetIfMissing(key, value) => {
                self.keys.entry(key).or_insert((value, None));
            }
            Action::Append(key) => {
                self.keys.entry(key).or_insert((0, None));
            }
            Action::Expire(key, deadline, condition) => {
                let new = self.time_of(deadline);
                if let Some((_, old)) = self.keys.get_mut(&key) {
                    let later = old.is_some_and(|old| new > old);
                    let earlier = old.is_none_or(|old| new < old);
                    if (!condition.endless || old.is_none())
                        && (!condition.expiring || old.is_some())
                        && (!condition.later || later)
                        && (!condition.earlier || earlier)
                    {
                        *old = Some(new);
                    }
                }
            }
            Action::Persist(key) => {
                self.keys.entry(key).and_modify(|(_, deadline)| *deadline = None);
            }
            Action::Delete(key) => drop(self.keys.remove(&key)),
            Action::Rename(from, to) => {
                if let Some(entry) = self.keys.remove(&from) {
                    self.keys.insert(to, entry);
                }
            }
            Action::Tick => {}
        }
        self.expire_all();
    }

    fn time_of(&self, deadline: Deadline) -> u64 {
        match deadline {
            Deadline::At(time) => time as u64,
            Deadline::In(time) => self.clock_ms.saturating_add_signed(time),
        }
    }

    fn expire_all(&mut self) {
        self.keys.retain(|_, (_, deadline)| deadline.is_none_or(|time| time > self.clock_ms));
    }
}

fn word(letter: u8) -> Bytes {
    if letter == 0 { Bytes::new() } else { Bytes::from(vec![letter]) }
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        (0..9_000i64).prop_map(Deadline::At),
        (-500..3_000i64).prop_map(Deadline::In),
        (0..60i64).prop_map(Deadline::In),
    ]
}

fn condition() -> impl Strategy<Value = ExpireIf> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(endless, expiring, later, earlier)| ExpireIf { endless, expiring, later, earlier },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let key = || 1..6u8;
    let lifetime = prop_oneof![
        Just(Lifetime::Endless),
        Just(Lifetime::Kept),
        deadline().prop_map(Lifetime::Until)
    ];
    prop_oneof![
        (key(), 1..200u8, lifetime).prop_map(|(key, value, life)| Action::Set(key, value, life)),
        (key(), 1..200u8).prop_map(|(key, value)| Action::SetIfMissing(key, value)),
        key().prop_map(Action::Append),
        (key(), deadline(), condition())
            .prop_map(|(key, deadline, condition)| Action::Expire(key, deadline, condition)),
        (key(), deadline()).prop_map(|(key, deadline)| Action::Expire(
            key,
            deadline,
            ExpireIf::default()
        )),
        key().prop_map(Action::Persist),
        key().prop_map(Action::Delete),
        (key(), key()).prop_map(|(from, to)| Action::Rename(from, to)),
        Just(Action::Tick),
    ]
}

/// Which replica leads, what its clock shows, and what it proposes.
type Step = (usize, u64, Action, bool);

proptest! {
    /// Leaders take turns, with clocks that know nothing of each other. Every replica has the state
    /// of the model, by the clock of the group; what a query says by the time of its node is either
    /// that, or that it came late.
    #[test]
    fn replicas_agree_whatever_their_clocks_show(
        steps in vec((0..3usize, 0..9_000u64, action(), any::<bool>()), 1..60),
    ) {
        let mut replicas = [0, 1, 2].map(Replica::new);
        let mut model = Model::default();
        let mut clock_before = 0;
        for (leader, clock_ms, action, restores) in steps as Vec<Step> {
            replicas[leader].clock.set(clock_ms);
            let admission = replicas[leader].store.admission();
            let command = admission.stamp(action.command().encode());
            let stamp_ms = Proposal::decode(&command).unwrap().stamp_ms;
            prop_assert!(stamp_ms.is_none_or(|stamp| stamp >= clock_before), "the time goes on");
            let answers = replicas.each_mut().map(|replica| replica.store.apply(&command));
            prop_assert!(answers.iter().all(|answer| *answer == answers[0]));
            model.apply(stamp_ms, action);
            clock_before = model.clock_ms;
            if restores {
                let snapshot = replicas[leader].store.snapshot();
                let other = (leader + 1) % 3;
                replicas[other] = Replica::new(other);
                replicas[other].store.restore(&snapshot).unwrap();
            }
            for key in 0..7u8 {
                let get = Query::Get { key: word(key), limit_bytes: 9 };
                let expected = model.keys.get(&key).map(|(value, _)| word(*value));
                for replica in &mut replicas {
                    match replica.ask(&get) {
                        Answer::Late => prop_assert!(expected.is_some()),
                        answer => prop_assert_eq!(answer, Answer::Value(expected.clone())),
                    }
                }
                // By the clock of the group it changes nothing.
                let ask = Proposal {
                    stamp_ms: Some(model.clock_ms),
                    database: 0,
                    command: Command::Ask { query: Query::Expiry { key: word(key) }.encode() },
                };
                let answer = Answer::decode(&replicas[0].store.apply(&ask.encode())).unwrap();
                prop_assert_eq!(answer, Answer::Expiry(match model.keys.get(&key) {
                    None => Expiry::Missing,
                    Some((_, None)) => Expiry::Never,
                    Some((_, Some(deadline_ms))) => {
                        let left_ms = deadline_ms - model.clock_ms;
                        Expiry::At { deadline_ms: *deadline_ms, left_ms }
                    }
                }));
            }
        }
        // In the end all memory is freed, whatever was swept when.
        for replica in &mut replicas {
            // Later than any step goes, by more than the spans in which deadlines are counted.
            let stamp_ms = Some(1_000_000_000);
            let tick = Proposal { stamp_ms, database: 0, command: Command::Tick };
            replica.store.apply(&tick.encode());
            let endless = model.keys.values().filter(|(_, deadline)| deadline.is_none()).count();
            prop_assert_eq!(replica.ask(&Query::Count), Answer::Integer(endless as i64));
        }
    }
}
