//! `chaos`: a cluster of real processes under load and faults.

use logboat_tests::process::PROGRAM_NAME;
use std::process::ExitCode;

fn main() -> ExitCode {
    // The nodes are this executable too, called by the server's name.
    if std::env::args_os().next().is_some_and(|name| name == PROGRAM_NAME) {
        return logboat_server::cli::run();
    }
    ExitCode::FAILURE
}
