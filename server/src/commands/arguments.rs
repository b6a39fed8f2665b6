//! Reading arguments.

use super::error::CommandError;
use crate::kv::{DATABASES, parse_integer};
use bytes::Bytes;

/// A 64-bit integer.
pub(super) fn integer(argument: &[u8]) -> Result<i64, CommandError> {
    parse_integer(argument).ok_or(CommandError::NotAnInteger)
}

/// A 32-bit integer.
pub(super) fn small_integer(argument: &[u8]) -> Result<i32, CommandError> {
    i32::try_from(integer(argument)?).map_err(|_| CommandError::NotInt32)
}

/// The number of a database.
pub(super) fn database(argument: &[u8]) -> Result<u8, CommandError> {
    let number = u8::try_from(small_integer(argument)?).ok();
    number.filter(|number| *number < DATABASES).ok_or(CommandError::Database)
}

/// Whether an argument is this word, in any case.
pub(super) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// An argument as text, for messages. As in Redis, a message has what stands before a zero byte.
pub(super) fn text(argument: &[u8]) -> String {
    let end = argument.iter().position(|&byte| byte == 0).unwrap_or(argument.len());
    String::from_utf8_lossy(&argument[..end]).into_owned()
}

/// Keys with their values, of which there must be whole pairs for the command `name`.
pub(super) fn pairs<'a>(
    arguments: &'a [Bytes],
    name: &str,
) -> Result<impl Iterator<Item = (&'a Bytes, &'a Bytes)>, CommandError> {
    if !arguments.len().is_multiple_of(2) {
        return Err(CommandError::Arity(name.to_owned()));
    }
    Ok(arguments.chunks_exact(2).map(|pair| (&pair[0], &pair[1])))
}

/// The longest word that CLIENT LIST shows, in bytes. It is kept as long as the client is there.
const MAX_LISTED_BYTES: usize = 1024;

/// A word that CLIENT LIST can show: printable ASCII without spaces. `what` starts the complaint.
pub(super) fn listed_word(word: &[u8], what: &str) -> Result<String, CommandError> {
    if word.len() > MAX_LISTED_BYTES {
        let reason = format!("{what} cannot be longer than {MAX_LISTED_BYTES} bytes.");
        return Err(CommandError::Other(reason));
    }
    if word.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(text(word));
    }
    let reason = format!("{what} cannot contain spaces, newlines or special characters.");
    Err(CommandError::Other(reason))
}
