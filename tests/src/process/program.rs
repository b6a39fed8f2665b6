//! Which executable stands for `logboat`.

use rustix::process::{Signal, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// The name under which an executable of this crate behaves as the server's binary.
pub const PROGRAM_NAME: &str = "logboat";

/// The variable that names another executable to test.
const OVERRIDE: &str = "LOGBOAT_BIN";

/// The variable that tells an executable of this crate to end with the thread that started it.
const TIED: &str = "LOGBOAT_TEST_TIED";

/// An executable with the command line of `logboat`.
#[derive(Clone, Debug)]
pub struct Program {
    executable: PathBuf,
    tied: bool,
}

impl Program {
    /// The executable that the environment variable `LOGBOAT_BIN` names, else `executable`, which
    /// must behave as `logboat` when it is called by [that name](PROGRAM_NAME).
    #[must_use]
    pub fn new(executable: impl AsRef<Path>) -> Self {
        let named = env::var_os(OVERRIDE).map(PathBuf::from);
        Self { executable: named.unwrap_or_else(|| executable.as_ref().to_owned()), tied: false }
    }

    /// The same, to be killed when the thread that starts it ends, though that be killed itself.
    /// Only executables of this crate know how.
    #[must_use]
    pub fn tied(self) -> Self {
        Self { tied: true, ..self }
    }

    /// What an executable of this crate does first when it is called by [the name](PROGRAM_NAME):
    /// it lets itself be tied, if that was asked for.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn let_tie() -> io::Result<()> {
        if env::var_os(TIED).is_some() {
            set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        Ok(())
    }

    /// A command that runs it, without arguments yet.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.arg0(PROGRAM_NAME);
        if self.tied {
            command.env(TIED, "");
        }
        command
    }
}
