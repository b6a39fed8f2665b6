//! Which executable stands for `logboat`.

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name under which an executable of this crate behaves as the server's binary.
pub const PROGRAM_NAME: &str = "logboat";

/// The variable that names another executable to test.
const OVERRIDE: &str = "LOGBOAT_BIN";

/// An executable with the command line of `logboat`.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The executable that the environment variable `LOGBOAT_BIN` names, else `executable`, which
    /// must behave as `logboat` when it is called by [that name](PROGRAM_NAME).
    #[must_use]
    pub fn new(executable: impl AsRef<Path>) -> Self {
        let named = env::var_os(OVERRIDE).map(PathBuf::from);
        Self(named.unwrap_or_else(|| executable.as_ref().to_owned()))
    }

    /// A command that runs it, without arguments yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command.arg0(PROGRAM_NAME);
        command
    }
}
