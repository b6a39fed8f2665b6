//! Pages of large results. Room for a page is reserved before it is asked for, since it takes
//! memory on the node that answers and on the way. So few pages are under way while there is
//! little room.

use super::context::Context;
use super::error::CommandError;
use crate::backend::{Backend, RangeId};
use crate::client_memory::{Reservation, UNCOUNTED_BYTES};
use crate::kv::{Answer, Query};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::timeout;

/// The most pages of one command that are under way.
const MAX_UNDER_WAY: usize = 128;

/// How long a command waits for the room for its first page.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// The memory for what a command has found, and for the pages that it asks for.
pub(super) struct PageMemory {
    reservation: Reservation,
    /// What is reserved. What is held of it is less by no more than what nobody counts.
    reserved: usize,
    /// What the command holds, in bytes.
    held: usize,
    /// What all clients may hold.
    max_bytes: usize,
}

impl PageMemory {
    /// Memory for a command that holds nothing yet.
    pub(super) fn new<B>(context: &Context<'_, B>) -> Result<Self, CommandError> {
        let memory = &context.server.memory;
        let reservation = memory.reserve(0).ok_or(CommandError::NoMemory)?;
        Ok(Self { reservation, reserved: 0, held: 0, max_bytes: memory.max_bytes() })
    }

    /// Asks each range its query, whose answer has `page_bytes` at the most; the answers come in
    /// the order of `queries`, and are held from then on.
    pub(super) async fn read_each<B: Backend>(
        &mut self,
        context: &Context<'_, B>,
        mut queries: Vec<(RangeId, Query)>,
        page_bytes: usize,
    ) -> Result<Vec<Answer>, CommandError> {
        let mut answers = Vec::with_capacity(queries.len());
        while !queries.is_empty() {
            let pages = self.make_room(context, queries.len(), page_bytes).await?;
            let rest = queries.split_off(pages);
            answers.extend(self.read_reserved(context, queries).await?);
            queries = rest;
        }
        Ok(answers)
    }

    /// The same as far as there is room without a wait: the answers to the first queries.
    pub(super) async fn read_some<B: Backend>(
        &mut self,
        context: &Context<'_, B>,
        mut queries: Vec<(RangeId, Query)>,
        page_bytes: usize,
    ) -> Result<Vec<Answer>, CommandError> {
        let mut answers = Vec::with_capacity(queries.len());
        while !queries.is_empty()
            && let Some(pages) = self.find_room(queries.len(), page_bytes)
        {
            let rest = queries.split_off(pages);
            answers.extend(self.read_reserved(context, queries).await?);
            queries = rest;
        }
        Ok(answers)
    }

    async fn read_reserved<B: Backend>(
        &mut self,
        context: &Context<'_, B>,
        queries: Vec<(RangeId, Query)>,
    ) -> Result<Vec<Answer>, CommandError> {
        let answers = context.read_each(queries).await?;
        self.held += answers.iter().map(bytes_of).sum::<usize>();
        self.settle();
        Ok(answers)
    }

    /// The value of a stored key, whatever its length.
    pub(super) async fn read_value<B: Backend>(
        &mut self,
        context: &Context<'_, B>,
        range: RangeId,
        key: &Bytes,
    ) -> Result<Option<Bytes>, CommandError> {
        let mut limit_bytes = UNCOUNTED_BYTES as u64;
        loop {
            let page_bytes = usize::try_from(limit_bytes).unwrap_or(usize::MAX);
            self.make_room(context, 1, page_bytes).await?;
            let get = Query::Get { key: key.clone(), limit_bytes };
            let answer = context.read(range, &get).await?;
            self.held += bytes_of(&answer);
            self.settle();
            match answer {
                Answer::Value(value) => return Ok(value),
                Answer::Withheld { bytes } => limit_bytes = bytes,
                _ => return Err(CommandError::Mismatch),
            }
        }
    }

    /// Notes that `bytes` are not held any more.
    pub(super) fn release(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
        self.settle();
    }

    /// Room for what is held.
    pub(super) fn into_reservation(self) -> Reservation {
        self.reservation
    }

    /// Makes room for as many pages as there is room for, one at least. Only who holds nothing that
    /// counts waits for others.
    async fn make_room<B: Backend>(
        &mut self,
        context: &Context<'_, B>,
        wanted: usize,
        page_bytes: usize,
    ) -> Result<usize, CommandError> {
        if let Some(pages) = self.find_room(wanted, page_bytes) {
            return Ok(pages);
        }
        if self.reserved > 0 {
            let limit = context.reply_limit();
            let is_too_long = self.reserved.saturating_add(page_bytes) > limit;
            return Err(match is_too_long {
                true => CommandError::ReplyTooLong { limit },
                false => CommandError::NoMemory,
            });
        }
        let waited = timeout(WAIT_LIMIT, context.server.memory.reserve_in_time(page_bytes)).await;
        self.reservation = waited.map_err(|_| CommandError::NoMemory)?;
        self.reserved = page_bytes;
        Ok(1)
    }

    /// Takes room for as many pages as there is room for, if there is any.
    fn find_room(&mut self, wanted: usize, page_bytes: usize) -> Option<usize> {
        // One page is let in alone, however large it is.
        let most = (self.max_bytes / page_bytes.max(1)).max(1);
        let mut pages = wanted.min(MAX_UNDER_WAY).min(most);
        while pages > 0 {
            let bytes = page_bytes.saturating_mul(pages);
            if self.held.saturating_add(bytes) <= UNCOUNTED_BYTES {
                return Some(pages);
            }
            if self.reservation.grow(bytes) {
                self.reserved += bytes;
                return Some(pages);
            }
            pages /= 2;
        }
        None
    }

    /// Gives back what is reserved beyond what is held and counts.
    fn settle(&mut self) {
        let counted = if self.held > UNCOUNTED_BYTES { self.held } else { 0 };
        if counted <= self.reserved {
            self.reservation.shrink(self.reserved - counted);
            self.reserved = counted;
        } else if self.reservation.grow(counted - self.reserved) {
            self.reserved = counted;
        }
    }
}

/// What an answer holds, in bytes.
fn bytes_of(answer: &Answer) -> usize {
    let of_values =
        |values: &[Option<Bytes>]| values.iter().flatten().map(Bytes::len).sum::<usize>();
    match answer {
        Answer::Value(value) => value.as_ref().map_or(0, Bytes::len),
        Answer::Values(values) => of_values(values),
        Answer::Page { keys, .. } | Answer::Listing { keys, .. } | Answer::Stretch { keys, .. } => {
            keys.iter().map(Bytes::len).sum()
        }
        Answer::Pairs { pairs, .. } => {
            pairs.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len)).sum()
        }
        _ => 0,
    }
}
