//! The output of the command line's commands, and how they fail.

use std::io::{ErrorKind, Write};

/// What a command failed with, ready to print.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Writes to standard output. A reader that has seen enough, such as `head`, is not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
