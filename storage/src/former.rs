//! What a node leaves in a data directory that goes on as another node's.
//!
//! It is moved into a directory within, since the data directory itself may be where a disk is
//! mounted, and can't be renamed then. The identity goes first: without it, no node starts on what
//! is left. Only what is known to be the node's is moved: there may be certificates beside it, or
//! whatever else somebody keeps there, and what is moved is deleted later.

use crate::boot::BOOT;
use crate::directory::{DirectoryError, IDENTITY, SNAPSHOTS, WAL, lock};
use crate::files::{make_directory, spare_of, sync_directory};
use crate::known_peers::PEERS;
use logboat_raft::NodeId;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the name of a former node's directory begins with. The node's id follows.
const PREFIX: &str = "former-";

/// What a node keeps in its directory. `LOCK` is whoever's that uses it.
const OF_NODE: [&str; 5] = [IDENTITY, BOOT, PEERS, WAL, SNAPSHOTS];

/// Where the data of a former node are, in the data directory that was its own.
#[must_use]
pub fn former_path(data_dir: &Path, node: NodeId) -> PathBuf {
    data_dir.join(format!("{PREFIX}{node}"))
}

/// Checks that [`set_aside`] can move what a node has left, and what its state machines keep in
/// `states`, by name.
///
/// # Errors
/// [`DirectoryError::Elsewhere`] when something is a link, or where another disk is mounted: what
/// it holds can't be moved with the directory. [`DirectoryError::Io`] when that can't be told.
pub fn check_set_aside(data_dir: &Path, states: &[&str]) -> Result<(), DirectoryError> {
    for path in OF_NODE.iter().chain(states).map(|name| data_dir.join(name)) {
        match is_elsewhere(&path) {
            Ok(true) => return Err(DirectoryError::Elsewhere { path }),
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(DirectoryError::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sets aside what `node` has left in its data directory, and what its state machines keep in
/// `states`, by name. Whatever else is there stays. What an earlier call has moved stays moved, so
/// one that was cut short is made again. Returns where the data are.
///
/// # Errors
/// [`DirectoryError`] when the directory is in use, or something can't be moved. If
/// [`check_set_aside`] tells that, nothing has moved.
pub fn set_aside(
    data_dir: &Path,
    node: NodeId,
    states: &[&str],
) -> Result<PathBuf, DirectoryError> {
    let _lock = lock(data_dir)?;
    check_set_aside(data_dir, states)?;
    let former = former_path(data_dir, node);
    let failed = |source| DirectoryError::Io { path: former.clone(), source };
    make_directory(&former).map_err(failed)?;
    let moved = || {
        // The identity comes first. Each is durable before the next one.
        for name in OF_NODE.iter().chain(states) {
            move_in(&data_dir.join(name), &former.join(name))?;
            move_in(&spare_of(&data_dir.join(name)), &spare_of(&former.join(name)))?;
            sync_directory(&former)?;
            sync_directory(data_dir)?;
        }
        Ok(())
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

/// Whether something is a link, or where a file system is mounted.
fn is_elsewhere(path: &Path) -> io::Result<bool> {
    let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    let is_mounted = found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok(is_mounted || fs::symlink_metadata(path)?.is_symlink())
}

/// Moves something, if it is there still.
fn move_in(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{DataDir, Identity};
    use logboat_raft::{ClusterId, Incarnation};
    use std::os::unix::fs::symlink;

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
    fn what_a_node_has_left_goes_and_whatever_else_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let (open, _) = DataDir::open(path, &identity(1)).unwrap();
        fs::write(open.wal().join("1.wal"), "data").unwrap();
        fs::write(path.join("node.key"), "").unwrap();
        fs::create_dir(path.join("state")).unwrap();
        let in_use = set_aside(path, NODE, &[]).unwrap_err();
        assert!(matches!(in_use, DirectoryError::InUse { .. }), "{in_use}");
        drop(open);
        let former = set_aside(path, NODE, &["state"]).unwrap();
        assert_eq!(former, former_path(path, NODE));
        assert_eq!(fs::read_to_string(former.join("wal/1.wal")).unwrap(), "data");
        assert!(former.join("state").exists() && former.join("IDENTITY.tmp").exists());
        let mut left: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["LOCK", "former-2", "node.key"]);
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
    fn what_is_not_in_the_directory_itself_is_not_set_aside() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path();
        drop(DataDir::open(path, &identity(1)).unwrap());
        let log = other.path().join("log");
        fs::rename(path.join("wal"), &log).unwrap();
        symlink(&log, path.join("wal")).unwrap();
        let error = set_aside(path, NODE, &[]).unwrap_err();
        assert!(matches!(error, DirectoryError::Elsewhere { .. }), "{error}");
        assert!(error.to_string().contains("wal"), "{error}");
        assert!(path.join(IDENTITY).exists() && !former_path(path, NODE).exists());
        assert!(is_elsewhere(Path::new("/proc")).unwrap(), "it is mounted");
        assert!(!is_elsewhere(path).unwrap());
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
