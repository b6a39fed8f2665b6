//! `logboat backup`: all groups of a cluster are copied, a few at once.

use super::directory;
use super::group_file::{CopyError, Written, verify, write};
use super::manifest::{GroupCopy, Manifest, file_of};
use super::pages::{EndPage, ExportOrder, ExportPage, GroupRange, LayoutPage};
use super::tally::Tally;
use super::whole::at;
use super::{BAR, DEFAULT_PATIENCE_SECS, RETRY, now_ms, patiently};
use crate::admin_client::AdminClient;
use crate::admin_session::{AdminSession, CallError};
use crate::layout::Partition;
use crate::output::{Failure, print};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How often a part of a copy is asked for before the copy is begun anew.
const PART_ATTEMPTS: usize = 5;

/// How often a group is tried that is begun and never ends.
const GROUP_ATTEMPTS: usize = 100;

/// How many groups are copied at once: one is written while another is synced.
const AT_ONCE: usize = 4;

/// How many of the groups are named that are missing.
const NAMED: usize = 16;

/// A copy of all keys of a cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackupOptions {
    #[command(flatten)]
    client: AdminClient,
    /// The directory to write, which is new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// An earlier backup of the same cluster. Groups that have not changed since are not copied
    /// again: their files are shared by both, or copied from there.
    #[arg(long, value_name = "DIR")]
    since: Option<PathBuf>,
    /// Copy no more than so many MiB a second, all groups together.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..))]
    mib_per_s: Option<u64>,
    /// How many seconds to try again where nothing gets on.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_PATIENCE_SECS)]
    patience: u64,
    /// Print JSON. Fields are only ever added.
    #[arg(long)]
    json: bool,
}

/// Carries out `logboat backup`.
pub(crate) fn run(options: BackupOptions) -> Result<(), Failure> {
    let BackupOptions { client, out, since, mib_per_s, patience, json } = options;
    let patience = Duration::from_secs(patience);
    let session = client.session()?;
    let layout: LayoutPage = patiently(patience, || session.get("/layout"))?;
    let earlier = since.map(|since| Earlier::read(since, &layout)).transpose()?;
    directory::make(&out)?;
    let bar = ProgressBar::new(layout.groups.len() as u64)
        .with_style(ProgressStyle::with_template(BAR)?)
        .with_message("copied");
    let saving = Saving {
        session: &session,
        directory: &out,
        partition: layout.partition.parse()?,
        pace: Pace::new(mib_per_s),
        earlier,
        got_on: Mutex::new(Instant::now()),
    };
    let began_at_ms = now_ms();
    let (groups, reused) = saving.groups(&layout.groups, patience, &bar)?;
    let mut total = Tally::default();
    groups.iter().for_each(|copy| total += &copy.tally);
    let manifest = Manifest {
        cluster_id: layout.cluster_id,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        partition: layout.partition,
        began_at_ms,
        ended_at_ms: now_ms(),
        total,
        groups,
    };
    manifest.write(&out)?;
    bar.finish();
    report(&manifest, &out, reused, json)
}

fn report(manifest: &Manifest, out: &Path, reused: usize, json: bool) -> Result<(), Failure> {
    let (groups, bytes) = (manifest.groups.len(), manifest.bytes());
    let Tally { keys, expiring, digest, .. } = &manifest.total;
    if json {
        let page = json!({
            "directory": out,
            "cluster_id": manifest.cluster_id,
            "began_at_ms": manifest.began_at_ms,
            "ended_at_ms": manifest.ended_at_ms,
            "groups": groups,
            "unchanged_groups": reused,
            "keys": keys,
            "expiring": expiring,
            "bytes": bytes,
            "digest": digest,
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&page)?));
    }
    let unchanged = match reused {
        0 => String::new(),
        reused => format!(", {reused} of them unchanged"),
    };
    print(&format!(
        "{}: {groups} groups{unchanged}, {keys} keys, {bytes} bytes\ndigest {digest}\n",
        out.display()
    ))
}

/// An earlier backup of the same cluster.
struct Earlier {
    directory: PathBuf,
    groups: BTreeMap<u64, GroupCopy>,
}

impl Earlier {
    fn read(directory: PathBuf, layout: &LayoutPage) -> Result<Self, Failure> {
        let manifest = Manifest::read(&directory)?;
        // Only in the same cluster does the same entry mean the same state.
        let (theirs, ours) = (&manifest.cluster_id, &layout.cluster_id);
        if theirs != ours || ours.is_empty() {
            let reason = match ours.is_empty() {
                true => {
                    "is of no use, since this cluster has no id by which it is known".to_owned()
                }
                false => format!("is a backup of another cluster, {theirs:?}, and this is {ours}"),
            };
            return Err(at(&directory, &reason));
        }
        let groups = manifest.groups.into_iter().map(|copy| (copy.group, copy)).collect();
        Ok(Self { directory, groups })
    }

