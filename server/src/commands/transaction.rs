//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! There are no transactions. A client that sends one does not wait for the reply to MULTI before
//! it sends the commands, and these must not be carried out one by one. So a refused MULTI refuses
//! everything up to the command that would have ended the transaction.

use super::context::Outcome;
use super::error::CommandError;
use super::table::Name;
use crate::resp::Reply;
use crate::session::Session;
use std::mem;

/// Whether a command may be carried out: within a refused transaction, only what ends it may.
pub(super) fn admit(session: &Session, name: Name) -> Result<(), CommandError> {
    let ends = matches!(name, Name::Discard | Name::Exec | Name::Multi | Name::Quit | Name::Reset);
    if session.in_refused_transaction && !ends {
        return Err(CommandError::InRefusedTransaction);
    }
    Ok(())
}

/// The error for a request that names no command or has the wrong number of arguments. An EXEC with
/// arguments still ends its transaction. As in Redis, it does so even outside of one.
pub(super) fn refused(session: &mut Session, error: CommandError) -> CommandError {
    if matches!(&error, CommandError::Arity(name) if name == "exec") {
        session.in_refused_transaction = false;
        return CommandError::AbortedByArity;
    }
    error
}

/// MULTI
pub(super) fn multi(session: &mut Session) -> Outcome {
    if mem::replace(&mut session.in_refused_transaction, true) {
        return Err(CommandError::Other("MULTI calls can not be nested".into()));
    }
    Err(CommandError::Transaction)
}

/// EXEC
pub(super) fn exec(session: &mut Session) -> Outcome {
    if mem::take(&mut session.in_refused_transaction) {
        return Err(CommandError::Aborted);
    }
    Err(CommandError::Other("EXEC without MULTI".into()))
}

/// DISCARD
pub(super) fn discard(session: &mut Session) -> Outcome {
    if mem::take(&mut session.in_refused_transaction) {
        return Ok(Reply::OK);
    }
    Err(CommandError::Other("DISCARD without MULTI".into()))
}

/// WATCH key [key …]
pub(super) fn watch() -> Outcome {
    Err(CommandError::Watch)
}

/// UNWATCH: nothing is watched
pub(super) fn unwatch() -> Reply {
    Reply::OK
}
