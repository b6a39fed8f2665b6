//! Passwords and tokens, from files of one or two lines.

use parking_lot::RwLock;
use ring::digest::{SHA256, digest};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// A file may hold as many secrets, so that one can be replaced while it is in use.
const MAX_LINES: usize = 2;

/// The longest line, in bytes.
const MAX_BYTES: usize = 1024;

/// Why a file of secrets is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not hold one or two lines of the right length.
    #[error("{} must hold one or two lines of {least_bytes} to {MAX_BYTES} bytes", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The shortest line.
        least_bytes: usize,
    },
}

/// One or two secrets that count at the same time, read from a file. Clones are the same. They are
/// kept as hashes.
#[derive(Clone)]
pub struct SecretFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    least_bytes: usize,
    hashes: RwLock<Arc<[Hash]>>,
}

pub(crate) type Hash = [u8; 32];

impl SecretFile {
    /// Reads the file: one secret a line, each of at least so many bytes.
    ///
    /// # Errors
    /// When it can't be read, or holds something else.
    pub fn open(path: impl Into<PathBuf>, least_bytes: usize) -> Result<Self, SecretError> {
        let path = path.into();
        let hashes = RwLock::new(read(&path, least_bytes)?);
        Ok(Self(Arc::new(Inner { path, least_bytes, hashes })))
    }

    /// Reads the file again. If it is of no use, the log says so, and what was read before goes on
    /// counting.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn reload(&self) -> Result<(), SecretError> {
        match read(&self.0.path, self.0.least_bytes) {
            Ok(hashes) => {
                *self.0.hashes.write() = hashes;
                tracing::info!("{} has been read again", self.0.path.display());
                Ok(())
            }
            Err(error) => {
                tracing::error!("the secrets that were read before still count: {error}");
                Err(error)
            }
        }
    }

    /// Whether `candidate` is one of the secrets. The time that this takes tells nothing about
    /// them, not even their length.
    #[must_use]
    pub fn holds(&self, candidate: &[u8]) -> bool {
        let candidate = hash(candidate);
        let hashes = self.hashes();
        let equal = hashes.iter().map(|hash| hash.ct_eq(&candidate));
        equal.fold(Choice::from(0), |any, this| any | this).into()
    }

    pub(crate) fn hashes(&self) -> Arc<[Hash]> {
        Arc::clone(&self.0.hashes.read())
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SecretFile").field(&self.0.path).finish()
    }
}

fn read(path: &Path, least_bytes: usize) -> Result<Arc<[Hash]>, SecretError> {
    let text =
        std::fs::read(path).map_err(|source| SecretError::Read { path: path.into(), source })?;
    let lines =
        text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let fits = |line: &&[u8]| (least_bytes.max(1)..=MAX_BYTES).contains(&line.len());
    if lines.is_empty() || lines.len() > MAX_LINES || !lines.iter().all(fits) {
        return Err(SecretError::Content { path: path.into(), least_bytes });
    }
    Ok(lines.into_iter().map(hash).collect())
}

fn hash(secret: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_secrets_count_while_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwords");
        std::fs::write(&path, "old one\r\nnew one\n").unwrap();
        let secrets = SecretFile::open(&path, 1).unwrap();
        assert!(secrets.holds(b"old one") && secrets.holds(b"new one"));
        assert!(!secrets.holds(b"old on") && !secrets.holds(b"") && !secrets.holds(b"new one\n"));
        std::fs::write(&path, "new one\n").unwrap();
        assert!(secrets.holds(b"old one"));
        secrets.reload().unwrap();
        assert!(!secrets.holds(b"old one") && secrets.holds(b"new one"));
        // What is of no use changes nothing.
        std::fs::write(&path, "\n").unwrap();
        assert!(secrets.reload().is_err());
        assert!(secrets.holds(b"new one"));
        assert!(!format!("{secrets:?}").contains("new"));
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let long = "x".repeat(MAX_BYTES + 1);
        for text in ["", "\n\n", "short\n", "1234567890\n1234567890\n1234567890\n", &long] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(SecretFile::open(&path, 8), Err(SecretError::Content { .. })),
                "{text}"
            );
        }
        let missing = SecretFile::open(dir.path().join("nowhere"), 8).unwrap_err();
        assert!(missing.to_string().contains("nowhere"), "{missing}");
    }
}
