//! What a history proves: the one place where a run is judged.

use crate::record::{Op, Record};
use std::collections::BTreeMap;

/// Prints what is wrong with a history, or that nothing is. Whether nothing is.
pub(crate) fn pronounce(records: &[Record]) -> bool {
    let wrong = lost_or_doubled_appends(records);
    for line in &wrong {
        println!("WRONG: {line}");
    }
    if wrong.is_empty() {
        println!("no acknowledged append was lost, none was applied twice");
    }
    wrong.is_empty()
}

/// Looks for each append to a key that was never written otherwise in the last read of that key.
fn lost_or_doubled_appends(records: &[Record]) -> Vec<String> {
    let mut keys: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        keys.entry(&record.key).or_default().push(record);
    }
    let only_appended = keys.values().filter(|records| {
        records.iter().all(|record| matches!(record.op, Op::Append { .. } | Op::Get))
    });
    only_appended.flat_map(|records| wrong_appends(records)).collect()
}

fn wrong_appends(records: &[&Record]) -> Vec<String> {
    let reads = records.iter().filter(|record| matches!(record.op, Op::Get));
    let last = reads.filter(|read| read.ok == Some(true)).max_by_key(|read| read.call_ns);
    let text = last.and_then(|read| read.output.as_ref()?.as_str()).unwrap_or_default();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for token in text.split_inclusive(';') {
        *times.entry(token).or_default() += 1;
    }
    let appends = records.iter().filter_map(|record| match &record.op {
        Op::Append { value } => Some((record, value)),
        Op::Get | Op::Put { .. } | Op::Cas { .. } | Op::Delete => None,
    });
    let wrong = appends.filter_map(|(record, value)| {
        let times = times.get(value.as_str()).copied().unwrap_or(0);
        let right = match record.ok {
            Some(true) => times == 1,
            Some(false) => times == 0,
            None => times <= 1,
        };
        let ok = record.ok;
        (!right).then(|| format!("{}: {value} (ok: {ok:?}) is there {times} times", record.key))
    });
    wrong.collect()
}
