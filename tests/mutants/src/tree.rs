//! Reads the repository, and writes a copy of it.

use super::{Patch, Tree};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Reads the patches of a repository, sorted by their names.
///
/// # Errors
/// Those of the file system, and the first patch that does not follow the format.
pub fn read_patches(root: &Path) -> Result<Vec<Patch>, Box<dyn Error>> {
    let mut patches = Vec::new();
    for entry in fs::read_dir(root.join("tests/mutants/patches"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            patches.push(Patch::parse(&name, &fs::read_to_string(&path)?)?);
        }
    }
    patches.sort_by(|one, next| one.name.cmp(&next.name));
    Ok(patches)
}

/// Reads all files of a repository but what is hidden or was built.
///
/// # Errors
/// Those of the file system.
pub fn read_tree(root: &Path) -> io::Result<Tree> {
    let files = files_below(root)?.into_iter();
    files.map(|path| Ok((path.clone(), fs::read(root.join(path))?))).collect()
}

/// Makes a folder hold the tree and nothing else. Files that are right already stay as they are, so
/// that the next build takes only what has changed.
///
/// # Errors
/// Those of the file system.
pub fn write_copy(tree: &Tree, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for path in files_below(folder)? {
        if !tree.contains_key(&path) {
            fs::remove_file(folder.join(path))?;
        }
    }
    for (path, bytes) in tree {
        let path = folder.join(path);
        if fs::read(&path).is_ok_and(|present| present == *bytes) {
            continue;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// The paths of all files, from `root` on.
fn files_below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") || name == "target" {
                continue;
            }
            let path = folder.join(name);
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.push(path);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{Tree, read_tree, write_copy};
    use std::fs;

    #[test]
    fn a_copy_keeps_what_is_right_and_loses_what_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| (path.into(), text.as_bytes().to_vec());
        let before = Tree::from([file("a/one.rs", "1"), file("two.rs", "2")]);
        write_copy(&before, folder.path()).unwrap();
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("target/built"), "").unwrap();
        assert_eq!(read_tree(folder.path()).unwrap(), before);
        let written = || fs::metadata(folder.path().join("a/one.rs")).unwrap().modified().unwrap();
        let first = written();
        let after = Tree::from([file("a/one.rs", "1"), file("a/three.rs", "3")]);
        write_copy(&after, folder.path()).unwrap();
        assert_eq!((read_tree(folder.path()).unwrap(), written()), (after, first));
    }
}
