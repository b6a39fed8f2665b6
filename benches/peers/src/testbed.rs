//! Where and how long a contest runs.

use logboat_bench::Failure;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// What all contests of a run have in common.
pub(crate) struct Testbed {
    dir: TempDir,
    /// How long a side is measured.
    pub(crate) time: Duration,
    /// How much the logs that are recovered hold.
    pub(crate) recovered_bytes: u64,
}

impl Testbed {
    /// A testbed with its data in `dir`, or in the temporary directory of the system.
    ///
    /// # Errors
    /// When the directory can't be made, or `gib` is not a size that a log can have.
    pub(crate) fn new(dir: Option<&Path>, time: Duration, gib: f64) -> Result<Self, Failure> {
        if !(0.0..=1024.0).contains(&gib) {
            return Err("--gib takes 0 to 1024".into());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let recovered_bytes = (gib * f64::from(1 << 30)) as u64;
        let mut builder = tempfile::Builder::new();
        builder.prefix("logboat-peers-");
        let dir = match dir {
            Some(dir) => builder.tempdir_in(dir)?,
            None => builder.tempdir()?,
        };
        Ok(Self { dir, time, recovered_bytes })
    }

    /// An empty directory, which goes when it is dropped.
    pub(crate) fn scratch(&self) -> Result<TempDir, Failure> {
        Ok(tempfile::tempdir_in(self.dir.path())?)
    }
}
