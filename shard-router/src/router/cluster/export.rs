//! Copies of groups for somebody outside of the cluster: for backups.
//!
//! A copy is the state of one replica after one entry, which holds all that was acknowledged before
//! the copy was asked for. The node with that replica holds the copy ready, and whoever wants it
//! fetches it in parts, one after the other, from any node. A thread of that node writes the parts.
//! It is never more than two parts ahead, so a copy takes little memory and goes at the pace of who
//! fetches it. A copy that nobody fetches any more is given up after a while.

use super::service::{Question, encode};
use crate::error::{ClusterError, RouteError};
use crate::map::META_GROUP;
use crate::router::{Inner, Router};
use bytes::Bytes;
use logboat::{GroupId, Index, LogId, NodeId, RequestError, SnapshotWriter, Term};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use xxhash_rust::xxh3::Xxh3;

/// How many bytes of a copy travel at once. What else nodes tell each other waits behind a part.
const PART_BYTES: usize = 1 << 20;

/// How many copies a node writes at once. Each holds a thread and a captured state.
const MOST_AT_ONCE: usize = 8;

/// A copy of which no part was fetched for so long is given up.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// How long a node may take to capture a state, and to have a part.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);

/// A copy of a group that a node holds ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupExport {
    /// The node.
    pub node: NodeId,
    /// The last entry that the state has.
    pub last: LogId,
    /// By this number its parts are fetched. None if the caller has the state already.
    pub number: Option<u64>,
}

/// A part of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportPart {
    /// The next bytes, at least one. Others follow.
    Bytes(Bytes),
    /// That was all.
    End {
        /// How many bytes there were.
        bytes: u64,
        /// Their checksum (XXH3 of 128 bits), made where they were written.
        checksum: u128,
    },
}

impl Router {
    /// Has a node hold a copy of a group ready. Its replicas take turns with each `attempt`, those
    /// that don't lead first, since a state in memory is copied between commands. Who has the state
    /// after the entry `known` gets no copy if that is still the state.
    ///
    /// # Errors
    /// See [`ClusterError`]. Where one replica gives no copy, another may.
    pub async fn export(
        &self,
        group: GroupId,
        known: Option<LogId>,
        attempt: usize,
    ) -> Result<GroupExport, ClusterError> {
        let inner = self.inner();
        let table = inner.feed.newest();
        let members =
            table.members(group).filter(|it| group != META_GROUP && !it.voters.is_empty());
        let members = members.ok_or_else(|| no_such_group(group))?;
        let (here, leader) = (inner.node.id(), inner.leader_of(group));
        let mut nodes = members.voters.clone();
        nodes.sort_by_key(|node| (!inner.reaches(*node), leader == Some(*node), *node != here));
        let node = nodes[attempt % nodes.len()];
        let known = known.map(|known| (known.term.0, known.index.0));
        let opened = if node == here {
            inner.open_export(group, known).await
        } else {
            let question = Question::Export { group: group.0, known };
            let answer = inner.ask_for_copy(node, &question).await?;
            serde_json::from_slice(&answer).map_err(|_| unreadable(node))?
        };
        let Opened { last: (term, index), number } = opened.map_err(unavailable)?;
        Ok(GroupExport { node, last: LogId::new(Term(term), Index(index)), number })
    }

    /// Fetches a part of a copy that a node holds ready. Parts are numbered from zero and come in
    /// their order. The last one that was fetched may be fetched again.
    ///
    /// # Errors
    /// See [`ClusterError`]. Refused is what that node does not hold ready: the copy has to be
    /// begun anew.
    pub async fn export_part(
        &self,
        node: NodeId,
        export: u64,
        number: u64,
    ) -> Result<ExportPart, ClusterError> {
        let inner = self.inner();
        if node == inner.node.id() {
            return inner.exports.part(export, number).await.into_part();
        }
        let answer = inner.ask_for_copy(node, &Question::ExportPart { export, number }).await?;
        PartAnswer::decode(answer).ok_or_else(|| unreadable(node))?.into_part()
    }
}

fn no_such_group(group: GroupId) -> ClusterError {
    ClusterError::Refused(format!("there is no group {group} of keys"))
}

fn unavailable(reason: String) -> ClusterError {
    RouteError::Unavailable { reason }.into()
}

