//! `check-history FILE…`: whether the operations recorded in each file are linearizable.
//!
//! The exit code is 0 if all are, 1 if one is not, and 2 if a file could not be read or decided.

use logboat_tests::history;
use logboat_tests::lin::{self, Verdict};
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;

/// What came of a file, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    Linearizable,
    /// It could not be read, or the search was given up.
    Unsettled,
    NotLinearizable,
}

fn main() -> ExitCode {
    let files: Vec<OsString> = env::args_os().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: check-history FILE…");
        return ExitCode::from(2);
    }
    let worst = files.iter().map(|file| check(Path::new(file))).max();
    match worst {
        Some(Finding::Linearizable) => ExitCode::SUCCESS,
        Some(Finding::NotLinearizable) => ExitCode::from(1),
        Some(Finding::Unsettled) | None => ExitCode::from(2),
    }
}

/// Checks one file and prints what was found.
fn check(path: &Path) -> Finding {
    let name = path.display();
    let file = match File::open(path) {
        Ok(file) => BufReader::new(file),
        Err(error) => {
            eprintln!("{name}: {error}");
            return Finding::Unsettled;
        }
    };
    let operations = match history::read(file) {
        Ok(operations) => operations,
        Err(error) => {
            eprintln!("{name}: {error}");
            return Finding::Unsettled;
        }
    };
    let verdict = lin::check(&operations);
    println!("{name}: {} operations, {verdict}", operations.len());
    match verdict {
        Verdict::Linearizable => Finding::Linearizable,
        Verdict::NotLinearizable(_) => Finding::NotLinearizable,
        Verdict::Undecided { .. } => Finding::Unsettled,
    }
}
