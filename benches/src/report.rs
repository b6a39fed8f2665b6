//! How a report is printed.

use clap::Args;
use logboat_bench::Failure;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What the benches that keep data have in common: where it lives, and how the report is printed.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// Where the data lives; a temporary directory if not given.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Place {
    /// The directory that was asked for.
    pub(crate) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Prints a report as was asked for.
    pub(crate) fn print(&self, report: &impl Serialize) -> Result<(), Failure> {
        print(report, self.json)
    }
}

/// Prints a row a field, or one JSON object.
pub(crate) fn print(report: &impl Serialize, json: bool) -> Result<(), Failure> {
    let value = serde_json::to_value(report)?;
    if json {
        println!("{value}");
        return Ok(());
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value.as_f64().filter(|_| value.is_f64()) {
            Some(number) => println!("{name:<28} {number:>14.2}"),
            None => println!("{name:<28} {value:>14}"),
        }
    }
    Ok(())
}
