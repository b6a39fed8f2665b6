//! Keys whatever their values: DEL, UNLINK, EXISTS, TOUCH, TYPE, RENAME, RENAMENX, COPY, MOVE,
//! RANDOMKEY.

use super::answer;
use super::arguments::{self, is};
use super::context::{Context, KeysByRange, Outcome, RangeShare};
use super::error::CommandError;
use super::plan::{Plan, Planned, Shape, Step};
use crate::backend::{Backend, RangeId};
use crate::kv::{Answer, Command, Query};
use crate::layout::Partition;
use crate::resp::Reply;
use bytes::Bytes;
use std::hash::{BuildHasher, RandomState};

/// DEL key [key …], and UNLINK, which is the same here; key by key across ranges
pub(super) fn del<'a, B: Backend>(
    context: &'a Context<'_, B>,
    arguments: &[Bytes],
) -> Result<Step<'a>, CommandError> {
    let shares = KeysByRange::new(context, arguments).shares.into_iter();
    let delete = |share: RangeShare| (share.range, Command::Delete { keys: share.keys });
    let mut commands: Vec<_> = shares.map(delete).collect();
    if commands.len() == 1
        && let Some((range, command)) = commands.pop()
    {
        return Ok(Step::Store(Plan::write(range, command, number)));
    }
    Ok(Step::alone(async move {
        let removed = answer::sum(context.propose_each(commands).await?)?;
        Ok(Reply::Integer(removed))
    }))
}

/// EXISTS key [key …], and TOUCH, which is the same where no access times are kept: a key that is
/// named twice counts twice
pub(super) fn exists<'a, B: Backend>(
    context: &'a Context<'_, B>,
    arguments: &[Bytes],
) -> Result<Step<'a>, CommandError> {
    let shares = KeysByRange::new(context, arguments).shares.into_iter();
    let exists = |share: RangeShare| (share.range, Query::Exists { keys: share.keys });
    let mut queries: Vec<_> = shares.map(exists).collect();
    if queries.len() == 1
        && let Some((range, query)) = queries.pop()
    {
        return Ok(Step::Store(Plan::read(range, query, number)));
    }
    Ok(Step::alone(async move {
        let there = answer::sum(context.read_each(queries).await?)?;
        Ok(Reply::Integer(there))
    }))
}

/// TYPE key
pub(super) fn key_type<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    let (range, key) = context.locate(&arguments[0]);
    Ok(Plan::read(range, Query::Exists { keys: vec![key] }, |answer| {
        let there = answer::integer(answer)? > 0;
        Ok(Reply::Status(if there { "string" } else { "none" }))
    }))
}

/// RENAME key newkey
pub(super) fn rename<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    move_value(context, arguments, false, |answer| number(answer).map(|_| Reply::OK))
}

/// RENAMENX key newkey
pub(super) fn rename_nx<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Planned {
    move_value(context, arguments, true, number)
}

fn move_value<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
    only_if_missing: bool,
    shape: Shape,
) -> Planned {
    let (range, from, to) = both(context, arguments)?;
    Ok(Plan::write(range, Command::Rename { from, to, only_if_missing }, shape))
}

/// The longest value that COPY copies without asking how long it is. Memory for so much is set
/// aside.
const COPIED_UNASKED_BYTES: u64 = 1_024;

/// COPY source destination [DB destination-db] [REPLACE]
pub(super) fn copy<'a, B: Backend>(
    context: &'a Context<'_, B>,
    arguments: &[Bytes],
) -> Result<Step<'a>, CommandError> {
    let (mut to_database, mut replace) = (context.session.database, false);
    let mut options = arguments[2..].iter();
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "DB")
            && let Some(number) = options.next()
        {
            to_database = arguments::database(number)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if to_database == context.session.database && arguments[0] == arguments[1] {
        return Err(CommandError::SameObject);
    }
    let (range, from, to) = both(context, arguments)?;
    let command = move |limit_bytes| {
        let (from, to) = (from.clone(), to.clone());
        Command::Copy { from, to, to_database, replace, limit_bytes }
    };
    Ok(Step::alone(async move {
        let mut limit_bytes = COPIED_UNASKED_BYTES;
        loop {
            let answers = context.propose_each(vec![(range, command(limit_bytes))]).await?;
            match answers.into_iter().next() {
                Some(Answer::Withheld { bytes }) if bytes > limit_bytes => limit_bytes = bytes,
                Some(answer) => return number(answer),
                None => return Err(CommandError::Mismatch),
            }
        }
    }))
}

/// Two keys that must lie in one range: nothing ties the logs of two together.
fn both<B: Backend>(
    context: &Context<'_, B>,
    arguments: &[Bytes],
) -> Result<(RangeId, Bytes, Bytes), CommandError> {
    let (range, from) = context.locate(&arguments[0]);
    match context.locate(&arguments[1]) {
        (other, to) if other == range => Ok((range, from, to)),
        _ => Err(CommandError::CrossRange),
    }
}

/// MOVE key db
pub(super) fn move_key<B>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    if arguments::database(&arguments[1])? == context.session.database {
        return Err(CommandError::SameObject);
    }
    let reason = "MOVE is not supported; COPY with DB and DEL do the same in two steps";
    Err(CommandError::Other(reason.into()))
}

/// RANDOMKEY: from the first range with keys, behind one that is drawn
pub(super) async fn random_key<B: Backend>(context: &Context<'_, B>) -> Outcome {
    let ranges = context.backend.ranges();
    let seed = RandomState::new().hash_one(0);
    let partition = context.backend.partition();
    let (mut asked, mut wave) = (0, 1);
    while asked < ranges {
        let places = asked..ranges.min(asked + wave);
        let first = (seed % ranges as u64) as usize;
        let queries = places.map(|place| {
            let range = RangeId((first + place) % ranges);
            let seed = seed_within(partition, &context.backend.bounds(range), seed);
            (range, Query::Random { partition, seed })
        });
        for answer in context.read_each(queries.collect()).await? {
            if let Some(key) = answer::value(answer)? {
                return Ok(Reply::Bulk(key));
            }
        }
        (asked, wave) = (asked + wave, (wave * 2).min(MAX_WAVE));
    }
    Ok(Reply::Null)
}

/// The seed with a slot of the range in place of the slot that it draws of all slots. Most of these
/// are in other ranges.
fn seed_within(partition: Partition, (start, end): &(Bytes, Option<Bytes>), seed: u64) -> u64 {
    let slot_of = |key: &Bytes| u64::from(partition.stored_slot(key));
    let first = slot_of(start);
    let slots = end.as_ref().map_or(1 << 16, slot_of).saturating_sub(first).max(1);
    let slot = first + (((seed & 0xffff) * slots) >> 16);
    (seed & !0xffff) | slot
}

/// The most ranges that are asked at once for a random key.
const MAX_WAVE: usize = 64;

/// The reply for an answer that is a number.
fn number(answer: Answer) -> Outcome {
    answer::integer(answer).map(Reply::Integer)
}
