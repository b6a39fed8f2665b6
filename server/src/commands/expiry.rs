//! When keys expire: EXPIRE and its relatives, TTL and its relatives, PERSIST, GETEX, and the
//! options of SET that are about it.

use super::answer;
use super::arguments::{self, is, text};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::plan::{Plan, Planned, Shape};
use super::string;
use crate::backend::Backend;
use crate::client_memory::UNCOUNTED_BYTES;
use crate::kv::{Answer, Command, Deadline, ExpireIf, Expiry, Lifetime, Query};
use crate::resp::Reply;
use bytes::Bytes;
use std::slice::Iter;
use std::time::{SystemTime, UNIX_EPOCH};

/// In which terms a deadline is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term {
    Seconds,
    Milliseconds,
    /// Seconds since 1970.
    AtSeconds,
    /// Milliseconds since 1970.
    AtMilliseconds,
}

impl Term {
    /// The deadline of a key that is set by the command `name`. It must be positive.
    pub(super) fn deadline(self, argument: &[u8], name: &str) -> Result<Deadline, CommandError> {
        let number = arguments::integer(argument)?;
        let invalid = || CommandError::ExpireTime(name.to_owned());
        if number <= 0 {
            return Err(invalid());
        }
        self.of(number).ok_or_else(invalid)
    }

    /// The deadline that a number means, if that can be counted in milliseconds.
    fn of(self, number: i64) -> Option<Deadline> {
        let milliseconds = match self {
            Self::Seconds | Self::AtSeconds => number.checked_mul(1_000)?,
            Self::Milliseconds | Self::AtMilliseconds => number,
        };
        match self {
            Self::AtSeconds | Self::AtMilliseconds => Some(Deadline::At(milliseconds)),
            Self::Seconds | Self::Milliseconds => {
                milliseconds.checked_add(now_ms())?;
                Some(Deadline::In(milliseconds))
            }
        }
    }
}

/// About the time, to tell which deadlines are beyond what can be counted.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What the options of SET or GETEX say about the expiry of the key.
#[derive(Debug, Default)]
pub(super) struct ExpiryOption {
    /// KEEPTTL or PERSIST.
    word: Option<Lifetime>,
    term: Option<(Term, Bytes)>,
}

impl ExpiryOption {
    /// KEEPTTL
    pub(super) const fn keep(&mut self) -> Result<(), CommandError> {
        self.say(Lifetime::Kept)
    }

    /// PERSIST
    const fn persist(&mut self) -> Result<(), CommandError> {
        self.say(Lifetime::Endless)
    }

    const fn say(&mut self, word: Lifetime) -> Result<(), CommandError> {
        if self.term.is_some() {
            return Err(CommandError::Syntax);
        }
        self.word = Some(word);
        Ok(())
    }

    /// Takes an option with its argument. As in Redis, one may be repeated.
    pub(super) fn take(
        &mut self,
        option: &[u8],
        rest: &mut Iter<'_, Bytes>,
    ) -> Result<(), CommandError> {
        let terms = [
            ("EX", Term::Seconds),
            ("PX", Term::Milliseconds),
            ("EXAT", Term::AtSeconds),
            ("PXAT", Term::AtMilliseconds),
        ];
        let term = terms.into_iter().find(|(word, _)| is(option, word)).map(|(_, term)| term);
        match (term, rest.next()) {
            (Some(term), Some(argument))
                if self.word.is_none()
                    && self.term.as_ref().is_none_or(|(other, _)| *other == term) =>
            {
                self.term = Some((term, argument.clone()));
                Ok(())
            }
            _ => Err(CommandError::Syntax),
        }
    }

