//! What a deadline takes in memory.

use super::Options;
use bytes::Bytes;
use logboat_bench::Failure;
use logboat_bench::allocator::live_bytes;
use logboat_server::kv::{Answer, Command, Condition, Deadline, Lifetime, Proposal, Query, Store};
use logboat_server::latency::ratio;
use logboat_server::layout::Partition;
use serde::Serialize;

/// The time of all commands.
const NOW_MS: u64 = 1_800_000_000_000;

const DAY_MS: u64 = 86_400_000;

/// Every entry has room for a deadline, whether the key expires or not.
const FIELD_BYTES: u64 = size_of::<u64>() as u64;

/// The figures of the store, by the sizes that were asked of the allocator.
#[derive(Serialize)]
pub(super) struct Report {
    keys: u64,
    groups: usize,
    days: u64,
    /// Of a key that does not expire, with its value, and with room for a deadline.
    bytes_per_key: f64,
    /// What a deadline takes outside of the entry.
    index_bytes_per_deadline: f64,
    /// What it takes with its room in the entry.
    bytes_per_deadline: f64,
}

/// Fills the stores of all groups twice.
pub(super) fn measure(options: &Options) -> Result<Report, Failure> {
    let Options { keys, groups, days, .. } = *options;
    let endless = filled(options, |_| Lifetime::Endless)?;
    let expiring = filled(options, |number| {
        // Neighbours expire far apart.
        let after_ms = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (days * DAY_MS) + 1;
        Lifetime::Until(Deadline::In(after_ms.cast_signed()))
    })?;
    let index_bytes = expiring.saturating_sub(endless);
    Ok(Report {
        keys,
        groups,
        days,
        bytes_per_key: ratio(endless, keys),
        index_bytes_per_deadline: ratio(index_bytes, keys),
        bytes_per_deadline: ratio(index_bytes + FIELD_BYTES * keys, keys),
    })
}

/// What so many keys take, in bytes, each in the store of one group.
fn filled(options: &Options, lifetime: impl Fn(u64) -> Lifetime) -> Result<u64, Failure> {
    let before = live_bytes();
    let mut stores: Vec<Store> = (0..options.groups).map(|_| Store::new()).collect();
    let stores_bytes = live_bytes() - before;
    let value = Bytes::from(vec![b'x'; options.payload]);
    for (number, group) in (0..options.keys).zip((0..options.groups).cycle()) {
        let command = Command::Set {
            key: Partition::default().stored(format!("key:{number:012}").as_bytes()),
            value: value.clone(),
            condition: Condition::Always,
            want_old: None,
            lifetime: lifetime(number),
        };
        stores[group].apply(&Proposal { stamp_ms: Some(NOW_MS), database: 0, command }.encode());
    }
    let mut count = 0;
    for store in &stores {
        match Answer::decode(&store.query(&Query::Count.encode()))? {
            Answer::Integer(keys) => count += keys.cast_unsigned(),
            other => return Err(format!("a store counts {other:?}").into()),
        }
    }
    if count != options.keys {
        return Err(format!("{} keys were written, and {count} are there", options.keys).into());
    }
    Ok(u64::try_from(live_bytes() - before - stores_bytes)?)
}
