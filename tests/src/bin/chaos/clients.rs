//! Concurrent Redis clients that record what they ask and hear.

use crate::dice::Dice;
use crate::request::{answer, command};
use logboat_tests::history::{Answer, Kind, Operation, Outcome};
use parking_lot::Mutex;
use redis::{Client, Connection, RedisError, RedisResult, Value};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many clients work on one key at a time.
const CLIENTS_A_KEY: usize = 5;

/// How many operations a key gets before its clients go on to the next one. A check's effort grows
/// with it.
const OPERATIONS_A_KEY: u64 = 500;

/// How long a client waits for an answer before it goes on without.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last reads may wait: all is healed, and no answer may be missing.
const LAST_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause of a client that reaches no node.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A client stays with its node for about this many operations.
const OPERATIONS_A_NODE: usize = 16;

/// Running clients.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Operation>>>,
}

struct Shared {
    stop: AtomicBool,
    /// All operations, which is also where unique values come from.
    operations: AtomicU64,
    clock: Instant,
    nodes: Vec<Client>,
    /// How many operations a client sends together.
    pipeline: usize,
    /// Pipelines in which an answer does not fit one before it.
    disorder: Mutex<Vec<String>>,
}

/// What the clients recorded.
pub(crate) struct Recorded {
    pub(crate) operations: Vec<Operation>,
    /// Pipelines in which an answer does not fit one before it.
    pub(crate) disorder: Vec<String>,
}

/// The clients of one key.
struct Team {
    number: usize,
    operations: AtomicU64,
}

impl Clients {
    /// Starts `count` clients of the `nodes`. Each of them sends `pipeline` operations together.
    pub(crate) fn start(nodes: &[Client], count: usize, pipeline: usize, dice: &mut Dice) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            clock: Instant::now(),
            nodes: nodes.to_vec(),
            pipeline,
            disorder: Mutex::default(),
        });
        let teams: Vec<_> = (0..count.div_ceil(CLIENTS_A_KEY))
            .map(|number| Arc::new(Team { number, operations: AtomicU64::new(0) }))
            .collect();
        let threads = (0..count).map(|id| {
            let team = Arc::clone(&teams[id / CLIENTS_A_KEY]);
            let mut caller = Caller::new(id as u64, Arc::clone(&shared), dice.split());
            thread::spawn(move || caller.run(&team))
        });
        Self { threads: threads.collect(), shared }
    }

    /// How many operations there were so far.
    pub(crate) fn operations(&self) -> u64 {
        self.shared.operations.load(Ordering::Relaxed)
    }

    /// Ends the clients and gives what they recorded.
    pub(crate) fn stop(self) -> Recorded {
        self.shared.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        let recorded = threads.flat_map(|thread| thread.join().expect("a client does not panic"));
        let operations = recorded.collect();
        Recorded { operations, disorder: std::mem::take(&mut *self.shared.disorder.lock()) }
    }
}

/// Reads every key of a history once more, through every node.
///
/// # Errors
/// When a node does not answer.
pub(crate) fn last_reads(nodes: &[Client], history: &[Operation]) -> RedisResult<Vec<Operation>> {
    let end = history.iter().map(|operation| operation.return_ns().unwrap_or(operation.call_ns));
    let end = end.max().map_or(0, |end| end + 1);
    let clock = Instant::now();
    let client = history.iter().map(|operation| operation.client).max().map_or(0, |last| last + 1);
    let keys: BTreeSet<_> = history.iter().map(|operation| &operation.key).collect();
    let mut reads = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let mut connection = connect(node, LAST_TIMEOUT)?;
        for key in &keys {
            let mut read = Operation::call(client, end + elapsed_ns(clock), *key, Kind::Get);
            read.info = Some((number + 1).into());
            let reply: Value = command(&Kind::Get, key, None).query(&mut connection)?;
            reads.push(read.answered(end + elapsed_ns(clock), answer(&Kind::Get, &reply)));
        }
    }
    Ok(reads)
}

/// One client.
struct Caller {
    id: u64,
    shared: Arc<Shared>,
    dice: Dice,
    /// The node that is asked, from 0 on.
    node: usize,
    connection: Option<Connection>,
    /// What the key held when this client last looked; what it expects in a cas.
    seen: Option<String>,
    history: Vec<Operation>,
}

impl Caller {
    fn new(id: u64, shared: Arc<Shared>, dice: Dice) -> Self {
        Self { id, shared, dice, node: 0, connection: None, seen: None, history: Vec::new() }
    }

