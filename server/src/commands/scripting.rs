//! FUNCTION and SCRIPT, of which there are none.

use super::arguments::is;
use super::context::Outcome;
use super::error::CommandError;
use crate::resp::Reply;
use bytes::Bytes;

/// FUNCTION FLUSH [ASYNC | SYNC] and SCRIPT FLUSH [ASYNC | SYNC]: there are no functions and no
/// scripts to remove. Test suites start with these commands.
pub(super) fn flush(arguments: &[Bytes], complaint: &str) -> Outcome {
    match arguments {
        [] => Ok(Reply::OK),
        [mode] if is(mode, "ASYNC") || is(mode, "SYNC") => Ok(Reply::OK),
        _ => Err(CommandError::Other(complaint.to_owned())),
    }
}