    /// The copy of a group there, if it is sound.
    fn sound(&self, group: &GroupRange, partition: Partition) -> Option<&GroupCopy> {
        let copy = self.groups.get(&group.id).filter(|copy| copy.start == group.start)?;
        match verify(&self.directory, copy, partition) {
            Ok(()) => Some(copy),
            Err(error) => {
                tracing::warn!("{error}: the group is copied again");
                None
            }
        }
    }

    /// Has the file of a copy belong to another backup as well.
    fn share(&self, copy: &GroupCopy, to: &Path) -> Result<(), Failure> {
        let (from, to) = (self.directory.join(copy.file()), to.join(copy.file()));
        if fs::hard_link(&from, &to).is_ok() {
            return Ok(());
        }
        // Another file system, or one without links.
        let copied = fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all());
        copied.map_err(|error| at(&to, &error))
    }
}

/// A backup that is written.
struct Saving<'a> {
    session: &'a AdminSession,
    directory: &'a Path,
    partition: Partition,
    pace: Pace,
    earlier: Option<Earlier>,
    /// When something came last.
    got_on: Mutex<Instant>,
}

impl Saving<'_> {
    /// Copies all groups, some at once. Those that can't be copied come again when the others have
    /// had their turn, until nothing has got on for too long. Returns how many were copied before.
    fn groups(
        &self,
        groups: &[GroupRange],
        patience: Duration,
        bar: &ProgressBar,
    ) -> Result<(Vec<GroupCopy>, usize), Failure> {
        let waiting = groups.iter().map(|group| (group, 0)).collect();
        let work = Mutex::new(Work { waiting, copies: BTreeMap::new(), reused: 0, failure: None });
        // Who fails at a group takes it up again, so nobody has to wait for work.
        let copy = || {
            loop {
                let next = work.lock().next();
                let Some((group, attempt)) = next else { break };
                let copied = self.group(group, attempt);
                let mut work = work.lock();
                match copied {
                    Ok((copy, is_reused)) => {
                        work.reused += usize::from(is_reused);
                        work.copies.insert(group.id, copy);
                        *self.got_on.lock() = Instant::now();
                        bar.inc(1);
                    }
                    Err(CopyError::Ends(error)) => work.fails(error),
                    Err(CopyError::Again(reason)) => {
                        work.waiting.push_back((group, attempt + 1));
                        let is_late = self.got_on.lock().elapsed() >= patience;
                        if is_late || attempt + 1 == GROUP_ATTEMPTS {
                            let error = not_whole(groups, &work.copies, group.id, &reason);
                            work.fails(error);
                        }
                        drop(work);
                        sleep(RETRY);
                    }
                }
            }
        };
        thread::scope(|scope| {
            (0..AT_ONCE).for_each(|_| drop(scope.spawn(copy)));
        });
        let Work { mut copies, reused, failure, .. } = work.into_inner();
        match failure {
            Some(error) => Err(error),
            None => {
                let in_order = groups.iter().filter_map(|group| copies.remove(&group.id));
                Ok((in_order.collect(), reused))
            }
        }
    }

    /// Copies a group, unless it has not changed since the earlier backup.
    fn group(&self, group: &GroupRange, attempt: usize) -> Result<(GroupCopy, bool), CopyError> {
        let known = self.earlier.as_ref().and_then(|it| it.sound(group, self.partition));
        let order = ExportOrder { known: known.map(|copy| copy.last), attempt };
        let page: Result<ExportPage, _> =
            self.session.post(&format!("/groups/{}/export", group.id), &order);
        let ExportPage { node, last, export } = page.map_err(failed)?;
        let copied_at_ms = now_ms();
        let Some(export) = export else {
            let (Some(earlier), Some(copy)) = (&self.earlier, known) else {
                let reason = format!("node {node} says that group {} is known", group.id);
                return Err(CopyError::Again(reason));
            };
            earlier.share(copy, self.directory).map_err(CopyError::Ends)?;
            return Ok((GroupCopy { copied_at_ms, ..copy.clone() }, true));
        };
        let mut parts = Parts::new(self, (node, export));
        let written = write(self.directory, group.id, self.partition, &mut parts);
        let end = match parts.ended {
            Some(Ok(end)) => end,
            Some(Err(error)) => return Err(error),
            None => return Err(written.err().unwrap_or_else(|| without_end(node))),
        };
        let Written { file, bytes, checksum, tally, clock_ms } = written?;
        if (bytes, checksum) != (end.bytes, end.checksum) {
            return Err(CopyError::Again(format!(
                "{} bytes of node {node} have come as {bytes} others",
                end.bytes
            )));
        }
        file.finish().map_err(CopyError::Ends)?;
        let (group, start) = (group.id, group.start.clone());
        let copy = GroupCopy { group, start, last, copied_at_ms, clock_ms, bytes, checksum, tally };
        Ok((copy, false))
    }
}

