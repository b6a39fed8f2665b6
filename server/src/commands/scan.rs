//! SCAN and KEYS.
//!
//! The cursor of SCAN holds no state on the server. It names the place to go on from (see
//! [`crate::layout`]), so any node can take the next step, also after a restart. In a hash layout
//! it is the place itself. In a range layout it is the ordinal of the range shifted left by 32,
//! plus the place within the range. A key that exists from the first step to the last is reported
//! at least once. In a range layout this holds only if the map of ranges does not change meanwhile.

use super::answer;
use super::arguments::{self, is};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::list;
use super::pages::PageMemory;
use crate::backend::{Backend, RangeId};
use crate::kv::{self, PAGE_BYTES, Query};
use crate::layout::{Partition, in_slot};
use crate::resp::Reply;
use bytes::Bytes;

/// How many keys a step looks at by default (COUNT).
const DEFAULT_COUNT: u64 = 10;

/// The most keys that a step looks at, whatever its COUNT, so that no query holds up its group.
const MAX_COUNT: u64 = 16 * 1024;

/// The most ranges that are asked at once for one step.
const MAX_WAVE: usize = 64;

/// How many keys of a range are looked at in one query of KEYS, so that none holds up its group.
pub(super) const KEYS_A_QUERY: u64 = 16 * 1024;

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
pub(super) async fn scan<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let cursor = cursor(&arguments[0]).ok_or(CommandError::Cursor)?;
    let mut walk = Walk::new(context, cursor, Options::parse(&arguments[1..])?)?;
    let next = walk.step().await?;
    let Walk { options, keys, memory, .. } = walk;
    let keys = if options.strings { keys } else { Vec::new() };
    context.session.reply_memory = Some(memory.into_reservation());
    Ok(Reply::Array(vec![Reply::text(next.to_string()), Reply::bulks(keys)]))
}

/// KEYS pattern
pub(super) async fn keys<B: Backend>(context: &mut Context<'_, B>, arguments: &[Bytes]) -> Outcome {
    let limit = context.reply_limit();
    let mut memory = PageMemory::new(context)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    let mut pending: Vec<(RangeId, Option<Bytes>)> =
        (0..context.backend.ranges()).map(|range| (RangeId(range), None)).collect();
    while !pending.is_empty() {
        let queries = pending.iter().map(|(range, after)| {
            let query = Query::Keys {
                partition: context.backend.partition(),
                after: after.clone(),
                pattern: arguments[0].clone(),
                limit_keys: KEYS_A_QUERY,
            };
            (*range, query)
        });
        let queries = queries.collect();
        let answers = memory.read_each(context, queries, page_bytes(context)).await?;
        let mut unfinished = Vec::new();
        for ((range, _), answer) in pending.into_iter().zip(answers) {
            let kv::Answer::Listing { keys, last } = answer else {
                return Err(CommandError::Mismatch);
            };
            bytes += keys.iter().map(Bytes::len).sum::<usize>();
            found.extend(keys);
            if last.is_some() {
                unfinished.push((range, last));
            }
        }
        if bytes > limit {
            return Err(CommandError::ReplyTooLong { limit });
        }
        pending = unfinished;
    }
    list::reply_of(context, found, memory.into_reservation())
}

/// What a page of keys has at the most: the last one may be as long as a key can be.
pub(super) fn page_bytes<B: Backend>(context: &Context<'_, B>) -> usize {
    PAGE_BYTES + context.backend.limits().max_key_bytes
}

/// Reads a cursor as Redis does, with C's `strtoul`. An empty text is zero, and a zero byte ends
/// the text. A sign may stand before the digits, and a negative number wraps around.
fn cursor(text: &[u8]) -> Option<u64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { value.wrapping_neg() } else { value })
}

struct Options {
    count: u64,
    pattern: Option<Bytes>,
    /// Whether the TYPE option names strings, the only type there is.
    strings: bool,
}

impl Options {
    fn parse(arguments: &[Bytes]) -> Result<Self, CommandError> {
        let mut options = Self { count: DEFAULT_COUNT, pattern: None, strings: true };
        let mut rest = arguments;
        while let Some(option) = rest.first() {
            rest = match rest {
                [_, value, rest @ ..] if is(option, "COUNT") => {
                    options.count = count(value)?;
                    rest
                }
                [_, value, rest @ ..] if is(option, "MATCH") => {
                    options.pattern = Some(value.clone());
                    rest
                }
                [_, value, rest @ ..] if is(option, "TYPE") => {
                    options.strings = is(value, "string");
                    rest
                }
                _ if is(option, "NOVALUES") => {
                    let reason = "NOVALUES option can only be used in HSCAN";
                    return Err(CommandError::Other(reason.into()));
                }
                _ => return Err(CommandError::Syntax),
            };
        }
        Ok(options)
    }
}

