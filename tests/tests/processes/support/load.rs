//! Writers that remember what was acknowledged, and the check that it is all there, once.

use super::{TestResult, get};
use logboat_tests::process::{Cluster, ProcessError, eventually};
use redis::{Client, Connection, RedisError, RedisResult};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Threads that write.
const WRITERS: usize = 4;

/// How long a node may take to answer a writer. A writer leaves a node that is paused or cut off
/// for another one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);

/// The pause of a writer whose node is gone, so that it does not take the processor from the nodes.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// A running load: each writer appends tokens to a key of its own and sets a new key for each.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Written>>,
}

/// What became of a write, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Certainly not done, and never will be.
    NotDone,
    /// Done once, at any time, or never.
    Unknown,
}

/// What one writer did: the outcomes of its appends and of its sets, in its order.
#[derive(Debug)]
pub(crate) struct Written {
    writer: usize,
    appends: Vec<Outcome>,
    sets: Vec<Outcome>,
}

impl Load {
    /// Starts to write to all nodes of a cluster.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let addresses: Vec<_> = cluster.nodes.iter().map(|node| node.client_address()).collect();
        let stop = Arc::<AtomicBool>::default();
        let acknowledged = Arc::<AtomicU64>::default();
        let writers = (0..WRITERS).map(|writer| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let mut client = Roaming { addresses: addresses.clone(), at: writer, connection: None };
            thread::spawn(move || write(writer, &mut client, &stop, &acknowledged))
        });
        let writers = writers.collect();
        Self { stop, acknowledged, writers }
    }

    /// Waits until `count` more writes have been acknowledged.
    pub(crate) fn await_progress(&self, count: u64) -> Result<(), ProcessError> {
        let goal = self.acknowledged.load(Ordering::Relaxed) + count;
        eventually("acknowledged writes", || {
            Ok((self.acknowledged.load(Ordering::Relaxed) >= goal).then_some(()))
        })
    }

    /// Ends the load and says what was written.
    pub(crate) fn stop(self) -> Vec<Written> {
        self.stop.store(true, Ordering::Relaxed);
        let writers = self.writers.into_iter();
        writers.map(|writer| writer.join().expect("a writer only counts outcomes")).collect()
    }
}

impl Written {
    /// Checks through `client` that every acknowledged write is there once, every refused one is
    /// not, and the others are there at most once.
    pub(crate) fn check(&self, client: &mut Connection) -> TestResult {
        let list = get(client, &list_key(self.writer))?.unwrap_or_default();
        let mut found: BTreeMap<usize, usize> = BTreeMap::new();
        let mut in_order = Vec::new();
        for token in list.split_terminator(';') {
            let number: usize = token.parse()?;
            *found.entry(number).or_default() += 1;
            if self.appends[number] == Outcome::Done {
                in_order.push(number);
            }
        }
        assert!(in_order.is_sorted(), "acknowledged appends are out of order: {in_order:?}");
        for (number, outcome) in self.appends.iter().enumerate() {
            let times = found.get(&number).copied().unwrap_or(0);
            let what = format!("append {number} of writer {}", self.writer);
            assert!(outcome.allows(times), "{what}: {outcome:?}, applied {times} times");
        }
        for (number, outcome) in self.sets.iter().enumerate() {
            let key = set_key(self.writer, number);
            let value = get(client, &key)?;
            let right = value.as_ref().is_none_or(|value| *value == number.to_string());
            assert!(right, "{key} is {value:?}");
            assert!(outcome.allows(value.iter().count()), "{key}: {outcome:?}, yet {value:?}");
        }
        Ok(())
    }
}

impl Outcome {
    fn of(result: &RedisResult<()>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) if is_refusal(error) => Self::NotDone,
            Err(_) => Self::Unknown,
        }
    }

    const fn allows(self, times: usize) -> bool {
        match self {
            Self::Done => times == 1,
            Self::NotDone => times == 0,
            Self::Unknown => times <= 1,
        }
    }
}

/// Whether an error says that the command certainly had no effect.
fn is_refusal(error: &RedisError) -> bool {
    matches!(error.code(), Some("TRYAGAIN" | "CLUSTERDOWN"))
}

/// A client that goes on to the next node when one does not answer.
struct Roaming {
    addresses: Vec<SocketAddr>,
    at: usize,
    connection: Option<Connection>,
}

impl Roaming {
    /// Carries out a write, once.
    fn write(&mut self, command: &redis::Cmd) -> Outcome {
        if self.connection.is_none() {
            self.connection = self.connect().ok();
        }
        let Some(connection) = &mut self.connection else {
            self.at += 1;
            thread::sleep(RETRY_PAUSE);
            return Outcome::NotDone;
        };
        let result = command.query::<()>(connection);
        if result.as_ref().is_err_and(|error| error.code().is_none()) {
            self.connection = None;
            self.at += 1;
        }
        Outcome::of(&result)
    }

    fn connect(&self) -> RedisResult<Connection> {
        let address = self.addresses[self.at % self.addresses.len()];
        let client = Client::open(format!("redis://{address}/"))?;
        let connection = client.get_connection_with_timeout(ANSWER_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    }
}

fn write(
    writer: usize,
    client: &mut Roaming,
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Written {
    let mut written = Written { writer, appends: Vec::new(), sets: Vec::new() };
    let count = |outcome: Outcome| {
        acknowledged.fetch_add(u64::from(outcome == Outcome::Done), Ordering::Relaxed);
        outcome
    };
    while !stop.load(Ordering::Relaxed) {
        let mut append = redis::cmd("APPEND");
        append.arg(list_key(writer)).arg(format!("{};", written.appends.len()));
        written.appends.push(count(client.write(&append)));
        let mut set = redis::cmd("SET");
        set.arg(set_key(writer, written.sets.len())).arg(written.sets.len());
        written.sets.push(count(client.write(&set)));
    }
    written
}

fn list_key(writer: usize) -> String {
    format!("list:{writer}")
}

fn set_key(writer: usize, number: usize) -> String {
    format!("set:{writer}:{number}")
}