fn without_end(node: u64) -> CopyError {
    CopyError::Again(format!("node {node} has sent more than a copy"))
}

/// What an error of the node means for the backup.
fn failed(error: CallError) -> CopyError {
    if error.is_about_the_node() {
        CopyError::Ends(error.into())
    } else {
        CopyError::Again(error.to_string())
    }
}

/// What is left to do of a backup, and what was done.
struct Work<'a> {
    /// Groups, with how often each was tried.
    waiting: VecDeque<(&'a GroupRange, usize)>,
    copies: BTreeMap<u64, GroupCopy>,
    reused: usize,
    failure: Option<Failure>,
}

impl<'a> Work<'a> {
    fn next(&mut self) -> Option<(&'a GroupRange, usize)> {
        if self.failure.is_some() { None } else { self.waiting.pop_front() }
    }

    /// What failed first is what is told.
    fn fails(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

/// What is said of a backup that has come to no end.
fn not_whole(
    groups: &[GroupRange],
    copies: &BTreeMap<u64, GroupCopy>,
    last: u64,
    reason: &str,
) -> Failure {
    let missing = groups.iter().map(|group| group.id).filter(|id| !copies.contains_key(id));
    let missing: Vec<_> = missing.collect();
    let named: Vec<_> = missing.iter().take(NAMED).map(ToString::to_string).collect();
    let (count, groups, named) = (missing.len(), groups.len(), named.join(", "));
    let others = if count > NAMED { ", and others" } else { "" };
    let file = file_of(last);
    format!(
        "the backup is not whole: {count} of {groups} groups are missing ({named}{others}); \
         {file}: {reason}"
    )
    .into()
}

/// The parts of a copy, as they are fetched.
struct Parts<'a> {
    saving: &'a Saving<'a>,
    /// The node that holds the copy ready, and its number there.
    copy: (u64, u64),
    /// The number of the next part.
    number: u64,
    part: Vec<u8>,
    /// How much of the part was read.
    read: usize,
    /// The end of the copy, or why there is none.
    ended: Option<Result<EndPage, CopyError>>,
}

impl<'a> Parts<'a> {
    fn new(saving: &'a Saving<'a>, copy: (u64, u64)) -> Self {
        Self { saving, copy, number: 0, part: Vec::new(), read: 0, ended: None }
    }

    /// Fetches the next part. The same may be asked for again, so an answer that was lost is not
    /// the end of the copy.
    fn fetch(&mut self) -> Result<(), CopyError> {
        let (node, export) = self.copy;
        let path = format!("/exports/{node}/{export}/{}", self.number);
        let mut attempt = 1;
        let answer = loop {
            match self.saving.session.post_bytes(&path, "text/plain", &[]) {
                Ok(answer) => break answer,
                Err(error) if error.is_transient() && attempt < PART_ATTEMPTS => {
                    attempt += 1;
                    sleep(RETRY);
                }
                Err(error) => return Err(failed(error)),
            }
        };
        *self.saving.got_on.lock() = Instant::now();
        if answer.is_json {
            self.ended = Some(Ok(answer.parsed().map_err(failed)?));
            return Ok(());
        }
        self.saving.pace.wait_for(answer.body.len());
        (self.part, self.read) = (answer.body, 0);
        self.number += 1;
        Ok(())
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.part.len() && self.ended.is_none() {
            if let Err(error) = self.fetch() {
                self.ended = Some(Err(error));
            }
        }
        if matches!(self.ended, Some(Err(_))) {
            return Err(io::Error::other("the copy has no end"));
        }
        let left = &self.part[self.read..];
        let read = left.len().min(buffer.len());
        buffer[..read].copy_from_slice(&left[..read]);
        self.read += read;
        Ok(read)
    }
}

/// Bounds how fast copies come, all together.
struct Pace {
    bytes_per_s: Option<u64>,
    /// When all that has come may have come.
    even: Mutex<Instant>,
}

impl Pace {
    fn new(mib_per_s: Option<u64>) -> Self {
        let bytes_per_s = mib_per_s.map(|mib| mib.saturating_mul(1 << 20));
        Self { bytes_per_s, even: Mutex::new(Instant::now()) }
    }

    /// Waits as long as so many bytes may take.
    fn wait_for(&self, bytes: usize) {
        let Some(bytes_per_s) = self.bytes_per_s else { return };
        let now = Instant::now();
        let mut even = self.even.lock();
        *even = now.max(*even) + Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64);
        let wait = even.saturating_duration_since(now);
        drop(even);
        sleep(wait);
    }
}