fn unreadable(node: NodeId) -> ClusterError {
    unavailable(format!("node {node} has given an answer that makes no sense here"))
}

/// A copy that is held ready, or that is not needed: its last entry, and its number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    last: (u64, u64),
    number: Option<u64>,
}

impl Inner {
    async fn ask_for_copy(&self, node: NodeId, question: &Question) -> Result<Bytes, ClusterError> {
        let asked = timeout(ANSWER_LIMIT, self.node.ask(node, encode(question))).await;
        match asked.unwrap_or(Err(RequestError::TimedOut)) {
            Ok(answer) => Ok(answer),
            // A node of a version before there were copies drops what it does not understand.
            Err(RequestError::Stopped) => {
                Err(unavailable(format!("node {node} stops, or knows nothing of copies")))
            }
            Err(error) => Err(unavailable(format!("node {node}: {error}"))),
        }
    }

    /// Holds a copy of the replica here ready.
    pub(super) async fn open_export(
        self: &Arc<Self>,
        group: GroupId,
        known: Option<(u64, u64)>,
    ) -> Result<Opened, String> {
        let me = self.node.id();
        let place = self.exports.place().ok_or_else(|| {
            format!("node {me} writes {MOST_AT_ONCE} copies of groups already: try again later")
        })?;
        let handle = self.replica_here(group);
        let handle = handle.ok_or_else(|| format!("node {me} has no replica of group {group}"))?;
        let known = known.map(|(term, index)| LogId::new(Term(term), Index(index)));
        let captured = timeout(ANSWER_LIMIT, handle.capture(known)).await;
        let captured = captured.unwrap_or(Err(RequestError::TimedOut));
        let captured = captured.map_err(|error| format!("group {group} on node {me}: {error}"))?;
        let last = (captured.last.term.0, captured.last.index.0);
        let Some(writer) = captured.writer else { return Ok(Opened { last, number: None }) };
        let number = self.exports.open(writer, place);
        let number = number.map_err(|error| format!("node {me} has no thread for it: {error}"))?;
        let inner = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(inner) = inner.upgrade() {
                if inner.exports.end_if_idle(number, IDLE_LIMIT) {
                    break;
                }
                drop(inner);
                sleep(IDLE_LIMIT / 4).await;
            }
        });
        Ok(Opened { last, number: Some(number) })
    }
}

/// The copies that a node holds ready, by their numbers.
pub(in crate::router) struct Exports {
    open: Mutex<FxHashMap<u64, Arc<Export>>>,
    places: Arc<Semaphore>,
}

impl Default for Exports {
    fn default() -> Self {
        Self { open: Mutex::default(), places: Arc::new(Semaphore::new(MOST_AT_ONCE)) }
    }
}

/// A copy that is written.
struct Export {
    used: Mutex<Instant>,
    parts: tokio::sync::Mutex<Parts>,
}

/// What is left of a copy.
struct Parts {
    written: mpsc::Receiver<PartAnswer>,
    /// The number of the next part.
    next: u64,
    /// The part before that.
    last: Option<PartAnswer>,
}

impl Exports {
    /// Room for one more copy.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Begins to write a copy. The writer keeps its place until it returns.
    fn open(&self, writer: SnapshotWriter, place: OwnedSemaphorePermit) -> io::Result<u64> {
        let (sender, written) = mpsc::channel(1);
        let write = move || {
            let _place = place;
            write_parts(writer, &sender);
        };
        thread::Builder::new().name("export".to_owned()).spawn(write)?;
        // Nobody may guess the number of another's copy, or find one of an earlier run.
        let number = RandomState::new().hash_one(0_u8);
        let parts = tokio::sync::Mutex::new(Parts { written, next: 0, last: None });
        let export = Export { used: Mutex::new(Instant::now()), parts };
        self.open.lock().insert(number, Arc::new(export));
        Ok(number)
    }

