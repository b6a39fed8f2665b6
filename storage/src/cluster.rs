//! Which cluster a data directory belongs to: the file `CLUSTER`.
//!
//! It holds the id that was drawn when the cluster was made. A node that makes a cluster hears of
//! it later than its directory is made, so it does not stand in `IDENTITY`. It is written once, and
//! stays when the directory becomes another node's of the same cluster. Its spare says the same,
//! and is taken where the file is damaged. If both are, the directory knows no id, as before it
//! heard of one. The peers tell it again then: they know the node by its incarnation.

use crate::files::{TextFields, of_another_build, read_checked, spare_of, write_checked};
use logboat_raft::ClusterId;
use parking_lot::Mutex;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

pub(crate) const CLUSTER: &str = "CLUSTER";

/// The file `CLUSTER` of a directory. Methods may be called from any thread.
#[derive(Debug)]
pub struct ClusterFile {
    directory: PathBuf,
    id: Mutex<Option<ClusterId>>,
}

impl ClusterFile {
    /// The id that a directory says, without locking it. None if it says none.
    ///
    /// # Errors
    /// When the file can't be read, or another build has written it.
    pub fn stored(directory: &Path) -> io::Result<Option<ClusterId>> {
        let path = directory.join(CLUSTER);
        let text = match read_checked(&path) {
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let spare = read_checked(&spare_of(&path)).ok().flatten();
                if spare.is_none() {
                    tracing::error!("{} and its spare are damaged: {error}", path.display());
                }
                spare
            }
            text => text?,
        };
        text.map(|text| parse(&text)).transpose().map_err(of_another_build)
    }

    /// Reads the file, if there is one, and writes it anew where one of its copies is damaged.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        let id = Self::stored(directory)?;
        let file = Self { directory: directory.to_owned(), id: Mutex::new(id) };
        let path = directory.join(CLUSTER);
        let is_sound = |path: &Path| matches!(read_checked(path), Ok(Some(_)));
        if let Some(id) = id
            && !(is_sound(&path) && is_sound(&spare_of(&path)))
            && let Err(error) = file.write(id)
        {
            // The other copy says the same.
            tracing::warn!("{} can't be mended: {error}", path.display());
        }
        Ok(file)
    }

    /// The id that was drawn for the cluster, if the directory knows it.
    pub fn id(&self) -> Option<ClusterId> {
        *self.id.lock()
    }

    /// Notes durably that the directory belongs to this cluster, for good.
    ///
    /// # Errors
    /// When it belongs to another one, or that can't be written.
    pub fn adopt(&self, cluster: ClusterId) -> io::Result<()> {
        let mut id = self.id.lock();
        match *id {
            Some(known) if known == cluster => Ok(()),
            Some(known) => {
                Err(io::Error::other(format!("this data directory belongs to cluster {known}")))
            }
            None => {
                self.write(cluster)?;
                *id = Some(cluster);
                Ok(())
            }
        }
    }

    /// What was the file is the spare after the first time.
    fn write(&self, id: ClusterId) -> io::Result<()> {
        let text = format!("logboat cluster 1\ncluster {id}\n");
        (0..2).try_for_each(|_| write_checked(&self.directory, CLUSTER, &text))
    }
}

fn parse(text: &str) -> Result<ClusterId, String> {
    TextFields::of(text, "logboat cluster 1")?.number("cluster", 16).map(ClusterId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const OWN: ClusterId = ClusterId(0xabc);

    #[test]
    fn a_directory_belongs_to_the_first_cluster_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClusterFile::open(dir.path()).unwrap();
        assert_eq!(file.id(), None);
        file.adopt(OWN).unwrap();
        file.adopt(OWN).unwrap();
        let error = file.adopt(ClusterId(7)).unwrap_err().to_string();
        assert!(error.contains("belongs to cluster 0000000000000abc"), "{error}");
        assert_eq!(ClusterFile::open(dir.path()).unwrap().id(), Some(OWN));
        assert_eq!(ClusterFile::stored(dir.path()).unwrap(), Some(OWN));
    }

    #[test]
    fn what_can_not_be_written_is_not_said() {
        let dir = tempfile::tempdir().unwrap();
        let file = ClusterFile::open(&dir.path().join("missing")).unwrap();
        assert!(file.adopt(OWN).is_err());
        assert_eq!(file.id(), None);
    }

    #[test]
    fn one_copy_that_is_damaged_is_mended_and_without_any_the_peers_tell() {
        let dir = tempfile::tempdir().unwrap();
        ClusterFile::open(dir.path()).unwrap().adopt(OWN).unwrap();
        let path = dir.path().join(CLUSTER);
        let content = fs::read(&path).unwrap();
        for damaged in [path.clone(), spare_of(&path)] {
            for at in 0..content.len() {
                let mut flipped = content.clone();
                flipped[at] ^= 1;
                fs::write(&damaged, flipped).unwrap();
                assert_eq!(ClusterFile::open(dir.path()).unwrap().id(), Some(OWN), "byte {at}");
                assert_eq!(fs::read(&damaged).unwrap(), content);
            }
        }
        for path in [path.clone(), spare_of(&path)] {
            fs::write(path, "cluster").unwrap();
        }
        let file = ClusterFile::open(dir.path()).unwrap();
        assert_eq!(file.id(), None);
        file.adopt(OWN).unwrap();
        assert_eq!(fs::read(&path).unwrap(), content);
        write_checked(dir.path(), CLUSTER, "logboat cluster 2\n").unwrap();
        let error = ClusterFile::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "another build's is kept");
    }
}
