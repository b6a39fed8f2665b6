//! What a node leaves in a data directory that goes on as another node's.
//!
//! It is moved into a directory within, since the data directory itself may be where a disk is
//! mounted, and can't be renamed then. The identity goes first: without it, no node starts on what
//! is left.

use crate::directory::{DirectoryError, IDENTITY, LOCK, lock};
use crate::files::{make_directory, sync_directory};
use logboat_raft::NodeId;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the name of a former node's directory begins with. The node's id follows.
const PREFIX: &str = "former-";

/// What stays where it is, whoever uses the directory.
const OF_ALL: [&str; 2] = [LOCK, "lost+found"];

/// Where the data of a former node are, in the data directory that was its own.
#[must_use]
pub fn former_path(data_dir: &Path, node: NodeId) -> PathBuf {
    data_dir.join(format!("{PREFIX}{node}"))
}

/// Sets aside what `node` has left in its data directory, but for what `stays`, by name. What an
/// earlier call has moved stays moved, so one that was cut short is made again. Returns where the
/// data are.
///
/// # Errors
/// [`DirectoryError`] when the directory is in use, or something can't be moved.
pub fn set_aside(data_dir: &Path, node: NodeId, stays: &[&str]) -> Result<PathBuf, DirectoryError> {
    let _lock = lock(data_dir)?;
    let former = former_path(data_dir, node);
    let failed = |source| DirectoryError::Io { path: former.clone(), source };
    make_directory(&former).map_err(failed)?;
    let moved = || {
        move_in(data_dir, &former, OsStr::new(IDENTITY))?;
        let names = fs::read_dir(data_dir)?.map(|entry| Ok(entry?.file_name()));
        for name in names.collect::<io::Result<Vec<_>>>()? {
            let is_kept = |kept: &&str| name == **kept;
            let stays = stays.iter().chain(&OF_ALL).any(is_kept) || former_node(&name).is_some();
            if !stays {
                fs::rename(data_dir.join(&name), former.join(&name))?;
            }
        }
        sync_directory(&former)?;
        sync_directory(data_dir)
    };
    moved().map_err(failed)?;
    Ok(former)
}

/// Deletes what a former node has left.
///
/// # Errors
/// When the operating system refuses. What is left then can be deleted later.
pub fn remove_former(data_dir: &Path, node: NodeId) -> io::Result<()> {
    match fs::remove_dir_all(former_path(data_dir, node)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => sync_directory(data_dir),
    }
}

fn former_node(name: &OsStr) -> Option<NodeId> {
    let id = name.to_str()?.strip_prefix(PREFIX)?;
    id.parse().ok().map(NodeId)
}

/// Moves one file, durably, before anything else is moved.
fn move_in(data_dir: &Path, former: &Path, name: &OsStr) -> io::Result<()> {
    match fs::rename(data_dir.join(name), former.join(name)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    sync_directory(former)?;
    sync_directory(data_dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{DataDir, Identity};
    use logboat_raft::{ClusterId, Incarnation};

    const NODE: NodeId = NodeId(2);

    fn identity(incarnation: u64) -> Identity {
        Identity {
            cluster: ClusterId(7),
            name: "first".to_owned(),
            node: NODE,
            members: vec![NodeId(1), NODE],
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn what_a_node_has_left_goes_and_what_is_named_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let (open, _) = DataDir::open(path, &identity(1)).unwrap();
        fs::write(open.wal().join("1.wal"), "data").unwrap();
        fs::write(path.join("STAYS"), "").unwrap();
        let in_use = set_aside(path, NODE, &[]).unwrap_err();
        assert!(matches!(in_use, DirectoryError::InUse { .. }), "{in_use}");
        drop(open);
        let former = set_aside(path, NODE, &["STAYS"]).unwrap();
        assert_eq!(former, former_path(path, NODE));
        assert_eq!(fs::read_to_string(former.join("wal/1.wal")).unwrap(), "data");
        assert!(path.join("STAYS").exists() && !path.join("wal").exists());
        assert_eq!(Identity::stored(path).unwrap(), None);
        assert_eq!(Identity::stored(&former).unwrap(), Some(identity(1)));
        // Another node may begin there, and leave as well.
        drop(DataDir::open(path, &identity(2)).unwrap());
        set_aside(path, NodeId(3), &[]).unwrap();
        assert!(former_path(path, NodeId(3)).exists() && former.exists());
        remove_former(path, NODE).unwrap();
        remove_former(path, NODE).unwrap();
        assert!(former_path(path, NodeId(3)).exists() && !former.exists());
    }

    #[test]
    fn one_that_was_cut_short_is_made_again_and_no_node_starts_before_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let (open, _) = DataDir::open(path, &identity(1)).unwrap();
        fs::write(open.wal().join("1.wal"), "data").unwrap();
        drop(open);
        // A crash after each of the moves.
        fs::create_dir(former_path(path, NODE)).unwrap();
        for name in [IDENTITY, "BOOT"] {
            fs::rename(path.join(name), former_path(path, NODE).join(name)).unwrap();
            let error = DataDir::open(path, &identity(2)).unwrap_err();
            assert!(matches!(error, DirectoryError::Missing { .. }), "{error}");
        }
        let former = set_aside(path, NODE, &[]).unwrap();
        assert_eq!(Identity::stored(&former).unwrap(), Some(identity(1)));
        assert!(former.join("BOOT").exists() && former.join("wal/1.wal").exists());
        DataDir::open(path, &identity(2)).unwrap();
    }
}
