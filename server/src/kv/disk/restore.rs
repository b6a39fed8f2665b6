//! Taking over a snapshot, and writing one.

use super::layout::{
    Catalog, Listed, data_key, data_range, deadline_key, decode_entry, encode_entry, key_of,
};
use super::walk::as_slice;
use crate::kv::snapshot::{
    SnapshotReader, SnapshotWriter, write_database, write_end, write_entry, write_head,
};
use bytes::Bytes;
use logboat::LogId;
use logboat::state::{Namespace, Pair, StateBatch, StateEngine, StateError, StateScan, StateView};
use std::io;
use std::ops::Bound;
use std::thread;
use std::time::Duration;

/// All keys.
const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

/// So many deadlines are written together.
const DEADLINES_A_BATCH: usize = 1_000;

/// How long to wait before a batch that was refused is written again.
pub(super) const PATIENCE: Duration = Duration::from_millis(1);

/// Writes a batch, and waits for as long as the tables take no more. It is not for what may come at
/// any rate: commands wait before they are carried out.
pub(super) fn write_patiently(
    engine: &dyn StateEngine,
    batch: &StateBatch,
) -> Result<(), StateError> {
    patiently(|| engine.write(batch))
}

/// Tries again for as long as the tables take no more.
pub(super) fn patiently(write: impl Fn() -> Result<(), StateError>) -> Result<(), StateError> {
    loop {
        match write() {
            Err(StateError::Busy) => thread::sleep(PATIENCE),
            written => return written,
        }
    }
}

/// Writes the databases of a catalog, as they are in a view, later.
pub(super) fn capture(
    view: &dyn StateView,
    catalog: &Catalog,
) -> Result<SnapshotWriter, StateError> {
    let mut databases: Vec<(u8, u64, StateScan)> = Vec::new();
    for (number, Listed { namespace, count, .. }) in &catalog.databases {
        if *count > 0 {
            let (start, end) = data_range(ALL);
            let scan = view.scan(*namespace, (as_slice(&start), as_slice(&end)))?;
            databases.push((*number, *count, scan));
        }
    }
    let clock_ms = catalog.clock_ms;
    Ok(Box::new(move |writer| {
        write_head(writer, clock_ms)?;
        for (number, count, scan) in databases {
            write_database(writer, number.into(), count)?;
            let mut written = 0;
            for pair in scan {
                let (key, value) = pair.map_err(io::Error::other)?;
                let entry = decode_entry(value).map_err(io::Error::other)?;
                write_entry(writer, &key_of(&key), &entry)?;
                written += 1;
            }
            if written != count {
                let what = format!("database {number} has {written} keys where {count} are noted");
                return Err(io::Error::other(what));
            }
        }
        write_end(writer)
    }))
}

/// Fills fresh namespaces with what a snapshot holds. Nobody knows of them before they are noted.
pub(super) fn take_in(
    engine: &dyn StateEngine,
    reader: &mut dyn io::Read,
    last: LogId,
) -> io::Result<Catalog> {
    let mut snapshot = SnapshotReader::new(reader)?;
    let mut databases = Vec::new();
    while let Some(number) = snapshot.next_database()? {
        let namespace = engine.create().map_err(io::Error::other)?;
        let listed = fill(engine, &mut snapshot, namespace, last)?;
        let number = u8::try_from(number).map_err(io::Error::other)?;
        databases.push((number, listed));
    }
    let root = engine.create().map_err(io::Error::other)?;
    Ok(Catalog { root, clock_ms: snapshot.clock_ms(), databases })
}

fn fill(
    engine: &dyn StateEngine,
    snapshot: &mut SnapshotReader<'_>,
    namespace: Namespace,
    last: LogId,
) -> io::Result<Listed> {
    let (mut count, mut expiring) = (0, 0);
    let mut pairs = std::iter::from_fn(|| {
        let (key, entry) = match snapshot.next_entry().transpose()? {
            Ok(found) => found,
            Err(error) => return Some(Err(error)),
        };
        count += 1;
        expiring += u64::from(entry.expires());
        let pair: io::Result<Pair> = Ok((data_key(&key), encode_entry(&entry)));
        Some(pair)
    });
    engine.ingest(namespace, last, &mut pairs).map_err(io::Error::other)?;
    if expiring > 0 {
        write_deadlines(engine, namespace).map_err(io::Error::other)?;
    }
    Ok(Listed { namespace, count, expiring })
}

/// Writes the deadlines of all keys of a namespace by time. They come in another order than the
/// keys, and may be more than memory takes.
fn write_deadlines(engine: &dyn StateEngine, namespace: Namespace) -> Result<(), StateError> {
    let (start, end) = data_range(ALL);
    let scan = engine.view()?.scan(namespace, (as_slice(&start), as_slice(&end)))?;
    let mut batch = StateBatch::default();
    for pair in scan {
        let (key, value) = pair?;
        let entry = decode_entry(value)?;
        if entry.expires() {
            let key = deadline_key(entry.deadline_ms, &key_of(&key));
            batch.put(namespace, key, Bytes::new());
        }
        if batch.writes().len() >= DEADLINES_A_BATCH {
            write_patiently(engine, &std::mem::take(&mut batch))?;
        }
    }
    write_patiently(engine, &batch)
}
