//! The state machine that the simulated groups replicate: keys with short texts, and a journal by
//! which the simulation learns what was applied.

use super::key_machine::KeyEvent;
use crate::history::Kind;
use bytes::{Buf, BufMut, Bytes};
use logboat::{CommandAdmission, SnapshotWriter, StateMachine, StateReader};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// What a replica's state machine was asked to do, until the simulation takes it out.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The commands, in order: the number of each (from 0 on), its operation, its checksum.
    pub(super) applied: Vec<(u64, u64, u32)>,
    /// What a store of keys was asked, and what it said.
    pub(super) keys: Vec<KeyEvent>,
    /// The queries that were answered, or handed to a reader.
    pub(super) answered: Vec<QueryId>,
    /// What goes wrong when it comes to it.
    pub(super) breaks: Option<Breakage>,
    /// Something has failed for that, and the replica may not know yet.
    pub(super) has_broken: bool,
}

/// How a replica fails, though its node goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakage {
    /// Its state machine panics at a command.
    Apply,
    /// Its state machine panics at a query, or its reader fails.
    Query,
    /// Its state machine can't be restored from a leader's snapshot, which is current by then.
    Restore,
    /// Its entries can't be read back.
    LogRead,
}

impl Breakage {
    pub(super) const ALL: [Self; 4] = [Self::Apply, Self::Query, Self::Restore, Self::LogRead];
}

/// Which attempt of a client to read something a query belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct QueryId {
    pub(super) client: u64,
    pub(super) attempt: u64,
}

/// The record of a replica's state machine, as the simulation shares it with the machine.
pub(super) type Journal = Arc<Mutex<Record>>;

/// Keys with texts. Clones have the same state: one is the state machine, the others read.
#[derive(Clone)]
pub(super) struct Machine {
    state: Arc<Mutex<State>>,
    journal: Journal,
}

/// The texts by their keys, and how many commands they reflect.
#[derive(Default)]
struct State {
    values: BTreeMap<String, String>,
    count: u64,
}

impl Machine {
    pub(super) fn new(journal: Journal) -> Self {
        Self { state: Arc::default(), journal }
    }

    /// Takes over the content of a snapshot.
    pub(super) fn load(&self, mut content: Bytes) {
        let mut state = self.state.lock();
        state.count = content.get_u64_le();
        state.values.clear();
        while !content.is_empty() {
            let key = take_text(&mut content);
            state.values.insert(key, take_text(&mut content));
        }
    }

    fn breaks_at(&self, what: Breakage) -> bool {
        self.journal.lock().breaks == Some(what)
    }

    /// The answer begins with how many commands the state reflects.
    fn answer(&self, mut query: Bytes) -> Bytes {
        take_query_id(&mut query);
        let state = self.state.lock();
        let mut answer = state.count.to_le_bytes().to_vec();
        answer.extend_from_slice(&encode_value(state.values.get(&text(query))));
        answer.into()
    }
}

/// The simulation notes itself which queries it is asked, when a replica hands them out.
impl StateReader for Machine {
    fn query(&self, query: Bytes) -> io::Result<Bytes> {
        if self.breaks_at(Breakage::Query) {
            self.journal.lock().has_broken = true;
            return Err(io::Error::other("simulated failure of a reader"));
        }
        Ok(self.answer(query))
    }
}

impl State {
    fn change(&mut self, key: String, kind: Kind) -> Bytes {
        let value = self.values.get(&key);
        match kind {
            Kind::Get => return encode_value(value),
            Kind::Put { value } => drop(self.values.insert(key, value)),
            Kind::Append { value: more } => self.values.entry(key).or_default().push_str(&more),
            Kind::Cas { expect, value: new } => {
                if value != expect.as_ref() {
                    return Bytes::from_static(b"\0");
                }
                self.values.insert(key, new);
            }
            Kind::Incr { by } => {
                let before = value.map_or(0, |value| value.parse().expect("a counter counts"));
                let sum: i64 = before + by;
                self.values.insert(key, sum.to_string());
                return Bytes::copy_from_slice(&sum.to_le_bytes());
            }
            Kind::Delete => drop(self.values.remove(&key)),
            Kind::Expire { value: put } => {
                if value == Some(&put) {
                    self.values.remove(&key);
                }
            }
        }
        Bytes::from_static(b"\x01")
    }
}

/// Marks what a leader lets in.
pub(super) struct Marking;

impl CommandAdmission for Marking {
    fn admit(&self, _: &Bytes) -> Result<u64, Bytes> {
        Ok(0)
    }

    fn stamp(&self, command: Bytes) -> Bytes {
        let_in(&command)
    }

    fn release(&self, _: u64) {}
}

impl StateMachine for Machine {
    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        Some(Arc::new(Marking))
    }

    fn apply(&mut self, command: Bytes) -> Bytes {
        assert!(!self.breaks_at(Breakage::Apply), "simulated panic at a command");
        let crc = crc32fast::hash(&command);
        let (operation, key, kind) = decode_command(command);
        let mut state = self.state.lock();
        self.journal.lock().applied.push((state.count, operation, crc));
        state.count += 1;
        state.change(key, kind)
    }

    fn query(&self, query: Bytes) -> Bytes {
        assert!(!self.breaks_at(Breakage::Query), "simulated panic at a query");
        self.journal.lock().answered.push(take_query_id(&mut query.clone()));
        self.answer(query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        let state = self.state.lock();
        let (count, values) = (state.count, state.values.clone());
        Box::new(move |writer| {
            let mut bytes = Vec::new();
            bytes.put_u64_le(count);
            for (key, value) in &values {
                put_text(&mut bytes, key);
                put_text(&mut bytes, value);
            }
            writer.write_all(&bytes)
        })
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        if self.breaks_at(Breakage::Restore) {
            return Err(io::Error::other("simulated failure to restore"));
        }
        self.load(bytes.into());
        Ok(())
    }
}