    /// What the options of the command `name` mean.
    pub(super) fn lifetime(self, name: &str) -> Result<Lifetime, CommandError> {
        match self.term {
            Some((term, argument)) => term.deadline(&argument, name).map(Lifetime::Until),
            None => Ok(self.word.unwrap_or(Lifetime::Endless)),
        }
    }
}

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]
pub(super) fn get_ex<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let mut expiry = ExpiryOption::default();
    let mut options = arguments[1..].iter();
    while let Some(option) = options.next() {
        match is(option, "PERSIST") {
            true => expiry.persist()?,
            false => expiry.take(option, &mut options)?,
        }
    }
    if expiry.word.is_none() && expiry.term.is_none() {
        return string::get(context, arguments);
    }
    let (range, key) = context.locate(&arguments[0]);
    match expiry.lifetime("getex") {
        Ok(lifetime) => {
            let limit_bytes = UNCOUNTED_BYTES as u64;
            let command = Command::GetExpire { key, lifetime, limit_bytes };
            Ok(Plan::write(range, command, string::optional))
        }
        // Redis looks for the key first.
        Err(error) => {
            let shape: Shape = match error {
                CommandError::NotAnInteger => |answer| unless_missing(answer, not_an_integer()),
                _ => |answer| unless_missing(answer, CommandError::ExpireTime("getex".into())),
            };
            Ok(Plan::read(range, Query::Exists { keys: vec![key] }, shape))
        }
    }
}

const fn not_an_integer() -> CommandError {
    CommandError::NotAnInteger
}

fn unless_missing(answer: Answer, error: CommandError) -> Outcome {
    if answer::integer(answer)? == 0 { Ok(Reply::Null) } else { Err(error) }
}

/// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT key time [NX | XX | GT | LT]
pub(super) fn expire<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    term: Term,
    name: &str,
) -> Planned {
    let condition = condition(&arguments[2..])?;
    let number = arguments::integer(&arguments[1])?;
    let deadline = term.of(number).ok_or_else(|| CommandError::ExpireTime(name.to_owned()))?;
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::write(range, Command::Expire { key, deadline, condition }, number_of))
}

fn condition(options: &[Bytes]) -> Result<ExpireIf, CommandError> {
    let mut condition = ExpireIf::default();
    for option in options {
        if is(option, "NX") {
            condition.endless = true;
        } else if is(option, "XX") {
            condition.expiring = true;
        } else if is(option, "GT") {
            condition.later = true;
        } else if is(option, "LT") {
            condition.earlier = true;
        } else {
            let reason = format!("Unsupported option {}", text(option));
            return Err(CommandError::Other(reason));
        }
    }
    let ExpireIf { endless, expiring, later, earlier } = condition;
    let refused = |reason: &str| Err(CommandError::Other(reason.to_owned()));
    if endless && (expiring || later || earlier) {
        return refused("NX and XX, GT or LT options at the same time are not compatible");
    }
    if later && earlier {
        return refused("GT and LT options at the same time are not compatible");
    }
    Ok(condition)
}

/// PERSIST key
pub(super) fn persist<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::write(range, Command::Persist { key }, number_of))
}

/// TTL key
pub(super) fn ttl<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    expiry_of(context, arguments, |answer| time(answer, |_, left_ms| in_seconds(left_ms)))
}

/// PTTL key
pub(super) fn pttl<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    expiry_of(context, arguments, |answer| time(answer, |_, left_ms| left_ms))
}

/// EXPIRETIME key
pub(super) fn expire_time<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    expiry_of(context, arguments, |answer| time(answer, |deadline_ms, _| in_seconds(deadline_ms)))
}

/// PEXPIRETIME key
pub(super) fn pexpire_time<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    expiry_of(context, arguments, |answer| time(answer, |deadline_ms, _| deadline_ms))
}

fn expiry_of<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes], shape: Shape) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Expiry { key }, shape))
}

/// The number that a client gets of a deadline and the time until then.
fn time(answer: Answer, choose: fn(u64, u64) -> u64) -> Outcome {
    let Answer::Expiry(expiry) = answer else { return Err(CommandError::Mismatch) };
    Ok(Reply::Integer(match expiry {
        Expiry::Missing => -2,
        Expiry::Never => -1,
        Expiry::At { deadline_ms, left_ms } => choose(deadline_ms, left_ms) as i64,
    }))
}

/// Redis rounds to the nearest second.
const fn in_seconds(milliseconds: u64) -> u64 {
    milliseconds.saturating_add(500) / 1_000
}

fn number_of(answer: Answer) -> Outcome {
    answer::integer(answer).map(Reply::Integer)
}