fn count(argument: &[u8]) -> Result<u64, CommandError> {
    match u64::try_from(arguments::integer(argument)?) {
        Ok(0) | Err(_) => Err(CommandError::Syntax),
        Ok(count) => Ok(count.min(MAX_COUNT)),
    }
}

/// A slot of many keys is walked in at most about this many steps of SCAN, but for the limit of
/// what a step reports.
const LARGE_SLOT_STEPS: u64 = 64;
const MAX_LARGE_STEP: u64 = 8 * 1024;

/// The last place of all in a hash layout.
const LAST_PLACE: u64 = (1 << 48) - 1;

/// Whether the answer to a query of SCAN says that the slot there has too many keys for it.
fn is_of_large_slot(answer: &kv::Answer, from: u64) -> bool {
    matches!(answer, kv::Answer::Page { keys, next, .. } if keys.is_empty() && *next == Some(from))
}

/// One step of SCAN, over as many ranges as it takes to look at `count` keys.
struct Walk<'a, 'b, B> {
    context: &'a Context<'b, B>,
    partition: Partition,
    options: Options,
    /// The range to look at next, and the place in it.
    range: usize,
    from: u64,
    keys: Vec<Bytes>,
    /// The bytes of the keys.
    bytes: usize,
    examined: u64,
    memory: PageMemory,
}

impl<'a, 'b, B: Backend> Walk<'a, 'b, B> {
    fn new(
        context: &'a Context<'b, B>,
        cursor: u64,
        options: Options,
    ) -> Result<Self, CommandError> {
        let partition = context.backend.partition();
        let (range, from) = match partition {
            Partition::Hash | Partition::Slots => {
                let slot = ((cursor >> 32) & 0xffff) as u16;
                (context.backend.range_of(&in_slot(slot, b"")).0, cursor)
            }
            Partition::Range => ((cursor >> 32) as usize, cursor & 0xffff_ffff),
        };
        let (keys, memory) = (Vec::new(), PageMemory::new(context)?);
        Ok(Self { context, partition, options, range, from, keys, bytes: 0, examined: 0, memory })
    }

    /// Walks until enough keys have been looked at. Returns the next cursor, 0 at the end. Ranges
    /// are queried in waves that double, so that many empty ranges cost few round trips.
    async fn step(&mut self) -> Result<u64, CommandError> {
        let ranges = self.context.backend.ranges();
        let mut wave = 1;
        while self.range < ranges {
            let end = ranges.min(self.range + wave);
            let queries = (self.range..end).map(|range| (RangeId(range), self.query(range)));
            let queries = queries.collect();
            for answer in self.read_each(queries).await? {
                if is_of_large_slot(&answer, self.from) {
                    return self.walk_large_slot(ranges).await;
                }
                if let Some(cursor) = self.take(answer, ranges)? {
                    self.finish_slot(cursor, ranges).await?;
                    return Ok(cursor);
                }
            }
            wave = (wave * 2).min(MAX_WAVE);
        }
        Ok(0)
    }

    async fn read_each(
        &mut self,
        queries: Vec<(RangeId, Query)>,
    ) -> Result<Vec<kv::Answer>, CommandError> {
        self.memory.read_each(self.context, queries, page_bytes(self.context)).await
    }

    fn add(&mut self, keys: Vec<Bytes>) {
        self.bytes += keys.iter().map(Bytes::len).sum::<usize>();
        self.keys.extend(keys);
    }

    fn query(&self, range: usize) -> Query {
        let from = match self.partition {
            Partition::Range if range > self.range => 0,
            Partition::Range | Partition::Hash | Partition::Slots => self.from,
        };
        Query::Scan {
            partition: self.partition,
            from,
            until: None,
            count: self.options.count.saturating_sub(self.examined),
            pattern: self.options.pattern.clone(),
        }
    }

    /// Takes in the answer of the current range. Returns the cursor if the step ends there.
    fn take(&mut self, answer: kv::Answer, ranges: usize) -> Result<Option<u64>, CommandError> {
        let kv::Answer::Page { keys, examined, next } = answer else {
            return Err(CommandError::Mismatch);
        };
        self.add(keys);
        self.examined += examined;
        if let Some(place) = next {
            return Ok(Some(match self.partition {
                Partition::Hash | Partition::Slots => place,
                Partition::Range => (self.range as u64) << 32 | place,
            }));
        }
        self.range += 1;
        if self.partition == Partition::Range {
            self.from = 0;
        }
        let goes_on = self.examined < self.options.count && self.bytes < PAGE_BYTES;
        if goes_on || self.range == ranges {
            return Ok(None);
        }
        Ok(self.start_of_range())
    }