/// The first byte of a command as a client sends it, and as a leader proposes it.
pub(super) const AS_ASKED: u8 = 0;
const LET_IN: u8 = 1;

/// Whether a leader has let a command in before it proposed it.
pub(super) fn was_let_in(command: &[u8]) -> bool {
    command.first() == Some(&LET_IN)
}

/// Marks a command as one that a leader has let in.
pub(super) fn let_in(command: &[u8]) -> Bytes {
    [&[LET_IN], &command[1..]].concat().into()
}

/// What stands before the command of a client's operation: which one it is, and `padding` bytes
/// that mean nothing, so that some commands reach over several sectors of a disk, and segments
/// fill.
pub(super) fn command_head(operation: u64, padding: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_u8(AS_ASKED);
    bytes.put_u64_le(operation);
    bytes.put_u32_le(padding as u32);
    bytes.put_bytes(operation as u8, padding);
    bytes
}

/// Takes from a command what stands before it; returns which operation it belongs to.
pub(super) fn take_command_head(command: &mut Bytes) -> u64 {
    command.advance(1);
    let operation = command.get_u64_le();
    let padding = command.get_u32_le();
    command.advance(padding as usize);
    operation
}

/// The command of a client's operation, with `padding` bytes more than it needs.
pub(super) fn encode_command(operation: u64, key: &str, kind: &Kind, padding: usize) -> Bytes {
    let mut bytes = command_head(operation, padding);
    put_text(&mut bytes, key);
    match kind {
        Kind::Get => bytes.put_u8(0),
        Kind::Put { value } => {
            bytes.put_u8(1);
            put_text(&mut bytes, value);
        }
        Kind::Append { value } => {
            bytes.put_u8(2);
            put_text(&mut bytes, value);
        }
        Kind::Cas { expect, value } => {
            bytes.put_u8(3);
            put_text(&mut bytes, value);
            if let Some(expect) = expect {
                put_text(&mut bytes, expect);
            }
        }
        Kind::Delete => bytes.put_u8(4),
        Kind::Incr { by } => {
            bytes.put_u8(5);
            bytes.put_i64_le(*by);
        }
        Kind::Expire { value } => {
            bytes.put_u8(6);
            put_text(&mut bytes, value);
        }
    }
    bytes.into()
}

/// The query of a client's attempt to read: a key, or what a store of keys is asked.
pub(super) fn encode_query(id: QueryId, query: &[u8]) -> Bytes {
    let mut bytes = Vec::new();
    bytes.put_u64_le(id.client);
    bytes.put_u64_le(id.attempt);
    bytes.put_slice(query);
    bytes.into()
}

/// Takes from a query which one it is; what is asked is left.
pub(super) fn take_query_id(query: &mut Bytes) -> QueryId {
    QueryId { client: query.get_u64_le(), attempt: query.get_u64_le() }
}

/// How many commands the answer to a query reflects.
pub(super) fn decode_count(mut answer: &[u8]) -> u64 {
    answer.get_u64_le()
}

/// The answer to [`Kind::Get`]: how many commands it reflects, and the value, if there is one.
pub(super) fn decode_read(mut answer: Bytes) -> (u64, Option<String>) {
    let count = answer.get_u64_le();
    (count, (answer.get_u8() == 1).then(|| text(answer)))
}

/// The answer to [`Kind::Incr`].
pub(super) fn decode_sum(mut answer: Bytes) -> i64 {
    answer.get_i64_le()
}

fn decode_command(mut command: Bytes) -> (u64, String, Kind) {
    let operation = take_command_head(&mut command);
    let key = take_text(&mut command);
    let kind = match command.get_u8() {
        0 => Kind::Get,
        1 => Kind::Put { value: take_text(&mut command) },
        2 => Kind::Append { value: take_text(&mut command) },
        3 => Kind::Cas {
            value: take_text(&mut command),
            expect: (!command.is_empty()).then(|| take_text(&mut command)),
        },
        4 => Kind::Delete,
        6 => Kind::Expire { value: take_text(&mut command) },
        _ => Kind::Incr { by: command.get_i64_le() },
    };
    (operation, key, kind)
}

fn encode_value(value: Option<&String>) -> Bytes {
    let Some(value) = value else {
        return Bytes::from_static(b"\0");
    };
    let mut bytes = vec![1];
    bytes.put_slice(value.as_bytes());
    bytes.into()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_u32_le(u32::try_from(text.len()).expect("texts are short"));
    bytes.put_slice(text.as_bytes());
}

fn take_text(bytes: &mut Bytes) -> String {
    let length = bytes.get_u32_le() as usize;
    text(bytes.split_to(length))
}

fn text(bytes: Bytes) -> String {
    String::from_utf8(bytes.into()).expect("the simulation writes texts")
}
