//! What the standard library lacks for files that must survive a crash.

use logboat_raft::LogPosition;
use rustix::fs::{CWD, FlockOperation, RenameFlags, fdatasync, flock, renameat_with};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Who may use what a node keeps: its own user alone, since it holds the clients' data.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Options for a file that is made anew, for its own user alone, and written. An old one of the
/// name is emptied.
pub(crate) fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(PRIVATE_FILE);
    options
}

/// Makes a directory for its own user alone, and those above it, durably.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_directory(parent)?;
    match DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(parent),
    }
}

/// Makes what was created, renamed and removed in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Locks a file, which is made if need be, for as long as the returned one is open. It then holds
/// the number of this process. Returns what another process wrote that has locked it.
pub(crate) fn lock_file(path: &Path) -> io::Result<Result<File, String>> {
    let mut file = new_file().read(true).truncate(false).open(path)?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let error = io::Error::from(error);
        let in_use = error.kind() == ErrorKind::WouldBlock;
        return if in_use { Ok(Err(text)) } else { Err(error) };
    }
    // In the block that it has, since the disk may be full.
    let text = format!("{}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)?;
    Ok(Ok(file))
}

/// The lines of a small text file, each a field's name and its value.
pub(crate) struct TextFields<'a>(std::str::Lines<'a>);

impl<'a> TextFields<'a> {
    /// The fields of a text that begins with the line `version`.
    pub(crate) fn of(text: &'a str, version: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(version) {
            return Err("it is of another version".to_owned());
        }
        Ok(Self(lines))
    }

    /// The value of the next field, which must be called `name`.
    pub(crate) fn text(&mut self, name: &str) -> Result<&'a str, String> {
        let line = self.0.next().and_then(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix(' ')).ok_or_else(|| format!("it has no {name}"))
    }

    /// The value of the next field, a number.
    pub(crate) fn number(&mut self, name: &str, radix: u32) -> Result<u64, String> {
        number(self.text(name)?, radix)
    }
}

pub(crate) fn number(text: &str, radix: u32) -> Result<u64, String> {
    u64::from_str_radix(text, radix).map_err(|_| format!("{text} is no number"))
}

/// Why a small text file can't be used whose checksum fits: it is what was written, so it is not
/// damaged, and another build of Logboat has written it.
pub(crate) fn of_another_build(what: String) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, what)
}

/// A position of the log, as [`LogPosition`] is displayed.
pub(crate) fn log_position(text: &str) -> Result<LogPosition, String> {
    let parts = text.split_once(':').and_then(|(segment, offset)| {
        Some(LogPosition { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
    });
    parts.ok_or_else(|| format!("{text} is no position of a log"))
}

/// Replaces a small text file durably: the old text stands there until the new one does. A line
/// with a checksum follows the text, which must end with a line break.
///
/// That takes no room on the disk, which may be full: the new text is written over the one before
/// the last, whose file is kept for that, and the two files exchange their names.
pub(crate) fn write_checked(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let current = directory.join(name);
    let spare = spare_of(&current);
    let content = format!("{text}crc {:08x}\n", crc32fast::hash(text.as_bytes()));
    write_over(&spare, content.as_bytes())?;
    let exchanged = renameat_with(CWD, &spare, CWD, &current, RenameFlags::EXCHANGE);
    if exchanged.is_err() {
        // There is no current file yet, or the file system can't exchange names.
        fs::rename(&spare, &current)?;
        // It is missed on a full disk alone, and the next call makes it if this one could not.
        let _ = write_over(&spare, content.as_bytes());
    }
    sync_directory(directory)
}

/// Where the text before the last is, or the last one too if it is the first.
pub(crate) fn spare_of(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}

/// Writes a small file, in the blocks that it has already if it is there, and syncs it.
pub(crate) fn write_over(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = new_file().truncate(false).open(path)?;
    file.write_all_at(content, 0)?;
    file.set_len(content.len() as u64)?;
    fdatasync(&file)?;
    Ok(())
}

/// The text that [`write_checked`] wrote; nothing when there is no file.
pub(crate) fn read_checked(path: &Path) -> io::Result<Option<String>> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        content => content?,
    };
    let damaged = |what: &str| io::Error::new(ErrorKind::InvalidData, what);
    let mut text = String::from_utf8(content).map_err(|_| damaged("it is no text"))?;
    let body_bytes = text.rfind("crc ").ok_or_else(|| damaged("it has no checksum"))?;
    let crc = crc32fast::hash(&text.as_bytes()[..body_bytes]);
    if text[body_bytes..] != format!("crc {crc:08x}\n") {
        return Err(damaged("it fails its checksum"));
    }
    text.truncate(body_bytes);
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_text_is_replaced_in_two_files_that_take_turns() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("NAME");
        let mut inodes = Vec::new();
        for text in ["a longer text\n", "second\n", "the third\n", "4\n"] {
            write_checked(directory.path(), "NAME", text).unwrap();
            assert_eq!(read_checked(&path).unwrap().as_deref(), Some(text));
            inodes.push(fs::metadata(&path).unwrap().ino());
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        assert_ne!(inodes[0], inodes[1]);
        assert_eq!(inodes[..2], inodes[2..], "no file is made anew");
    }
}
