use super::*;
use crate::wal::disk::SimDisk;
use crate::wal::recovery::recover;
use bytes::Bytes;
use logboat_raft::{HardState, LogId, Term, WriteSeq};

fn append(group: u64, bytes: usize) -> (GroupId, Persist) {
    let (group, id) = (GroupId(group), LogId::new(Term(1), Index(1)));
    let entry = Entry::new(group, id, EntryKind::Command, Bytes::from(vec![7; bytes]));
    let hard_state = Some(HardState { term: Term(1), ..HardState::default() }.into());
    (group, Persist { seq: WriteSeq(1), hard_state, log: LogWrite::Append([entry].into()) })
}

#[test]
fn of_a_batch_that_fits_no_segment_the_largest_group_is_refused() {
    let options = WalOptions { segment_bytes: 32 << 10, ..WalOptions::default() };
    let (mut log, _, _) =
        recover(SimDisk::default(), options, LogPosition::default(), |_| Ok(())).unwrap();
    log.largest_segment = 64 << 10;
    let writes = [append(1, 10), append(2, 100 << 10), append(3, 90 << 10), append(4, 10)];
    log.write([].iter(), writes.iter()).unwrap();
    log.sync().unwrap();
    for (group, is_refused) in [(1, false), (2, true), (3, true), (4, false)] {
        let group = GroupId(group);
        let refusal = log.refusals().of(group);
        assert_eq!(refusal.is_some(), is_refused, "{refusal:?}");
        let last = if is_refused { Index(0) } else { Index(1) };
        assert_eq!(log.store.index.with(group, |log| log.last), last);
    }
}
