//! Why a command was not carried out, in the words of Redis.

use crate::backend::BackendError;
use crate::kv::{Failure, WireError};

/// The error reply of a command; its text is sent as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// An option that the command does not have, or options that exclude each other.
    #[error("ERR syntax error")]
    Syntax,
    /// The wrong number of arguments for the command of this (lower-case) name.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// No such command.
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand {
        /// Its name, cut at 128 bytes.
        name: String,
        /// The first arguments, each in quotes with a space behind it.
        arguments: String,
    },
    /// No such subcommand.
    #[error("ERR unknown subcommand '{name}'. Try {command} HELP.")]
    UnknownSubcommand {
        /// Its name, cut at 128 bytes.
        name: String,
        /// The command, in upper case.
        command: String,
    },
    /// A subcommand with more arguments than it takes, or none that it knows.
    #[error(
        "ERR unknown subcommand or wrong number of arguments for '{name:.128}'. Try {command} HELP."
    )]
    SubcommandSyntax {
        /// Its name as the client wrote it.
        name: String,
        /// The command, in upper case.
        command: &'static str,
    },
    /// An argument that is no number, or one beyond 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// An argument that is no floating-point number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// A sum that is no number.
    #[error("ERR increment would produce NaN or Infinity")]
    Infinite,
    /// A sum beyond 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A decrement whose negation is beyond 64 bits.
    #[error("ERR decrement would overflow")]
    DecrementOverflow,
    /// A negative offset.
    #[error("ERR offset is out of range")]
    Offset,
    /// A value that would grow beyond the limit.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
    /// A negative count.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// A number that has more than 32 bits.
    #[error("ERR value is out of range, value must between {} and {}", i32::MIN, i32::MAX)]
    NotInt32,
    /// A cursor of SCAN that is no number.
    #[error("ERR invalid cursor")]
    Cursor,
    /// A key that has to be there.
    #[error("ERR no such key")]
    NoSuchKey,
    /// A command for a slot that another node leads, to a client that follows the slots.
    #[error("MOVED {slot} {host}:{port}")]
    Moved {
        /// The slot.
        slot: u16,
        /// Where the client finds it.
        host: String,
        /// The port there.
        port: u16,
    },
    /// A command to clusters, where there is none.
    #[error("ERR This instance has cluster support disabled")]
    NoCluster,
    /// A time for the command of this (lower-case) name that can't be counted, or is no future.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(String),
    /// Something that would be moved or copied onto itself.
    #[error("ERR source and destination objects are the same")]
    SameObject,
    /// A database that there is none of.
    #[error("ERR DB index is out of range")]
    Database,
    /// A protocol other than 2 and 3.
    #[error("NOPROTO unsupported protocol version")]
    Protocol,
    /// A password, although there is none.
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. \
         Are you sure your configuration is correct?"
    )]
    NoPassword,
    /// A MULTI.
    #[error("ERR transactions are not supported; the commands up to EXEC or DISCARD are refused")]
    Transaction,
    /// A command behind a MULTI that was refused.
    #[error("ERR command refused: it follows a MULTI, and transactions are not supported")]
    InRefusedTransaction,
    /// The EXEC of a transaction that was refused.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    Aborted,
    /// An EXEC with arguments.
    #[error(
        "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
    )]
    AbortedByArity,
    /// A WATCH.
    #[error("ERR WATCH is not supported, as transactions are not")]
    Watch,
    /// A command of a client that has not logged in.
    #[error("NOAUTH Authentication required.")]
    NotAuthenticated,
    /// A HELLO of a client that has not logged in, and does not do so by it.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
         <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
         RESP protocol version at the same time"
    )]
    HelloBeforeAuth,
    /// A wrong password, or a user other than the default one.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    Password,
    /// Keys that would have to be written together and lie in different ranges.
    #[error("CROSSRANGE Keys in request don't lie in the same range")]
    CrossRange,
    /// A key beyond the limit.
    #[error("ERR key of {bytes} bytes exceeds the limit of {limit} bytes")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A reply beyond the limit.
    #[error("ERR reply exceeds the limit of {limit} bytes; ask for less at a time")]
    ReplyTooLong {
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// A reply for which there is no memory beside those of other clients. Given by commands that
    /// only read.
    #[error("TRYAGAIN clients hold as much memory as they may; read less at a time")]
    NoMemory,
    /// A write that grows what is stored, while there is as much as the node may hold.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    OutOfMemory,
    /// Any other refusal that only one command gives.
    #[error("ERR {0}")]
    Other(String),
    /// At least one range has not carried out the command, and others have or may have.
    #[error("UNKNOWN outcome unknown: done in a part of the ranges; another answered: {0}")]
    Partial(BackendError),
    /// A request that was refused before it was understood.
    #[error("{0}")]
    Refused(String),
    /// The range did not answer.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The state machine did not understand the command: another version of this program runs in
    /// the cluster.
    #[error("ERR the store does not know this operation; are all nodes of one version?")]
    Malformed,
    /// The answer of the state machine did not decode, for the same reason.
    #[error("ERR the store's answer is not understood ({0}); are all nodes of one version?")]
    Answer(#[from] WireError),
    /// The answer of the state machine is of a kind that the command does not expect.
    #[error("ERR the store's answer does not fit the question; are all nodes of one version?")]
    Mismatch,
}

impl CommandError {
    /// The error for the client when the state machine refuses.
    pub(super) const fn of_failure(failure: Failure) -> Self {
        match failure {
            Failure::Malformed => Self::Malformed,
            Failure::NotAnInteger => Self::NotAnInteger,
            Failure::Overflow => Self::Overflow,
            Failure::NotAFloat => Self::NotAFloat,
            Failure::Infinite => Self::Infinite,
            Failure::TooLong => Self::TooLong,
            Failure::OutOfMemory => Self::OutOfMemory,
            Failure::NoSuchKey => Self::NoSuchKey,
        }
    }
}
