//! Reading the answers of the state machine.

use super::error::CommandError;
use crate::kv::Answer;
use bytes::Bytes;

/// Decodes an answer; a refusal becomes an error.
pub(super) fn understood(answer: &Bytes) -> Result<Answer, CommandError> {
    match Answer::decode(answer)? {
        Answer::Failed(failure) => Err(CommandError::of_failure(failure)),
        answer => Ok(answer),
    }
}

/// The number in an answer.
pub(super) fn integer(answer: Answer) -> Result<i64, CommandError> {
    match answer {
        Answer::Integer(value) => Ok(value),
        _ => Err(CommandError::Mismatch),
    }
}

/// The sum of the numbers in the answers of several ranges.
pub(super) fn sum(answers: Vec<Answer>) -> Result<i64, CommandError> {
    answers.into_iter().map(integer).sum()
}

/// The value of a key in an answer.
pub(super) fn value(answer: Answer) -> Result<Option<Bytes>, CommandError> {
    match answer {
        Answer::Value(value) => Ok(value),
        _ => Err(CommandError::Mismatch),
    }
}

/// The outcome of a command that sets keys.
pub(super) struct Stored {
    /// Whether they were set.
    pub(super) done: bool,
    /// The old value, if the client wanted it and there was one.
    pub(super) old: Option<Bytes>,
}

/// The outcome in the answer to a command that sets keys.
pub(super) fn stored(answer: Answer) -> Result<Stored, CommandError> {
    match answer {
        Answer::Stored { done, old } => Ok(Stored { done, old }),
        _ => Err(CommandError::Mismatch),
    }
}
