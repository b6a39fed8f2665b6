//! Where a node keeps keys and values: in memory or on disk. It is fixed when the data directory is
//! made, and noted there.

use crate::output::Failure;
use crate::tables::DIRECTORY as TABLES;
use clap::ValueEnum;
use logboat::transport::Identity;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The file that says it.
pub(crate) const STORE: &str = "STORE";

/// What stands before the word.
const HEAD: &str = "logboat store 1\n";

/// Where a node keeps keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In tables on disk, which may be larger than memory.
    Disk,
    /// In memory; log and snapshots bring them back.
    Memory,
}

impl StoreKind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Memory => "memory",
        }
    }

    /// What a data directory says. Nothing where there is none yet. Directories of builds before
    /// there was a choice have theirs in memory.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn stored(data_dir: &Path) -> Result<Option<Self>, Failure> {
        match Self::noted(data_dir)? {
            Some(Some(kind)) => Ok(Some(kind)),
            Some(None) => Ok(Some(Self::by_tables(data_dir))),
            None => Ok(Identity::stored(data_dir)?.map(|_| Self::Memory)),
        }
    }

    /// What the note says, if there is one: nothing if it is damaged.
    fn noted(data_dir: &Path) -> Result<Option<Option<Self>>, Failure> {
        let path = data_dir.join(STORE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let text = String::from_utf8_lossy(&text);
        let word = text.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix('\n'));
        Ok(Some(word.and_then(|word| Self::from_str(word, false).ok())))
    }

    /// What a directory was made with whose note is damaged: only one of the two has tables.
    fn by_tables(data_dir: &Path) -> Self {
        let kind = if data_dir.join(TABLES).is_dir() { Self::Disk } else { Self::Memory };
        tracing::warn!(
            "{} is damaged: by what else is there, it is --store {kind}",
            data_dir.join(STORE).display()
        );
        kind
    }

    /// What a node does that is started with this option, or without it.
    ///
    /// # Errors
    /// When its data directory has the other one.
    pub fn chosen(data_dir: &Path, asked: Option<Self>, default: Self) -> Result<Self, Failure> {
        match (Self::stored(data_dir)?, asked) {
            (Some(stored), Some(asked)) if stored != asked => Err(format!(
                "--store {asked}: the data directory {} was made with --store {stored}, and keeps \
                 it; to change it, have the node join its cluster again with an empty directory",
                data_dir.display()
            )
            .into()),
            (Some(stored), _) => Ok(stored),
            (None, asked) => Ok(asked.unwrap_or(default)),
        }
    }

    /// Notes it in a data directory that says nothing yet, which is made if need be. A note that
    /// is damaged is written anew: a node that joins again leaves the tables by which it is told.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn note(self, data_dir: &Path) -> Result<(), Failure> {
        let is_damaged = Self::noted(data_dir)? == Some(None);
        if !is_damaged && Self::stored(data_dir)?.is_some() {
            return Ok(());
        }
        let written = self.write(data_dir);
        written.map_err(|error| format!("{}: {error}", data_dir.join(STORE).display()).into())
    }

    fn write(self, data_dir: &Path) -> io::Result<()> {
        if !data_dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
            let parent = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        let spare = data_dir.join(format!("{STORE}.tmp"));
        let mut file = File::create(&spare)?;
        file.write_all(format!("{HEAD}{self}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&spare, data_dir.join(STORE))?;
        File::open(data_dir)?.sync_all()
    }
}

impl Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_what_it_was_made_with() {
        let parent = tempfile::tempdir().unwrap();
        for (kind, other) in
            [(StoreKind::Disk, StoreKind::Memory), (StoreKind::Memory, StoreKind::Disk)]
        {
            let path = parent.path().join(kind.word());
            let chosen = |asked| StoreKind::chosen(&path, asked, other);
            assert_eq!(chosen(None).unwrap(), other);
            assert_eq!(chosen(Some(kind)).unwrap(), kind);
            kind.note(&path).unwrap();
            other.note(&path).unwrap();
            assert_eq!((chosen(None).unwrap(), chosen(Some(kind)).unwrap()), (kind, kind));
            let refused = chosen(Some(other)).unwrap_err().to_string();
            assert!(refused.contains(&format!("made with --store {kind}")), "{refused}");
        }
        let path = parent.path().join("disk").join(STORE);
        let stored = || StoreKind::stored(&parent.path().join("disk")).unwrap();
        for text in ["", "logboat store 1\ntape\n", "logboat store 2\ndisk\n"] {
            fs::write(&path, text).unwrap();
            assert_eq!(stored(), Some(StoreKind::Memory), "there are no tables");
        }
        let tables = path.with_file_name(TABLES);
        fs::create_dir(&tables).unwrap();
        assert_eq!(stored(), Some(StoreKind::Disk));
        // The node that joins again in this directory keeps them on disk as well.
        stored().unwrap().note(&parent.path().join("disk")).unwrap();
        fs::remove_dir(&tables).unwrap();
        assert_eq!(stored(), Some(StoreKind::Disk));
    }
}
