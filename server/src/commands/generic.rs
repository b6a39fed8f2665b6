//! Keys whatever their values: DEL, UNLINK, EXISTS, TYPE.

use super::answer;
use super::context::{Context, KeysByRange, Outcome};
use crate::backend::Backend;
use crate::kv::{Command, Query};
use crate::resp::Reply;
use bytes::Bytes;

/// DEL key [key …], and UNLINK, which is the same here; key by key across ranges
pub(super) async fn del<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let shares = KeysByRange::new(context, arguments).shares.into_iter();
    let commands = shares.map(|share| (share.range, Command::Delete { keys: share.keys }));
    let removed = answer::sum(context.propose_each(commands.collect()).await?)?;
    Ok(Reply::Integer(removed))
}

/// EXISTS key [key …]: a key that is named twice counts twice
pub(super) async fn exists<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let shares = KeysByRange::new(context, arguments).shares.into_iter();
    let queries = shares.map(|share| (share.range, Query::Exists { keys: share.keys }));
    let there = answer::sum(context.read_each(queries.collect()).await?)?;
    Ok(Reply::Integer(there))
}

/// TYPE key
pub(super) async fn key_type<B: Backend>(context: &Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let (range, key) = context.locate(&arguments[0]);
    let there = answer::integer(context.read(range, &Query::Exists { keys: vec![key] }).await?)?;
    Ok(Reply::Status(if there > 0 { "string" } else { "none" }))
}