    /// A part of a copy.
    pub(super) async fn part(&self, export: u64, number: u64) -> PartAnswer {
        let Some(export) = self.open.lock().get(&export).cloned() else {
            return PartAnswer::Refused("this copy is not held ready any more".to_owned());
        };
        *export.used.lock() = Instant::now();
        let mut parts = export.parts.lock().await;
        match &parts.last {
            Some(last) if number.checked_add(1) == Some(parts.next) => return last.clone(),
            _ if number == parts.next => {}
            _ => {
                let next = parts.next;
                return PartAnswer::Refused(format!("part {next} comes next, and not {number}"));
            }
        }
        let Ok(part) = timeout(ANSWER_LIMIT, parts.written.recv()).await else {
            return PartAnswer::Late;
        };
        let ended = || PartAnswer::Refused("the copy has ended in its midst".to_owned());
        let part = part.unwrap_or_else(ended);
        parts.next += 1;
        parts.last = Some(part.clone());
        *export.used.lock() = Instant::now();
        part
    }

    /// Gives a copy up of which no part was fetched for long. Its writer then finds nobody who
    /// takes the next part.
    fn end_if_idle(&self, number: u64, limit: Duration) -> bool {
        let mut open = self.open.lock();
        let is_idle = |export: &Arc<Export>| export.used.lock().elapsed() >= limit;
        let is_over = open.get(&number).is_none_or(is_idle);
        if is_over {
            open.remove(&number);
        }
        is_over
    }
}

/// Has a copy written, in parts that somebody takes.
fn write_parts(writer: SnapshotWriter, parts: &mpsc::Sender<PartAnswer>) {
    let mut cutter = Cutter { parts, part: Vec::new(), bytes: 0, hasher: Xxh3::new() };
    // A panic has been printed. It drops the sender, so that the copy ends without an end.
    let last = match writer(&mut cutter).and_then(|()| cutter.hand_over()) {
        Ok(()) => PartAnswer::End { bytes: cutter.bytes, checksum: cutter.hasher.digest128() },
        Err(error) => PartAnswer::Refused(format!("the state can't be read: {error}")),
    };
    // Where nobody takes it, nobody needs it.
    let _ = parts.blocking_send(last);
}

/// Cuts what is written into parts, and waits until each is taken.
struct Cutter<'a> {
    parts: &'a mpsc::Sender<PartAnswer>,
    part: Vec<u8>,
    bytes: u64,
    hasher: Xxh3,
}

impl Cutter<'_> {
    fn hand_over(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        self.bytes += self.part.len() as u64;
        self.hasher.update(&self.part);
        let part = PartAnswer::Bytes(Bytes::from(std::mem::take(&mut self.part)));
        let given_up = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody fetches the copy");
        self.parts.blocking_send(part).map_err(given_up)
    }
}

impl Write for Cutter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART_BYTES);
        }
        let taken = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == PART_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a node says of a part of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartAnswer {
    Bytes(Bytes),
    End {
        bytes: u64,
        checksum: u128,
    },
    /// It takes long to write. It may be asked for again.
    Late,
    /// There is none, and won't be.
    Refused(String),
}

impl PartAnswer {
    /// A byte that says what follows, then the bytes, the numbers (little-endian) or the reason.
    pub(super) fn encode(&self) -> Bytes {
        match self {
            Self::Bytes(bytes) => [&[0], &bytes[..]].concat().into(),
            Self::End { bytes, checksum } => {
                [&[1], &bytes.to_le_bytes()[..], &checksum.to_le_bytes()].concat().into()
            }
            Self::Late => Bytes::from_static(&[2]),
            Self::Refused(reason) => [&[3], reason.as_bytes()].concat().into(),
        }
    }

    /// Decodes what [`encode`](Self::encode) wrote. `None` for anything else.
    fn decode(mut encoded: Bytes) -> Option<Self> {
        if encoded.is_empty() {
            return None;
        }
        let kind = encoded.split_to(1)[0];
        match kind {
            0 => (!encoded.is_empty()).then_some(Self::Bytes(encoded)),
            1 => {
                let (bytes, checksum) = encoded.split_first_chunk()?;
                let (bytes, checksum) = (u64::from_le_bytes(*bytes), checksum.try_into().ok()?);
                Some(Self::End { bytes, checksum: u128::from_le_bytes(checksum) })
            }
            2 => encoded.is_empty().then_some(Self::Late),
            3 => Some(Self::Refused(String::from_utf8_lossy(&encoded).into_owned())),
            _ => None,
        }
    }

