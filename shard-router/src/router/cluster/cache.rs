//! The newest table that a node knew of, in its data directory: so it finds the others, and its
//! replicas, before it has heard of anybody.
//!
//! It is a cache. What counts is the table of the meta group, and each group's own log.

use crate::router::Inner;
use crate::table::Table;
use logboat::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

pub(super) const FILE: &str = "TABLE";

/// The least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// What is written: the checksum of what follows it, and this.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Cached {
    /// Where the node was told to find the others when it was started.
    given: BTreeMap<u64, String>,
    pub(super) table: Arc<Table>,
}

/// The addresses at which a node that was started before finds its peers: those of the table that
/// it knew last, or those that are `given`, which are newer where they are not what was given at
/// the start before. Nothing but what is given if it was never started.
///
/// # Errors
/// When what is stored can't be read, with the reason.
pub fn known_members(
    data_dir: &Path,
    given: &BTreeMap<NodeId, String>,
) -> Result<BTreeMap<NodeId, String>, String> {
    let stored = read(data_dir)?.unwrap_or_default();
    let mut members = given.clone();
    for (node, record) in stored.table.nodes() {
        let is_news = given.get(&node).is_some_and(|it| stored.given.get(&node.0) != Some(it));
        if !is_news && !record.card.peers.is_empty() {
            members.insert(node, record.card.peers.clone());
        }
    }
    for node in given.keys().filter(|node| stored.table.has_left(**node)) {
        members.remove(node);
    }
    Ok(members)
}

/// What is stored, if anything is. What is damaged counts as nothing: the others have it.
pub(super) fn read(data_dir: &Path) -> Result<Option<Cached>, String> {
    let path = data_dir.join(FILE);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|error| format!("{}: {error}", path.display()))?,
    };
    let cached = text.split_first_chunk().and_then(|(checksum, text)| {
        let is_sound = crc32fast::hash(text) == u32::from_le_bytes(*checksum);
        is_sound.then(|| serde_json::from_slice(text).ok()).flatten()
    });
    if cached.is_none() {
        let path = path.display();
        tracing::error!("{path} is damaged, or of another version: the node asks the others");
    }
    Ok(cached)
}

/// Writes each table that comes, for as long as the router runs.
pub(super) async fn keep(inner: Arc<Inner>, given: BTreeMap<NodeId, String>) {
    let mut tables = inner.feed.watch();
    let given: BTreeMap<_, _> = given.into_iter().map(|(node, at)| (node.0, at)).collect();
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        let cached = Cached { given: given.clone(), table };
        let path = inner.node.data_dir().to_owned();
        let written = tokio::task::spawn_blocking(move || write(&path, &cached)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!("the table of the cluster could not be written: {error}");
        }
        sleep(PAUSE).await;
        if tables.changed().await.is_err() {
            return;
        }
    }
}

fn write(data_dir: &Path, cached: &Cached) -> io::Result<()> {
    let text = serde_json::to_vec(cached)?;
    let mut content = crc32fast::hash(&text).to_le_bytes().to_vec();
    content.extend_from_slice(&text);
    replace(data_dir, FILE, &content)
}

/// Writes a file of the data directory. A crash leaves the former one or this one.
pub(super) fn replace(data_dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = data_dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, data_dir.join(name))?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_table_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let given = BTreeMap::from([(NodeId(1), "127.0.0.1:1".to_owned())]);
        write(dir.path(), &Cached::default()).unwrap();
        assert!(read(dir.path()).unwrap().is_some());
        let path = dir.path().join(FILE);
        let mut text = fs::read(&path).unwrap();
        for damage in 0..2 {
            match damage {
                0 => *text.last_mut().unwrap() ^= 1,
                _ => text.clear(),
            }
            fs::write(&path, &text).unwrap();
            assert!(read(dir.path()).unwrap().is_none());
            assert_eq!(known_members(dir.path(), &given).unwrap(), given);
        }
    }
}
