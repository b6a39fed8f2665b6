//! The binary `logboat`.

use std::process::ExitCode;

fn main() -> ExitCode {
    logboat_server::cli::run()
}
