//! What a data directory says of the starts of its node: the file `BOOT`.
//!
//! It stands outside of the log, so that a log which was deleted, or replaced by an older copy, is
//! noticed. It is written when the directory is made, when the node is founded, at each start
//! before any peer hears of the node, and after each stop.

use crate::files::{TextFields, log_position, of_another_build, read_checked, write_checked};
use logboat_raft::{BootCount, BootNonce, LogPosition, Start};
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) const BOOT: &str = "BOOT";

/// What a data directory says of the newest start of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootRecord {
    /// How often the node has started. Zero when the directory was just made.
    pub count: BootCount,
    /// What was drawn at the start.
    pub nonce: BootNonce,
    /// Whether the node may promise anything: its peers have recorded its incarnation.
    pub founded: bool,
    /// A position up to which the log was durable: at the start, or when the node had stopped.
    pub log_end: LogPosition,
    /// Whether the node has stopped in good order since the start.
    pub closed: bool,
}

impl BootRecord {
    /// What a directory says, without locking it. None if it says nothing.
    ///
    /// # Errors
    /// When the file can't be read or is damaged.
    pub fn stored(directory: &Path) -> io::Result<Option<Self>> {
        Ok(BootFile::open(directory)?.map(|file| file.record()))
    }

    /// The newest start.
    #[must_use]
    pub const fn start(&self) -> Start {
        Start { count: self.count, nonce: self.nonce }
    }

    /// The record of the next start, whose log is durable up to `log_end`.
    #[must_use]
    pub const fn next(self, nonce: BootNonce, log_end: LogPosition) -> Self {
        Self { count: BootCount(self.count.0 + 1), nonce, log_end, closed: false, ..self }
    }

    fn text(&self) -> String {
        let yes = |is| if is { "yes" } else { "no" };
        let Self { count, nonce, founded, log_end, closed } = *self;
        let (founded, closed) = (yes(founded), yes(closed));
        format!(
            "logboat boot 1\ncount {count}\nnonce {nonce}\nfounded {founded}\n\
             log-end {log_end}\nclosed {closed}\n"
        )
    }

    fn parse(text: &str) -> Result<Self, String> {
        let yes = |text| match text {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(format!("{text} is neither yes nor no")),
        };
        let mut fields = TextFields::of(text, "logboat boot 1")?;
        Ok(Self {
            count: BootCount(fields.number("count", 10)?),
            nonce: BootNonce(fields.number("nonce", 16)?),
            founded: yes(fields.text("founded")?)?,
            log_end: log_position(fields.text("log-end")?)?,
            closed: yes(fields.text("closed")?)?,
        })
    }
}

/// The file `BOOT` of a directory. Methods may be called from any thread; each change is durable
/// when the method returns.
#[derive(Debug)]
pub struct BootFile {
    directory: PathBuf,
    record: Mutex<BootRecord>,
}

impl BootFile {
    /// Makes the file of a new directory.
    pub(crate) fn create(directory: &Path) -> io::Result<()> {
        write_checked(directory, BOOT, &BootRecord::default().text())
    }

    /// Reads the file, if there is one.
    pub(crate) fn open(directory: &Path) -> io::Result<Option<Self>> {
        let Some(text) = read_checked(&directory.join(BOOT))? else {
            return Ok(None);
        };
        let record = BootRecord::parse(&text);
        let record = record.map_err(of_another_build)?;
        Ok(Some(Self { directory: directory.to_owned(), record: Mutex::new(record) }))
    }

    /// What the file says.
    #[must_use]
    pub fn record(&self) -> BootRecord {
        *self.record.lock()
    }

    /// Notes that the node starts, with a log that is durable up to `log_end`.
    ///
    /// # Errors
    /// When the file can't be written; it says what it said before then.
    pub fn begin(&self, nonce: BootNonce, log_end: LogPosition) -> io::Result<()> {
        self.change(|record| *record = record.next(nonce, log_end))
    }

    /// Notes that the node is founded.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn found(&self) -> io::Result<()> {
        self.change(|record| record.founded = true)
    }

    /// Notes that the node has stopped, with a log that ends at `log_end`.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn close(&self, log_end: LogPosition) -> io::Result<()> {
        self.change(|record| (record.log_end, record.closed) = (log_end, true))
    }

    fn change(&self, change: impl FnOnce(&mut BootRecord)) -> io::Result<()> {
        let mut record = self.record.lock();
        let mut changed = *record;
        change(&mut changed);
        write_checked(&self.directory, BOOT, &changed.text())?;
        *record = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const END: LogPosition = LogPosition { segment: 12, offset: 4096 };

    #[test]
    fn starts_are_counted_and_the_file_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        assert!(BootFile::open(directory.path()).unwrap().is_none());
        BootFile::create(directory.path()).unwrap();
        let open = || BootFile::open(directory.path()).unwrap().unwrap();
        assert_eq!(open().record(), BootRecord::default());
        open().begin(BootNonce(0xabc), END).unwrap();
        let mut expected = BootRecord {
            count: BootCount(1),
            nonce: BootNonce(0xabc),
            log_end: END,
            ..BootRecord::default()
        };
        assert_eq!(open().record(), expected);
        open().found().unwrap();
        expected.founded = true;
        assert_eq!(open().record(), expected);
        let later = LogPosition { segment: 13, offset: 8 };
        open().close(later).unwrap();
        (expected.log_end, expected.closed) = (later, true);
        assert_eq!(open().record(), expected);
        open().begin(BootNonce(0xdef), later).unwrap();
        expected = expected.next(BootNonce(0xdef), later);
        assert_eq!((expected.count, expected.founded), (BootCount(2), true));
        assert_eq!(open().record(), expected);
    }

    #[test]
    fn any_flipped_byte_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        BootFile::create(directory.path()).unwrap();
        let path = directory.path().join(BOOT);
        let content = fs::read(&path).unwrap();
        for at in 0..content.len() {
            let mut damaged = content.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert!(BootFile::open(directory.path()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn what_could_not_be_written_is_not_said() {
        let directory = tempfile::tempdir().unwrap();
        BootFile::create(directory.path()).unwrap();
        let file = BootFile::open(directory.path()).unwrap().unwrap();
        fs::remove_dir_all(directory.path()).unwrap();
        assert!(file.found().is_err());
        assert!(!file.record().founded);
    }
}
