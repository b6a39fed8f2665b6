//! `logboat restore`: the keys of a backup are put into a cluster, of any number of nodes and with
//! any layout.
//!
//! All files are checked before the first key is written. Each key is set through the cluster's own
//! log, as a client would set it, so what is restored is replicated and durable as all else, and
//! keys find their groups whatever the groups of the backup were. The same keys may be set twice:
//! so a restore that was broken off goes on from its beginning.

use super::group_file::{check_sum, open, verify};
use super::manifest::{GroupCopy, Manifest};
use super::pages::{ImportPage, KeyspacePage, LayoutPage};
use super::tally::{Tally, read_copy};
use super::{BAR, DEFAULT_PATIENCE_SECS, patiently};
use crate::admin_client::AdminClient;
use crate::admin_session::AdminSession;
use crate::kv::{Entry, write_database, write_end, write_entry, write_head};
use crate::output::{Failure, print};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Keys are sent together up to so many bytes, and so many keys: each costs its node some memory.
/// A longer key is sent alone.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_KEYS: u64 = 4_096;

/// How many files are sent at once, so that one batch is on its way while another is synced.
const AT_ONCE: usize = 4;

/// A backup, and the cluster that gets its keys.
#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreOptions {
    #[command(flatten)]
    client: AdminClient,
    /// The directory of the backup.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Go on with a restore of this backup into this cluster that was broken off.
    #[arg(long)]
    resume: bool,
    /// How many seconds to try again where nothing gets on.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_PATIENCE_SECS)]
    patience: u64,
    /// Print JSON. Fields are only ever added.
    #[arg(long)]
    json: bool,
}

/// Carries out `logboat restore`.
pub(crate) fn run(options: RestoreOptions) -> Result<(), Failure> {
    let RestoreOptions { client, from, resume, patience, json } = options;
    let patience = Duration::from_secs(patience);
    let manifest = Manifest::read(&from)?;
    let session = client.session()?;
    let layout: LayoutPage = patiently(patience, || session.get("/layout"))?;
    let restoring =
        Restoring { session: &session, directory: &from, manifest: &manifest, patience };
    restoring.check_target(resume)?;
    restoring.check_files()?;
    restoring.send()?;
    let there = restoring.check_outcome()?;
    let expired = manifest.total.keys.saturating_sub(there.keys);
    if json {
        let page = json!({
            "directory": from,
            "from_cluster_id": manifest.cluster_id,
            "cluster_id": layout.cluster_id,
            "groups": manifest.groups.len(),
            "keys": there.keys,
            "expiring": there.expiring,
            "expired": expired,
            "digest": manifest.total.digest,
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&page)?));
    }
    let expired = match expired {
        0 => String::new(),
        expired => format!(", {expired} others have expired since they were copied"),
    };
    print(&format!("{} keys are in cluster {}{expired}\n", there.keys, layout.cluster_id))
}

/// A restore.
struct Restoring<'a> {
    session: &'a AdminSession,
    directory: &'a Path,
    manifest: &'a Manifest,
    patience: Duration,
}