    fn run(&mut self, team: &Team) -> Vec<Operation> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.connection.is_none() || self.dice.below(OPERATIONS_A_NODE) == 0 {
                self.node = self.dice.below(self.shared.nodes.len());
                self.connection = connect(&self.shared.nodes[self.node], ANSWER_TIMEOUT).ok();
            }
            match self.connection.take() {
                Some(connection) => self.operate(team, connection),
                None => thread::sleep(RETRY_PAUSE),
            }
        }
        std::mem::take(&mut self.history)
    }

    /// Sends some operations together, and records what comes of them.
    fn operate(&mut self, team: &Team, mut connection: Connection) {
        let count = self.shared.pipeline;
        let mut requests = Vec::new();
        let mut expiries = Vec::new();
        let mut operations: Vec<_> = (0..count)
            .map(|place| {
                let key = self.key(team);
                let kind = self.choose(team);
                let lifetime = self.lifetime(team, &kind);
                command(&kind, &key, lifetime).write_packed_command(&mut requests);
                if let (Kind::Put { value }, Some(_)) = (&kind, lifetime) {
                    let expire = Kind::Expire { value: value.clone() };
                    expiries.push(Operation::call(self.id, 0, key.clone(), expire));
                }
                // As many callers as operations, since those of one caller may not overlap.
                let caller = self.id * count as u64 + place as u64;
                let mut operation = Operation::call(caller, 0, key, kind);
                operation.info = Some((self.node + 1).into());
                operation
            })
            .collect();
        let call_ns = elapsed_ns(self.shared.clock);
        let all = operations.iter_mut().chain(&mut expiries);
        all.for_each(|operation| operation.call_ns = call_ns);
        let sent = connection.send_packed_command(&requests);
        let mut goes_on = sent.is_ok();
        for operation in &mut operations {
            if !goes_on {
                break;
            }
            let result = connection.recv_response().and_then(Value::extract_error);
            goes_on = result.as_ref().map_or_else(is_answer, |_| true);
            self.record(operation, result);
        }
        if goes_on {
            self.connection = Some(connection);
        }
        if let Some(disorder) = disorder(&operations, team.only_appends()) {
            self.shared.disorder.lock().push(disorder);
        }
        self.history.append(&mut operations);
        self.history.append(&mut expiries);
    }

    /// For how long lives what a team writes that has its keys expire: mostly for less than a
    /// pause of a node.
    fn lifetime(&mut self, team: &Team, kind: &Kind) -> Option<Duration> {
        let expires = team.expires() && matches!(kind, Kind::Put { .. }) && self.dice.below(4) > 0;
        expires.then(|| self.dice.time_ms(1..1_000))
    }

    /// A key of the team. A team has more of them at a time when it sends more at once.
    fn key(&mut self, team: &Team) -> String {
        let keys = self.shared.pipeline.div_ceil(2);
        let operation = team.operations.fetch_add(1, Ordering::Relaxed);
        let number = operation / (OPERATIONS_A_KEY * keys as u64);
        format!("{}:{number}:{}", team.number, self.dice.below(keys))
    }

    fn record(&mut self, operation: &mut Operation, result: RedisResult<Value>) {
        let return_ns = elapsed_ns(self.shared.clock);
        match result {
            Ok(reply) => {
                let answer = answer(&operation.kind, &reply);
                if let Answer::Read(value) = &answer {
                    self.seen.clone_from(value);
                }
                operation.outcome = Outcome::Done { return_ns, answer };
            }
            Err(error) if is_refusal(&error) => operation.outcome = Outcome::Refused,
            // Perhaps it was done, or will be.
            Err(_) => {}
        }
    }

    /// Of four teams one only appends and reads, which shows lost and doubled writes best, one
    /// counts, one has its keys expire, and one does all else.
    fn choose(&mut self, team: &Team) -> Kind {
        let value = format!("{};", self.shared.operations.fetch_add(1, Ordering::Relaxed));
        let dice = self.dice.below(10);
        match (team.number % 4, dice) {
            (0, 0..5) => Kind::Append { value },
            (2, 0..4) => Kind::Incr { by: 1 },
            (2, 4) => Kind::Incr { by: 2 },
            (3, 0..3) => Kind::Put { value },
            (3, 3) => Kind::Cas { expect: None, value },
            (3, 4) => Kind::Delete,
            (1, 0..2) => Kind::Put { value },
            (1, 2..4) => Kind::Cas { expect: self.seen.clone(), value },
            (1, 4) => Kind::Append { value },
            (1, 5) => Kind::Delete,
            (_, _) => Kind::Get,
        }
    }
}

impl Team {
    /// Whether nobody removes or overwrites the team's keys, or counts with them.
    const fn only_appends(&self) -> bool {
        self.number.is_multiple_of(4)
    }

    /// Whether what the team puts expires, most of the time.
    const fn expires(&self) -> bool {
        self.number % 4 == 3
    }
}

/// The first answer of a pipeline that does not fit one before it: a read lacks what an earlier
/// append of the same key wrote, or a sum is no larger than an earlier one.
fn disorder(pipeline: &[Operation], only_appends: bool) -> Option<String> {
    let later = |place: usize| pipeline[place + 1..].iter();
    for (place, first) in pipeline.iter().enumerate() {
        let Outcome::Done { answer, .. } = &first.outcome else { continue };
        for second in later(place).filter(|second| second.key == first.key) {
            let Outcome::Done { answer: next, .. } = &second.outcome else { continue };
            let fits = match (&first.kind, answer, next) {
                (Kind::Append { value }, _, Answer::Read(read)) if only_appends => {
                    read.as_ref().is_some_and(|read| read.contains(value.as_str()))
                }
                (_, Answer::Counted(sum), Answer::Counted(next)) => sum < next,
                (_, Answer::Read(Some(read)), Answer::Read(next)) if only_appends => {
                    next.as_ref().is_some_and(|next| next.starts_with(read.as_str()))
                }
                _ => true,
            };
            if !fits {
                return Some(format!("{first:?} was sent before {second:?}"));
            }
        }
    }
    None
}

fn connect(client: &Client, timeout: Duration) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(timeout)?;
    connection.set_read_timeout(Some(timeout))?;
    Ok(connection)
}

/// Whether the node answered, if with an error, so that the connection can be used on.
fn is_answer(error: &RedisError) -> bool {
    error.code().is_some()
}

/// Whether the node says that the operation certainly has no effect.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.code(), Some("TRYAGAIN" | "CLUSTERDOWN"))
}

fn elapsed_ns(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
