//! What belongs to a backup.
//!
//! `MANIFEST` has one line with the version of the form and the checksum (XXH3 of 128 bits) of all
//! that follows, which is JSON.

use super::tally::{Checksum, Tally};
use super::whole::{NewFile, at, sync_directory};
use crate::layout::Partition;
use crate::output::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// The name of the file.
pub(super) const MANIFEST: &str = "MANIFEST";

/// What a manifest begins with.
const HEAD: &str = "logboat backup ";

/// The version of the form, which is that of the files of groups as well.
const VERSION: &str = "1";

/// What belongs to a backup. Fields are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The id that was drawn for the cluster that it is of. Empty if it had none.
    pub(crate) cluster_id: String,
    /// The version of the program that wrote it.
    pub(crate) program: String,
    /// How keys are laid out in the groups' files.
    pub(crate) partition: String,
    /// When the first group was begun, in milliseconds since 1970.
    pub(crate) began_at_ms: u64,
    /// When the last one was done.
    pub(crate) ended_at_ms: u64,
    /// What all groups together hold.
    pub(crate) total: Tally,
    /// The groups in the order of their ranges.
    pub(crate) groups: Vec<GroupCopy>,
}

/// The copy of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupCopy {
    /// The group.
    pub(crate) group: u64,
    /// The first key of its range, in hexadecimal digits.
    pub(crate) start: String,
    /// The term and the index of the last entry that its state has.
    pub(crate) last: (u64, u64),
    /// When it was copied, in milliseconds since 1970.
    pub(crate) copied_at_ms: u64,
    /// The clock of the group, by which keys expire.
    pub(crate) clock_ms: u64,
    /// The length of its file.
    pub(crate) bytes: u64,
    /// The checksum of its file.
    pub(crate) checksum: Checksum,
    /// What it holds.
    pub(crate) tally: Tally,
}

impl GroupCopy {
    /// The name of its file.
    pub(crate) fn file(&self) -> String {
        file_of(self.group)
    }
}

/// The name of the file of a group.
pub(super) fn file_of(group: u64) -> String {
    format!("group-{group}.kv")
}

impl Manifest {
    /// Writes it, which makes the directory a backup. All other files have to be there, and are
    /// durable when this returns, as their contents have to be before.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Failure> {
        sync_directory(directory)?;
        let text = format!("{}\n", serde_json::to_string_pretty(self)?);
        let checksum = Checksum(xxh3_128(text.as_bytes()));
        let mut new = NewFile::create(directory, MANIFEST)?;
        let written = write!(new.file, "{HEAD}{VERSION} {checksum}\n{text}");
        written.map_err(|error| at(new.part(), &error))?;
        new.finish()?;
        sync_directory(directory)
    }

    /// Reads what belongs to a backup.
    pub(crate) fn read(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let reason = "is not there: this is no backup, or one that was not finished";
                return Err(at(&path, &reason));
            }
            Err(error) => return Err(at(&path, &error)),
        };
        Self::decode(&bytes).map_err(|reason| at(&path, &reason))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is damaged: it is no text")?;
        let (head, json) = text.split_once('\n').unwrap_or_default();
        let words = head.strip_prefix(HEAD).and_then(|words| words.split_once(' '));
        let (version, checksum) = words.ok_or("it is damaged, or no manifest of a backup")?;
        if version != VERSION {
            return Err(format!(
                "it is of another version: its form is {version:?}, and this program reads \
                 {VERSION:?}"
            ));
        }
        let is_right = |it: Checksum| it == Checksum(xxh3_128(json.as_bytes()));
        if !Checksum::try_from(checksum.to_owned()).is_ok_and(is_right) {
            return Err("it is damaged: its checksum does not fit".to_owned());
        }
        let manifest: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks what a checksum does not show.
    fn check(&self) -> Result<(), String> {
        self.partition()?;
        let starts = self.groups.iter().map(|copy| &copy.start);
        let has_all = self.groups.first().is_some_and(|first| first.start.is_empty());
        let ids: BTreeSet<_> = self.groups.iter().map(|copy| copy.group).collect();
        if !has_all || !starts.is_sorted_by(|one, next| one < next) || ids.len() < self.groups.len()
        {
            return Err("its groups do not cover all keys, each once".to_owned());
        }
        let mut total = Tally::default();
        self.groups.iter().for_each(|copy| total += &copy.tally);
        if total != self.total {
            return Err("its groups do not hold what it says of all of them".to_owned());
        }
        Ok(())
    }

    /// How keys are laid out in the groups' files.
    pub(crate) fn partition(&self) -> Result<Partition, String> {
        self.partition.parse().map_err(|error| format!("{error}"))
    }

    /// The bytes of all files of groups.
    pub(crate) fn bytes(&self) -> u64 {
        self.groups.iter().map(|copy| copy.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(group: u64, start: &str) -> GroupCopy {
        let tally = Tally { keys: group, ..Tally::default() };
        GroupCopy {
            group,
            start: start.to_owned(),
            last: (2, 9),
            copied_at_ms: 5,
            clock_ms: 4,
            bytes: 3,
            checksum: Checksum(7),
            tally,
        }
    }

    fn sample() -> Manifest {
        let groups = vec![copy(4, ""), copy(2, "40"), copy(3, "8000")];
        let mut total = Tally::default();
        groups.iter().for_each(|copy| total += &copy.tally);
        Manifest {
            cluster_id: "c1".to_owned(),
            program: "0.1.0".to_owned(),
            partition: "slots".to_owned(),
            began_at_ms: 1,
            ended_at_ms: 9,
            total,
            groups,
        }
    }

    /// What is said of a directory with this manifest.
    fn refusal(bytes: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(MANIFEST), bytes).unwrap();
        Manifest::read(directory.path()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written_and_no_other_way() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Manifest::read(directory.path()).unwrap_err().to_string();
        assert!(missing.contains("not finished") && missing.contains(MANIFEST), "{missing}");
        sample().write(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), sample());
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");

        let bytes = fs::read(directory.path().join(MANIFEST)).unwrap();
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            assert!(refusal(&flipped).contains(MANIFEST), "byte {place}");
        }
        for end in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            assert!(refusal(&bytes[..end]).contains("damaged"), "cut at {end}");
        }
        let text = String::from_utf8(bytes).unwrap();
        let later = text.replacen("backup 1", "backup 2", 1);
        assert!(refusal(later.as_bytes()).contains("another version"));
    }

    #[test]
    fn groups_that_leave_keys_out_are_no_backup() {
        let without = |number: usize| {
            let mut manifest = sample();
            let removed = manifest.groups.remove(number);
            manifest.total.keys -= removed.tally.keys;
            manifest
        };
        let mut twice = sample();
        twice.groups[1].group = 3;
        let mut fewer = sample();
        fewer.total.keys -= 1;
        let mut unknown = sample();
        unknown.partition = "stars".to_owned();
        for bad in [without(0), twice, fewer, unknown] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        sample().check().unwrap();
    }
}
