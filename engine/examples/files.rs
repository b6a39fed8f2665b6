//! A state machine over plain files: values in a file that only grows, their places in memory.
//!
//! `cargo run -p logboat --example files`

use logboat::{
    ApplyError, Bytes, CommandBatch, DiskStateMachine, GroupId, GroupSpec, Index, LogId, Node,
    NodeConfig, NodeId, OnDisk, SnapshotWriter, Term,
};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `key=more` appends to the value of a key. Each batch is a record of the file: the id of its last
/// entry, the values that it changed, a checksum. A crash leaves whole records, and perhaps a torn
/// one behind them, which the next start cuts off.
struct Files {
    path: PathBuf,
    file: Arc<File>,
    end: u64,
    /// Where the value of each key is, and how long it is.
    places: BTreeMap<String, (u64, usize)>,
    last: LogId,
}

impl Files {
    fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join("values");
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let (file, places) = (Arc::new(file), BTreeMap::new());
        Ok(Self { path, file, end: 0, places, last: LogId::default() })
    }

    fn value(&self, key: &str) -> io::Result<Vec<u8>> {
        let (offset, bytes) = self.places.get(key).copied().unwrap_or_default();
        let mut value = vec![0; bytes];
        self.file.read_exact_at(&mut value, offset)?;
        Ok(value)
    }

    /// Reads the next record, and notes where its values are. `None` at the end, or if it is torn.
    fn read_record(&mut self, reader: &mut impl Read) -> Option<()> {
        let mut header = [0; 24];
        reader.read_exact(&mut header).ok()?;
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte]));
        let (term, index, bytes) = (number(0), number(8), number(16));
        let mut body = Vec::new();
        reader.take(bytes + 4).read_to_end(&mut body).ok()?;
        let sum = body.split_off(body.len().checked_sub(4)?);
        if sum != checksum(&header, &body) {
            return None;
        }
        let mut at = self.end + header.len() as u64;
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            let (key, value) = std::str::from_utf8(line).ok()?.trim_end().split_once('=')?;
            self.places.insert(key.to_owned(), (at + key.len() as u64 + 1, value.len()));
            at += line.len() as u64;
        }
        self.end = at + 4;
        self.last = LogId::new(Term(term), Index(index));
        Some(())
    }

    /// Writes a record, and notes where its values are.
    fn write_record(&mut self, last: LogId, body: &[u8]) -> io::Result<()> {
        let numbers = [last.term.0, last.index.0, body.len() as u64].map(u64::to_le_bytes);
        let header = numbers.concat();
        let record = [&header, body, &checksum(&header, body)].concat();
        (&*self.file).write_all(&record)?;
        self.read_record(&mut &record[..])
            .ok_or_else(|| io::Error::other("a key with a line break"))
    }

    fn fill(&mut self, mut reader: impl Read) {
        (self.end, self.last) = (0, LogId::default());
        self.places.clear();
        while self.read_record(&mut reader).is_some() {}
    }
}

fn checksum(header: &[u8], body: &[u8]) -> [u8; 4] {
    let bytes = header.iter().chain(body);
    bytes.fold(1_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte))).to_le_bytes()
}

impl DiskStateMachine for Files {
    fn open(&mut self) -> io::Result<Option<LogId>> {
        self.fill(BufReader::new(File::open(&self.path)?));
        self.file.set_len(self.end)?;
        Ok(Some(self.last).filter(|last| *last != LogId::default()))
    }

    fn apply(&mut self, commands: &mut CommandBatch<'_>) -> Result<(), ApplyError> {
        let failed = |error: io::Error| ApplyError::Fail(error.to_string());
        let mut changed = BTreeMap::<String, Vec<u8>>::new();
        while let Some(command) = commands.take() {
            let text = String::from_utf8_lossy(&command.data).replace('\n', " ");
            let (key, more) = text.split_once('=').unwrap_or((&text, ""));
            let value = match changed.get(key) {
                Some(value) => value.clone(),
                None => self.value(key).map_err(failed)?,
            };
            let value = [value, more.as_bytes().to_vec()].concat();
            commands.answer(value.clone().into());
            changed.insert(key.to_owned(), value);
        }
        let lines =
            changed.iter().map(|(key, value)| [key.as_bytes(), b"=", value, b"\n"].concat());
        let body = lines.collect::<Vec<_>>().concat();
        self.write_record(commands.last(), &body).map_err(failed)
    }

    fn query(&self, key: Bytes) -> io::Result<Bytes> {
        self.value(&String::from_utf8_lossy(&key)).map(Bytes::from)
    }

    fn sync(&mut self) -> io::Result<Option<LogId>> {
        self.file.sync_data()?;
        Ok(Some(self.last))
    }

    /// What is in the file up to now stays there, so nothing is copied.
    fn snapshot(&self) -> io::Result<SnapshotWriter> {
        let (path, end) = (self.path.clone(), self.end);
        let file = File::open(path)?;
        Ok(Box::new(move |writer| io::copy(&mut file.take(end), writer).map(drop)))
    }

    fn restore(&mut self, reader: &mut dyn Read, last: LogId) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        io::copy(reader, &mut file)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        self.file = Arc::new(OpenOptions::new().read(true).append(true).open(&self.path)?);
        self.fill(BufReader::new(File::open(&self.path)?));
        if self.last != last {
            return Err(io::Error::other(format!("it stands at {}, not at {last}", self.last)));
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (log, values) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
    for start in 1..=3 {
        let node = Node::start(NodeConfig::new(NodeId(1), members.clone(), log.path())?)?;
        let group = node.create_group(GroupSpec {
            group: GroupId(1),
            replicas: vec![NodeId(1)],
            preferred: Some(NodeId(1)),
            machine: Box::new(OnDisk(Files::new(values.path())?)),
        })?;
        group.view().led().await;
        group.propose(format!("starts={start}").into()).await?;
        let value = group.read(Bytes::from_static(b"starts")).await?;
        println!("starts: {}", String::from_utf8_lossy(&value));
        // Nothing is applied twice, though the state was not made durable.
        assert_eq!(value, &b"123"[..start]);
        node.stop();
    }
    Ok(())
}

/// `cargo test` runs the example, too.
#[test]
fn each_command_is_applied_once() -> Result<(), Box<dyn std::error::Error>> {
    main()
}
