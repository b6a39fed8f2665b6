//! RANGE, which Redis does not have: keys and values in key order.
//!
//! The reply to `RANGE start end [LIMIT n]` is a flat array: key, value, key, value … It has the
//! keys from `start` (inclusive) to `end` (exclusive), compared as bytes. An empty `end` means no
//! end; an empty `start` is the smallest key there is. Each range is read linearizably, but at its
//! own moment, so the reply is no snapshot of the whole.
//!
//! In a range layout the ranges follow one another. In a hash layout every range holds keys from
//! everywhere, so all ranges are merged. Each range hands out small batches; the next batch is
//! fetched when one is used up. A value that is too long for a batch is fetched alone when its turn
//! comes. So a short reply never costs a long value of every range.

use super::arguments::{self, is};
use super::context::{Context, Outcome};
use super::error::CommandError;
use super::list;
use super::pages::PageMemory;
use crate::backend::{Backend, RangeId};
use crate::kv::{self, Query};
use crate::layout::Partition;
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// The most ranges of a range layout that are asked at once.
const MAX_WAVE: usize = 64;

/// The most pairs of one batch.
const MAX_BATCH_PAIRS: u64 = 4096;

/// The most bytes that the batches of one command may hold together, shared among its ranges.
const BATCHES_BYTES: usize = 16 * 1024 * 1024;

/// The room for a pair, if few are wanted. Larger values are fetched alone.
const PAIR_BYTES: usize = 64 * 1024;

/// The least that a batch may hold, in bytes, however many ranges share.
const MIN_BATCH_BYTES: usize = 16 * 1024;

/// RANGE start end [LIMIT n]
pub(super) async fn range<B: Backend>(
    context: &mut Context<'_, B>,
    arguments: &[Bytes],
) -> Outcome {
    let limit_pairs = match &arguments[2..] {
        [] => u64::MAX,
        [option, limit] if is(option, "LIMIT") => {
            let limit = arguments::integer(limit)?;
            u64::try_from(limit).map_err(|_| CommandError::NotPositive)?
        }
        _ => return Err(CommandError::Syntax),
    };
    let wanted = Wanted {
        start: arguments[0].clone(),
        end: (!arguments[1].is_empty()).then(|| arguments[1].clone()),
        missing_pairs: limit_pairs,
        bytes: 0,
        limit_bytes: context.reply_limit(),
        pairs: Vec::new(),
        memory: PageMemory::new(context)?,
    };
    let wanted = match context.backend.partition() {
        _ if wanted.is_empty() => wanted,
        Partition::Hash | Partition::Slots => merge(context, wanted).await?,
        Partition::Range => walk(context, wanted).await?,
    };
    list::reply_of(context, wanted.pairs, wanted.memory.into_reservation())
}

/// Merges all ranges.
async fn merge<B: Backend>(
    context: &Context<'_, B>,
    mut wanted: Wanted,
) -> Result<Wanted, CommandError> {
    let ranges = context.backend.ranges();
    // Keys are spread evenly, so a batch of twice a range's share rarely needs a second one.
    let share = wanted.missing_pairs / ranges as u64;
    let mut sources: Vec<Source> = (0..ranges)
        .map(|range| Source::new(RangeId(range), share.saturating_mul(2).saturating_add(1)))
        .collect();
    while wanted.missing_pairs > 0 {
        refill(context, &mut wanted, &mut sources).await?;
        let mut heads: BinaryHeap<Reverse<(Bytes, usize)>> = BinaryHeap::new();
        heads.extend(sources.iter().enumerate().filter_map(|(i, source)| source.head(i)));
        while let Some(Reverse((_, source))) = heads.pop()
            && wanted.missing_pairs > 0
        {
            wanted.take_from(context, &mut sources[source]).await?;
            match sources[source].head(source) {
                Some(head) => heads.push(head),
                // The source's next key may be smaller than all heads, so fetch it before going on.
                None if sources[source].more => break,
                None => {}
            }
        }
        if sources.iter().all(Source::is_done) {
            break;
        }
    }
    Ok(wanted)
}

/// Walks the ranges one behind the other. Some are queried ahead, so that many empty ranges cost
/// few round trips.
async fn walk<B: Backend>(
    context: &Context<'_, B>,
    mut wanted: Wanted,
) -> Result<Wanted, CommandError> {
    let first = context.backend.range_of(&wanted.start).0;
    let last = match &wanted.end {
        Some(end) => context.backend.range_of(end).0,
        None => context.backend.ranges() - 1,
    };
    let mut ranges = first..=last;
    let mut wave = 1;
    loop {
        let batch = wanted.missing_pairs;
        let mut sources: Vec<Source> =
            ranges.by_ref().take(wave).map(|range| Source::new(RangeId(range), batch)).collect();
        if sources.is_empty() {
            return Ok(wanted);
        }
        refill(context, &mut wanted, &mut sources).await?;
        for source in &mut sources {
            while !source.is_done() && wanted.missing_pairs > 0 {
                if source.batch.is_empty() {
                    refill(context, &mut wanted, std::slice::from_mut(source)).await?;
                } else {
                    wanted.take_from(context, source).await?;
                }
            }
            if wanted.missing_pairs == 0 {
                return Ok(wanted);
            }
        }
        wave = (wave * 2).min(MAX_WAVE);
    }
}