    fn into_part(self) -> Result<ExportPart, ClusterError> {
        match self {
            Self::Bytes(bytes) => Ok(ExportPart::Bytes(bytes)),
            Self::End { bytes, checksum } => Ok(ExportPart::End { bytes, checksum }),
            Self::Late => Err(unavailable("the next part is not written yet".to_owned())),
            Self::Refused(reason) => Err(ClusterError::Refused(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing(bytes: usize) -> SnapshotWriter {
        let state: Vec<u8> = (0..bytes).map(|place| (place / 7) as u8).collect();
        Box::new(move |writer| writer.write_all(&state))
    }

    /// Whether a copy of that number is refused as one that is not there.
    fn is_gone(answer: &PartAnswer) -> bool {
        matches!(answer, PartAnswer::Refused(reason) if reason.contains("not held ready"))
    }

    #[tokio::test]
    async fn a_copy_comes_in_parts_of_which_the_last_may_be_fetched_again() {
        const BYTES: usize = 2 * PART_BYTES + 1_000;
        let exports = Exports::default();
        let export = exports.open(writing(BYTES), exports.place().unwrap()).unwrap();
        let (copy, number, end) = fetch(&exports, export).await;
        let PartAnswer::End { bytes, checksum } = end else { panic!("{end:?}") };
        assert_eq!((bytes as usize, copy.len()), (BYTES, BYTES));
        assert_eq!(checksum, xxhash_rust::xxh3::xxh3_128(&copy));
        assert_eq!(exports.part(export, number).await, end, "once more");
        for other in [0, number + 2, u64::MAX] {
            let answer = exports.part(export, other).await;
            assert!(matches!(answer, PartAnswer::Refused(_)), "{other}: {answer:?}");
        }
        assert!(is_gone(&exports.part(export ^ 1, 0).await));
    }

    /// Fetches each part twice. Returns all bytes, and the end with its number.
    async fn fetch(exports: &Exports, export: u64) -> (Vec<u8>, u64, PartAnswer) {
        let (mut copy, mut number) = (Vec::new(), 0);
        loop {
            let part = exports.part(export, number).await;
            assert_eq!(exports.part(export, number).await, part);
            match part {
                PartAnswer::Bytes(bytes) => copy.extend(bytes),
                end => return (copy, number, end),
            }
            number += 1;
        }
    }

    #[tokio::test]
    async fn a_copy_that_nobody_fetches_gives_its_place_back() {
        let exports = Exports::default();
        let open = || exports.open(writing(9 * PART_BYTES), exports.place().unwrap()).unwrap();
        let copies: Vec<_> = (0..MOST_AT_ONCE).map(|_| open()).collect();
        assert!(exports.place().is_none());
        assert!(matches!(exports.part(copies[0], 0).await, PartAnswer::Bytes(_)));
        assert!(!exports.end_if_idle(copies[0], IDLE_LIMIT));
        assert!(copies[1..].iter().all(|copy| exports.end_if_idle(*copy, Duration::ZERO)));
        // The writers, which are threads, find out.
        let _places =
            Arc::clone(&exports.places).acquire_many_owned(MOST_AT_ONCE as u32 - 1).await.unwrap();
        assert!(is_gone(&exports.part(copies[1], 0).await));
    }

    #[tokio::test]
    async fn a_state_that_can_t_be_read_and_a_panic_are_no_end() {
        let exports = Exports::default();
        let failing: SnapshotWriter = Box::new(|writer| {
            writer.write_all(b"some")?;
            Err(io::Error::other("a bad block"))
        });
        let export = exports.open(failing, exports.place().unwrap()).unwrap();
        let PartAnswer::Refused(reason) = exports.part(export, 0).await else { panic!() };
        assert!(reason.contains("a bad block"), "{reason}");
        let export = exports.open(Box::new(|_| panic!()), exports.place().unwrap()).unwrap();
        assert!(matches!(exports.part(export, 0).await, PartAnswer::Refused(_)));
    }

    #[test]
    fn parts_survive_the_way_between_nodes() {
        for part in [
            PartAnswer::Bytes(Bytes::from_static(b"bytes")),
            PartAnswer::End { bytes: 7, checksum: u128::MAX - 5 },
            PartAnswer::Late,
            PartAnswer::Refused("no".to_owned()),
        ] {
            assert_eq!(PartAnswer::decode(part.encode()), Some(part));
        }
        for garbage in [&b""[..], &[0], &[1, 2, 3], &[2, 2], &[9]] {
            assert_eq!(PartAnswer::decode(Bytes::from_static(garbage)), None);
        }
    }
}