    /// A step within a slot of so many keys that no query walks all of them. Their places are
    /// spread evenly, so the step reports a stretch of places that has about as many keys as are
    /// wanted.
    async fn walk_large_slot(&mut self, ranges: usize) -> Result<u64, CommandError> {
        let count = self.context.read(RangeId(self.range), &Query::Count).await?;
        let keys = u64::try_from(answer::integer(count)?).unwrap_or(0).max(1);
        let wanted = self.options.count.max(keys / LARGE_SLOT_STEPS).min(MAX_LARGE_STEP);
        let slot_end = ((self.from >> 32) + 1) << 32;
        let until = slot_end.min(self.from + ((wanted << 32) / keys).max(1));
        self.walk_places(RangeId(self.range), self.from, until).await?;
        if self.partition == Partition::Range {
            let is_over = until == slot_end;
            let (range, place) = if is_over { (self.range + 1, 0) } else { (self.range, until) };
            return Ok(if range == ranges { 0 } else { (range as u64) << 32 | place });
        }
        self.finish_slot(until, ranges).await?;
        Ok(if until > LAST_PLACE { 0 } else { until })
    }

    /// Goes over all keys of a slot of a range, some at a time, and takes those whose places lie
    /// between these.
    async fn walk_places(
        &mut self,
        range: RangeId,
        from: u64,
        until: u64,
    ) -> Result<(), CommandError> {
        let mut after = None;
        loop {
            let query = Query::Places {
                partition: self.partition,
                from,
                until,
                after,
                pattern: self.options.pattern.clone(),
                limit_keys: KEYS_A_QUERY,
            };
            let answers = self.read_each(vec![(range, query)]).await?;
            let Some(kv::Answer::Stretch { keys, last, .. }) = answers.into_iter().next() else {
                return Err(CommandError::Mismatch);
            };
            self.add(keys);
            after = last;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// A slot may lie in several ranges. A step that ends at a place within the slot must have
    /// passed that place in each of these ranges. So the slot's other ranges are queried up to that
    /// place.
    async fn finish_slot(&mut self, cursor: u64, ranges: usize) -> Result<(), CommandError> {
        let rest = (self.range + 1..ranges).take_while(|range| !self.starts_slot(*range));
        let mut rest: Vec<_> = rest.map(|range| (RangeId(range), self.from)).collect();
        while !rest.is_empty() {
            let query = |&(range, from)| {
                let query = Query::Scan {
                    partition: self.partition,
                    from,
                    until: Some(cursor),
                    count: u64::MAX,
                    pattern: self.options.pattern.clone(),
                };
                (range, query)
            };
            let queries = rest.iter().map(query).collect();
            let mut unfinished = Vec::new();
            for ((range, from), answer) in rest.into_iter().zip(self.read_each(queries).await?) {
                if is_of_large_slot(&answer, from) {
                    self.walk_places(range, from, cursor).await?;
                    continue;
                }
                let kv::Answer::Page { keys, next, .. } = answer else {
                    return Err(CommandError::Mismatch);
                };
                self.add(keys);
                unfinished.extend(next.filter(|next| *next < cursor).map(|next| (range, next)));
            }
            rest = unfinished;
        }
        Ok(())
    }

    /// The cursor of the start of the current range. None if the range starts in the middle of a
    /// slot: a cursor can only name the slot's beginning, which lies in the range before. A walk
    /// that goes back there each time would never end.
    fn start_of_range(&self) -> Option<u64> {
        if self.partition == Partition::Range {
            return Some((self.range as u64) << 32);
        }
        let (start, _) = self.context.backend.bounds(RangeId(self.range));
        let slot = u64::from(self.partition.stored_slot(&start));
        self.starts_slot(self.range).then_some(slot << 32)
    }

    /// Whether a range starts where a slot does. In a range layout there are no slots to cut.
    fn starts_slot(&self, range: usize) -> bool {
        let (start, _) = self.context.backend.bounds(RangeId(range));
        match self.partition {
            Partition::Hash | Partition::Slots => {
                start <= in_slot(self.partition.stored_slot(&start), b"")
            }
            Partition::Range => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cursor;

    #[test]
    fn cursors_are_read_as_by_strtoul() {
        for (text, expected) in [
            (&b""[..], Some(0)),
            (b"0", Some(0)),
            (b"007", Some(7)),
            (b"+7", Some(7)),
            (b"-1", Some(u64::MAX)),
            (b"7\0x", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"-", None),
            (b"--1", None),
            (b" 1", None),
            (b"1 ", None),
            (b"0x1", None),
        ] {
            assert_eq!(cursor(text), expected, "{}", text.escape_ascii());
        }
    }
}