/// Fetches the next batch of every source that has used up its last one.
async fn refill<B: Backend>(
    context: &Context<'_, B>,
    wanted: &mut Wanted,
    sources: &mut [Source],
) -> Result<(), CommandError> {
    let all_bytes = BATCHES_BYTES.min(context.server.memory.max_bytes() / 4);
    let most_pairs = sources.iter().map(|source| source.next_pairs).max().unwrap_or(0);
    let likely_bytes = usize::try_from(most_pairs).unwrap_or(usize::MAX).saturating_mul(PAIR_BYTES);
    let limit_bytes = (all_bytes / sources.len()).min(likely_bytes).max(MIN_BATCH_BYTES);
    let empty: Vec<usize> =
        (0..sources.len()).filter(|&i| sources[i].batch.is_empty() && sources[i].more).collect();
    let queries = empty.iter().map(|&i| {
        let source = &sources[i];
        let query = Query::Ordered {
            partition: context.backend.partition(),
            start: source.last.clone().unwrap_or_else(|| wanted.start.clone()),
            after_start: source.last.is_some(),
            end: wanted.end.clone(),
            limit_pairs: source.next_pairs.min(MAX_BATCH_PAIRS).min(wanted.missing_pairs),
            limit_bytes: limit_bytes as u64,
        };
        (source.range, query)
    });
    let queries = queries.collect();
    let page_bytes = limit_bytes + context.backend.limits().max_key_bytes;
    let answers = wanted.memory.read_each(context, queries, page_bytes).await?;
    for (i, answer) in empty.into_iter().zip(answers) {
        let kv::Answer::Pairs { pairs, more } = answer else {
            return Err(CommandError::Mismatch);
        };
        sources[i].accept(pairs, more);
    }
    Ok(())
}

/// The pairs that a command has found so far, and where it may stop.
struct Wanted {
    start: Bytes,
    end: Option<Bytes>,
    missing_pairs: u64,
    /// The size of `pairs`, and the most it may reach.
    bytes: usize,
    limit_bytes: usize,
    /// Keys and values in turn.
    pairs: Vec<Bytes>,
    /// Room for them, and for the batches of all sources.
    memory: PageMemory,
}

impl Wanted {
    fn is_empty(&self) -> bool {
        self.missing_pairs == 0 || self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    /// Moves the first pair of a source's batch, if any, to the result. A value that was too long
    /// for the batch is fetched now. If its key has been removed meanwhile, the pair is left out.
    async fn take_from<B: Backend>(
        &mut self,
        context: &Context<'_, B>,
        source: &mut Source,
    ) -> Result<(), CommandError> {
        let Some((key, value)) = source.batch.pop_front() else {
            return Ok(());
        };
        let value = match value {
            Some(value) => value,
            None => {
                let stored = context.backend.partition().stored(&key);
                match self.memory.read_value(context, source.range, &stored).await? {
                    Some(value) => value,
                    None => {
                        self.memory.release(key.len());
                        return Ok(());
                    }
                }
            }
        };
        let bytes = key.len() + value.len();
        self.bytes += bytes;
        if self.bytes > self.limit_bytes {
            return Err(CommandError::ReplyTooLong { limit: self.limit_bytes });
        }
        self.missing_pairs -= 1;
        self.pairs.extend([key, value]);
        Ok(())
    }
}

/// A range from which pairs are fetched in batches.
struct Source {
    range: RangeId,
    batch: VecDeque<(Bytes, Option<Bytes>)>,
    /// Whether the range has pairs behind the batch.
    more: bool,
    /// The last key that was fetched.
    last: Option<Bytes>,
    /// The size of the next batch, in pairs. It doubles, since a range that needs another batch
    /// holds many pairs.
    next_pairs: u64,
}

impl Source {
    const fn new(range: RangeId, pairs: u64) -> Self {
        Self { range, batch: VecDeque::new(), more: true, last: None, next_pairs: pairs }
    }

    fn accept(&mut self, pairs: Vec<(Bytes, Option<Bytes>)>, more: bool) {
        if let Some((key, _)) = pairs.last() {
            self.last = Some(key.clone());
        }
        self.batch = pairs.into();
        self.more = more && !self.batch.is_empty();
        self.next_pairs = self.next_pairs.saturating_mul(2);
    }

    fn is_done(&self) -> bool {
        self.batch.is_empty() && !self.more
    }

    /// The next key, with the position of this source, for a heap that gives the smallest first.
    fn head(&self, position: usize) -> Option<Reverse<(Bytes, usize)>> {
        self.batch.front().map(|(key, _)| Reverse((key.clone(), position)))
    }
}
