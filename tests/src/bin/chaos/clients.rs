//! Concurrent Redis clients that record what they ask and hear.

use crate::dice::Dice;
use crate::request::{answer, command};
use logboat_tests::history::{Answer, Kind, Operation, Outcome};
use redis::{Client, Connection, RedisError, RedisResult, Value};
use std::collections::BTreeSet;
use std::net::SocketAddr;
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
    addresses: Vec<SocketAddr>,
}

/// The clients of one key.
struct Team {
    number: usize,
    operations: AtomicU64,
}

impl Clients {
    /// Starts `count` clients of the nodes at `addresses`.
    pub(crate) fn start(addresses: &[SocketAddr], count: usize, dice: &mut Dice) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            operations: AtomicU64::new(0),
            clock: Instant::now(),
            addresses: addresses.to_vec(),
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
    pub(crate) fn stop(self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.into_iter();
        threads.flat_map(|thread| thread.join().expect("a client does not panic")).collect()
    }
}

/// Reads every key of a history once more, through every node.
///
/// # Errors
/// When a node does not answer.
pub(crate) fn last_reads(
    addresses: &[SocketAddr],
    history: &[Operation],
) -> RedisResult<Vec<Operation>> {
    let end = history.iter().map(|operation| operation.return_ns().unwrap_or(operation.call_ns));
    let end = end.max().map_or(0, |end| end + 1);
    let clock = Instant::now();
    let client = history.iter().map(|operation| operation.client).max().map_or(0, |last| last + 1);
    let keys: BTreeSet<_> = history.iter().map(|operation| &operation.key).collect();
    let mut reads = Vec::new();
    for (node, address) in addresses.iter().enumerate() {
        let mut connection = connect(*address, LAST_TIMEOUT)?;
        for key in &keys {
            let mut read = Operation::call(client, end + elapsed_ns(clock), *key, Kind::Get);
            read.info = Some((node + 1).into());
            let reply: Value = command(&Kind::Get, key).query(&mut connection)?;
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
                self.node = self.dice.below(self.shared.addresses.len());
                self.connection = connect(self.shared.addresses[self.node], ANSWER_TIMEOUT).ok();
            }
            match self.connection.take() {
                Some(connection) => self.operate(team, connection),
                None => thread::sleep(RETRY_PAUSE),
            }
        }
        std::mem::take(&mut self.history)
    }

    fn operate(&mut self, team: &Team, mut connection: Connection) {
        let number = team.operations.fetch_add(1, Ordering::Relaxed) / OPERATIONS_A_KEY;
        let key = format!("{}:{number}", team.number);
        let kind = self.choose(team);
        let command = command(&kind, &key);
        let mut operation = Operation::call(self.id, elapsed_ns(self.shared.clock), key, kind);
        operation.info = Some((self.node + 1).into());
        let result = command.query::<Value>(&mut connection);
        let return_ns = elapsed_ns(self.shared.clock);
        if result.as_ref().map_or_else(is_answer, |_| true) {
            self.connection = Some(connection);
        }
        match result {
            Ok(reply) => {
                let answer = answer(&operation.kind, &reply);
                if let Answer::Read(value) = &answer {
                    self.seen.clone_from(value);
                }
                operation = operation.answered(return_ns, answer);
            }
            Err(error) if is_refusal(&error) => operation.outcome = Outcome::Refused,
            // Perhaps it was done, or will be.
            Err(_) => {}
        }
        self.history.push(operation);
    }

    /// Of four teams two only append and read, which shows lost and doubled writes best, one
    /// counts, and one does all else.
    fn choose(&mut self, team: &Team) -> Kind {
        let value = format!("{};", self.shared.operations.fetch_add(1, Ordering::Relaxed));
        let dice = self.dice.below(10);
        match (team.number % 4, dice) {
            (0 | 3, 0..5) => Kind::Append { value },
            (2, 0..4) => Kind::Incr { by: 1 },
            (2, 4) => Kind::Incr { by: 2 },
            (0 | 2 | 3, _) => Kind::Get,
            (_, 0..2) => Kind::Put { value },
            (_, 2..4) => Kind::Cas { expect: self.seen.clone(), value },
            (_, 4) => Kind::Append { value },
            (_, 5) => Kind::Delete,
            (_, _) => Kind::Get,
        }
    }
}

fn connect(address: SocketAddr, timeout: Duration) -> RedisResult<Connection> {
    let client = Client::open(format!("redis://{address}/"))?;
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