impl Restoring<'_> {
    fn keyspace(&self) -> Result<KeyspacePage, Failure> {
        Ok(patiently(self.patience, || self.session.get("/keyspace"))?)
    }

    /// Makes sure that the keys of the backup get into the way of no others.
    fn check_target(&self, resume: bool) -> Result<(), Failure> {
        let keys = self.keyspace()?.keys;
        if keys == 0 || resume {
            return Ok(());
        }
        Err(format!(
            "the cluster holds {keys} keys, and a backup is restored into an empty one: restore \
             into another cluster, or delete these keys; a restore of this backup that was broken \
             off goes on with --resume"
        )
        .into())
    }

    fn bar(&self, message: &'static str) -> Result<ProgressBar, Failure> {
        let bar = ProgressBar::new(self.manifest.groups.len() as u64);
        Ok(bar.with_style(ProgressStyle::with_template(BAR)?).with_message(message))
    }

    /// Checks all files before the first key is written.
    fn check_files(&self) -> Result<(), Failure> {
        let (partition, bar) = (self.manifest.partition()?, self.bar("checked")?);
        for copy in &self.manifest.groups {
            verify(self.directory, copy, partition)?;
            bar.inc(1);
        }
        bar.finish();
        Ok(())
    }

    /// Sends all keys, of some groups at once. The first that fails ends it.
    fn send(&self) -> Result<(), Failure> {
        let bar = self.bar("restored")?;
        let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure = Mutex::new(None);
        let work = || {
            while !has_failed.load(Ordering::Relaxed)
                && let Some(copy) = self.manifest.groups.get(next.fetch_add(1, Ordering::Relaxed))
            {
                match self.send_group(copy, &has_failed) {
                    Ok(()) => bar.inc(1),
                    Err(error) => {
                        has_failed.store(true, Ordering::Relaxed);
                        failure.lock().get_or_insert(error);
                    }
                }
            }
        };
        thread::scope(|scope| {
            (0..AT_ONCE).for_each(|_| drop(scope.spawn(work)));
        });
        match failure.into_inner() {
            Some(error) => Err(format!(
                "{error}; what was restored so far is there: go on with \
                --resume, or delete it"
            )
            .into()),
            None => {
                bar.finish();
                Ok(())
            }
        }
    }

    /// Sends the keys of a group, unless it is of no use any more.
    fn send_group(&self, copy: &GroupCopy, is_over: &AtomicBool) -> Result<(), Failure> {
        let path = self.directory.join(copy.file());
        let at = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut file = open(self.directory, copy)?;
        let mut batch = Batch::default();
        let read = read_copy(&mut file, |database, key, entry| {
            if is_over.load(Ordering::Relaxed) {
                return Err(io::Error::other("another group has failed"));
            }
            if !batch.takes(database, key, &entry) {
                self.send_batch(std::mem::take(&mut batch))?;
            }
            batch.add(database, key, &entry)
        });
        read.map_err(|error| at(&error))?;
        self.send_batch(batch).map_err(|error| at(&error))?;
        // It was read a second time.
        check_sum(&path, copy, &file)
    }

    fn send_batch(&self, batch: Batch) -> io::Result<()> {
        if batch.keys == 0 {
            return Ok(());
        }
        let expected = batch.keys;
        let path = format!("/import/{}", self.manifest.partition);
        let body = batch.into_body()?;
        let taken = patiently(self.patience, || {
            let kind = "application/octet-stream";
            self.session.post_bytes(&path, kind, &body)?.parsed::<ImportPage>()
        });
        let taken = taken.map_err(io::Error::other)?.keys;
        if taken != expected {
            let reason = format!("the node has taken {taken} of {expected} keys");
            return Err(io::Error::other(reason));
        }
        Ok(())
    }

    /// Makes sure that the cluster holds what the backup holds, but for what has expired since.
    fn check_outcome(&self) -> Result<KeyspacePage, Failure> {
        let there = self.keyspace()?;
        let Tally { keys, expiring, .. } = self.manifest.total;
        let endless = there.keys.saturating_sub(there.expiring);
        if endless == keys.saturating_sub(expiring) && there.expiring <= expiring {
            return Ok(there);
        }
        Err(format!(
            "the cluster holds {endless} keys that don't expire and {} that do, and the backup \
             has {} and {expiring}: others have written or deleted keys meanwhile, or it was not \
             empty",
            there.expiring,
            keys.saturating_sub(expiring)
        )
        .into())
    }
}

/// Keys of one database that are sent together.
#[derive(Default)]
struct Batch {
    database: u8,
    keys: u64,
    entries: Vec<u8>,
}

impl Batch {
    /// Whether there is room for a key.
    fn takes(&self, database: u8, key: &[u8], entry: &Entry) -> bool {
        let bytes = self.entries.len() + key.len() + entry.value.len();
        self.keys == 0
            || (self.database == database && self.keys < BATCH_KEYS && bytes <= BATCH_BYTES)
    }

    fn add(&mut self, database: u8, key: &[u8], entry: &Entry) -> io::Result<()> {
        self.database = database;
        self.keys += 1;
        write_entry(&mut self.entries, key, entry)
    }

    /// The keys as a copy of a group that has no others.
    fn into_body(self) -> io::Result<Vec<u8>> {
        let mut body = Vec::with_capacity(self.entries.len() + 64);
        // What had expired is not among them.
        write_head(&mut body, 0)?;
        write_database(&mut body, usize::from(self.database), self.keys)?;
        body.extend(self.entries);
        write_end(&mut body)?;
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(bytes: usize, deadline_ms: u64) -> Entry {
        Entry { value: Bytes::from(vec![1; bytes]), deadline_ms }
    }

    #[test]
    fn batches_are_bounded_by_bytes_keys_and_database() {
        let small = entry(10, 77);
        let mut batch = Batch::default();
        assert!(batch.takes(3, b"k", &entry(8 << 20, 0)), "alone, any may be sent");
        batch.add(3, b"k", &small).unwrap();
        assert!(batch.takes(3, b"l", &small) && !batch.takes(4, b"l", &small));
        assert!(!batch.takes(3, b"l", &entry(BATCH_BYTES, 0)));
        batch.keys = BATCH_KEYS;
        assert!(!batch.takes(3, b"l", &small));
    }

    #[test]
    fn a_batch_is_read_as_it_was_filled() {
        let mut batch = Batch::default();
        let endless = entry(2, u64::MAX);
        for (key, entry) in [(b"k", &entry(10, 77)), (b"l", &endless)] {
            batch.add(3, key, entry).unwrap();
        }
        let body = batch.into_body().unwrap();
        let mut found = Vec::new();
        let read = read_copy(&mut &body[..], |database, key, entry| {
            found.push((database, key.to_vec(), entry));
            Ok(())
        });
        assert_eq!(read.unwrap(), 0);
        assert_eq!(found, [(3, b"k".to_vec(), entry(10, 77)), (3, b"l".to_vec(), endless)]);
    }
}
