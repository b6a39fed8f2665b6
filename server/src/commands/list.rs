//! Lists that are sent in parts: no connection holds the whole of a large one, however slowly it is
//! read.

use super::context::{Context, Outcome};
use super::error::CommandError;
use crate::backend::{Backend, RangeId};
use crate::client_memory::{Reservation, UNCOUNTED_BYTES};
use crate::kv::{Answer, Query};
use crate::resp::Reply;
use crate::session::Element;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// A part of a list, beside its last element.
const PART_BYTES: usize = 256 * 1024;

/// The reply of a list. A small one is sent in one piece.
pub(super) fn reply<B>(context: &mut Context<'_, B>, elements: VecDeque<Element>) -> Outcome {
    let bytes: usize = elements.iter().map(Element::bytes).sum();
    let is_here = |element: &Element| !matches!(element, Element::Key(..));
    if bytes <= UNCOUNTED_BYTES && elements.iter().all(is_here) {
        let value = |element| match element {
            Element::Value(value) | Element::Ahead(_, _, value) => Reply::optional(value),
            Element::Key(..) => Reply::Null,
        };
        return Ok(Reply::Array(elements.into_iter().map(value).collect()));
    }
    let head = Reply::ArrayHead(elements.len());
    context.session.elements = elements.into();
    if context.session.reply_memory.is_none() {
        context.session.reply_memory = context.server.memory.reserve(bytes);
        if context.session.reply_memory.is_none() {
            forget_ahead(context);
        }
    }
    Ok(head)
}

/// The reply of a list of values, for which there is room in `memory`.
pub(super) fn reply_of<B>(
    context: &mut Context<'_, B>,
    values: Vec<Bytes>,
    memory: Reservation,
) -> Outcome {
    context.session.reply_memory = Some(memory);
    reply(context, values.into_iter().map(|value| Element::Value(Some(value))).collect())
}

/// Appends the next elements of the list to `output`, a part of it. The output was empty, so that a
/// connection which waits for room here holds nothing that others wait for.
///
/// # Errors
/// When an element can't be fetched. The reply can't be finished then.
pub async fn next_part<B: Backend>(
    context: &mut Context<'_, B>,
    output: &mut BytesMut,
) -> Result<(), CommandError> {
    while output.len() < PART_BYTES
        && let Some(element) = context.session.elements.pop()
    {
        let bytes = element.bytes();
        let (value, memory) = match element {
            Element::Value(value) | Element::Ahead(_, _, value) => (value, None),
            // What was gathered so far leaves first.
            Element::Key(range, key) if !output.is_empty() => {
                context.session.elements.put_back(Element::Key(range, key));
                return Ok(());
            }
            Element::Key(range, key) => {
                let get = |limit_bytes| Query::Get { key: key.clone(), limit_bytes };
                fetch(context, range, get).await?
            }
        };
        Reply::optional(value).encode(context.session.protocol, output);
        // Room for what was fetched is held until the connection counts its output.
        if let Some(memory) = memory {
            context.session.reply_memory = Some(memory);
        } else if let Some(memory) = &mut context.session.reply_memory {
            memory.shrink(bytes);
        }
    }
    Ok(())
}

/// Fetches a value of any length, for which it waits until there is room.
async fn fetch<B: Backend>(
    context: &mut Context<'_, B>,
    range: RangeId,
    query: impl Fn(u64) -> Query,
) -> Result<(Option<Bytes>, Option<Reservation>), CommandError> {
    let (mut limit, mut memory) = (UNCOUNTED_BYTES, None);
    loop {
        match context.read(range, &query(limit as u64)).await? {
            Answer::Value(value) => return Ok((value, memory)),
            Answer::Withheld { bytes } => {
                limit = usize::try_from(bytes).unwrap_or(usize::MAX);
                drop(memory.take());
                memory = context.server.memory.reserve(limit);
                if memory.is_none() {
                    forget_ahead(context);
                    memory = Some(context.server.memory.reserve_in_time(limit).await);
                }
            }
            _ => return Err(CommandError::Mismatch),
        }
    }
}

/// Drops what was fetched ahead, so that others get its room.
fn forget_ahead<B>(context: &mut Context<'_, B>) {
    context.session.elements.forget_ahead();
    context.session.reply_memory = None;
}
