//! The file of a group: it is written from what a node hands out, and checked before it is used.

use super::manifest::{GroupCopy, file_of};
use super::tally::{Checksum, Summed, Tally, tally};
use super::whole::{NewFile, at};
use crate::layout::Partition;
use crate::output::Failure;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

/// Why a group was not copied.
#[derive(Debug)]
pub(super) enum CopyError {
    /// It is of no use to go on: the directory takes no more, or the node refuses.
    Ends(Failure),
    /// It may be tried again.
    Again(String),
}

/// A file that was written and has no name yet.
pub(super) struct Written {
    pub(super) file: NewFile,
    pub(super) bytes: u64,
    pub(super) checksum: Checksum,
    pub(super) tally: Tally,
    pub(super) clock_ms: u64,
}

/// Writes the copy of a group, and reads it on its way.
pub(super) fn write(
    directory: &Path,
    group: u64,
    partition: Partition,
    copy: impl Read,
) -> Result<Written, CopyError> {
    let mut file = NewFile::create(directory, &file_of(group)).map_err(CopyError::Ends)?;
    let mut summed = Summed::new(Tee { from: copy, to: &mut file.file, fault: None });
    let read = tally(&mut summed, partition);
    let (bytes, checksum) = (summed.bytes, summed.checksum());
    if let Some(fault) = summed.into_inner().fault {
        return Err(CopyError::Ends(at(file.part(), &fault)));
    }
    let (tally, clock_ms) = read.map_err(|error| CopyError::Again(error.to_string()))?;
    Ok(Written { file, bytes, checksum, tally, clock_ms })
}

/// Reads what is written elsewhere on its way.
struct Tee<'a, R> {
    from: R,
    to: &'a mut BufWriter<File>,
    /// Why it can't be written.
    fault: Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if let Err(fault) = self.to.write_all(&buffer[..read]) {
            let kind = fault.kind();
            self.fault = Some(fault);
            return Err(kind.into());
        }
        Ok(read)
    }
}

/// Opens the file of a group.
pub(super) fn open(directory: &Path, copy: &GroupCopy) -> Result<Summed<File>, Failure> {
    let path = directory.join(copy.file());
    match File::open(&path) {
        Ok(file) => Ok(Summed::new(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(at(&path, &"is missing, though it belongs to the backup"))
        }
        Err(error) => Err(at(&path, &error)),
    }
}

/// Reads the file of a group to its end, and checks all that the manifest says of it.
pub(super) fn verify(
    directory: &Path,
    copy: &GroupCopy,
    partition: Partition,
) -> Result<(), Failure> {
    let path = directory.join(copy.file());
    let mut file = open(directory, copy)?;
    let read = tally(&mut file, partition);
    // What makes no sense is not read to its end.
    io::copy(&mut file, &mut io::sink()).map_err(|error| at(&path, &error))?;
    check_sum(&path, copy, &file)?;
    let (tally, clock_ms) = read.map_err(|error| at(&path, &error))?;
    if (&tally, clock_ms) != (&copy.tally, copy.clock_ms) {
        return Err(at(&path, &"does not hold the keys that the manifest says it holds"));
    }
    Ok(())
}

/// Checks a file that was read to its end.
pub(super) fn check_sum(path: &Path, copy: &GroupCopy, file: &Summed<File>) -> Result<(), Failure> {
    let (bytes, expected) = (file.bytes, copy.bytes);
    if bytes != expected {
        let reason = format!("is damaged: it has {bytes} bytes, and should have {expected}");
        return Err(at(path, &reason));
    }
    if file.checksum() != copy.checksum {
        return Err(at(path, &"is damaged: its checksum does not fit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Command, Store};
    use bytes::Bytes;
    use std::fs;

    fn copy_of_a_store() -> Vec<u8> {
        let mut store = Store::new();
        let pair = |i: u8| (Bytes::from(format!("key {i}")), Bytes::from(vec![i; 9]));
        let pairs = (0..12).map(pair).collect();
        store.apply(&Command::SetMany { pairs, only_if_missing: false }.encode());
        let mut copy = Vec::new();
        store.snapshot()(&mut copy).unwrap();
        copy
    }

    fn written(directory: &Path, copy: &[u8]) -> GroupCopy {
        let Written { file, bytes, checksum, tally, clock_ms } =
            write(directory, 7, Partition::Range, copy).unwrap_or_else(|error| panic!("{error:?}"));
        file.finish().unwrap();
        let (last, start) = ((1, 2), String::new());
        GroupCopy { group: 7, start, last, copied_at_ms: 0, clock_ms, bytes, checksum, tally }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, bytes) = (directory.path(), copy_of_a_store());
        let copy = written(directory, &bytes);
        assert_eq!((copy.tally.keys, copy.bytes), (12, bytes.len() as u64));
        verify(directory, &copy, Partition::Range).unwrap();
        let path = directory.join("group-7.kv");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let names: Vec<_> = fs::read_dir(directory).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");

        let refused = |bad: &[u8], what: &str| {
            fs::write(&path, bad).unwrap();
            let refusal = verify(directory, &copy, Partition::Range).unwrap_err().to_string();
            assert!(refusal.contains("group-7.kv") && refusal.contains("damaged"), "{refusal}");
            assert!(refusal.contains(what), "{refusal}");
        };
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            refused(&flipped, "checksum");
        }
        refused(&bytes[..bytes.len() - 1], "bytes");
        refused(&[&bytes[..], b"x"].concat(), "bytes");
        fs::remove_file(&path).unwrap();
        let refusal = verify(directory, &copy, Partition::Range).unwrap_err().to_string();
        assert!(refusal.contains("is missing"), "{refusal}");
    }

    #[test]
    fn a_full_disk_ends_the_backup_and_a_bad_copy_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let (directory, bytes) = (directory.path(), copy_of_a_store());
        std::os::unix::fs::symlink("/dev/full", directory.join("group-8.kv.part")).unwrap();
        // It is seen as soon as so much has come, whatever that means.
        let large = [&bytes[..16], &vec![0; 1 << 20]].concat();
        let ended = write(directory, 8, Partition::Range, &large[..]).err().unwrap();
        assert!(matches!(ended, CopyError::Ends(_)), "{ended:?}");
        let full = write(directory, 8, Partition::Range, &bytes[..]);
        let full = full.unwrap_or_else(|error| panic!("{error:?}")).file.finish();
        let full = full.unwrap_err().to_string();
        assert!(full.contains("group-8.kv.part") && full.contains("No space"), "{full}");
        let cut = write(directory, 9, Partition::Range, &bytes[..99]).err().unwrap();
        assert!(matches!(cut, CopyError::Again(_)), "{cut:?}");
        assert!(!directory.join("group-8.kv").exists() && !directory.join("group-9.kv").exists());
    }
}
