//! `logboat-bench compare`, in a build without the peers.

use crate::Failure;
use clap::Args;

/// Needs a build with the feature `peers`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    /// Taken in so that the answer is why nothing is compared.
    given: Vec<String>,
}

/// Says what is missing.
pub(crate) fn run(_: &Options) -> Result<(), Failure> {
    Err("built without the peers to compare with; build and run it by\n  \
         cargo run --release -p logboat-bench --features peers -- compare"
        .into())
}
