//! Recovery of the write-ahead log, over the simulated disk: from files that nobody wrote, and from
//! a log that somebody wrote over. It refuses, or what it recovers can be used.

use crate::messages::{log_id, number};
use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use logboat_raft::{
    BootCount, Change, Config, Configuration, Entry, EntryKind, Epoch, Fortification, Grant,
    GroupId, HardState, Index, LogId, LogWrite, NodeId, Persist, Raft, ReplicaAddress, ReplicaId,
    Restored, SnapshotMeta, Term, Time, Tuning, WriteSeq,
};
use logboat_storage::simulation::{InlineWal, SimDisk};
use logboat_storage::{Recovered, WalOptions};
use logboat_varint::put;
use std::sync::Arc;
use std::time::Duration;

const SEGMENT_BYTES: u64 = 16 << 10;
/// Bytes of the header block of a segment.
const BLOCK_BYTES: usize = 4096;
/// Bytes of a batch header.
const BATCH_HEADER_BYTES: usize = 32;
/// Bytes of what ends a batch, behind its second list.
const FOOTER_BYTES: usize = 12;
const SALT: u64 = 77;
/// The node whose log it is.
const OWN: NodeId = NodeId(1);

/// Recovers from files whose segment headers are right and whose batches and records are arbitrary.
/// Most have right checksums, so that recovery reads their contents.
pub fn wal_batches(data: &[u8]) {
    let disk = SimDisk::default();
    // Batches end where the data do.
    let _ = plant(&mut Unstructured::new(data), &disk);
    open_and_use(&disk);
}

/// Recovers from the bytes as they are, and from a log of which they overwrite parts.
pub fn wal_bytes(data: &[u8]) {
    let disk = SimDisk::default();
    disk.plant(&name(1), data);
    open_and_use(&disk);
    // What is done to the log ends where the data do.
    let _ = written_over(&mut Unstructured::new(data));
}

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: SEGMENT_BYTES,
        max_bytes: 4 * SEGMENT_BYTES,
        mark_delay: Duration::from_millis(1),
    }
}

fn name(segment: u32) -> String {
    format!("{segment:010}.wal")
}

/// Opens the log. If it opens, every entry that it claims to have can be read and verifies. A
/// replica starts from what it restores. It takes writes, which are there after another start.
fn open_and_use(disk: &SimDisk) -> Option<Recovered> {
    let (mut wal, mut recovered) = InlineWal::open(disk.clone(), options()).ok()?;
    for (group, state) in &recovered.groups {
        check_group(&wal, *group, state);
    }
    let (group, peer) = (GroupId(u64::MAX), NodeId(u64::MAX));
    let lives = recovered.groups.remove(&group).map(|it| it.hard_state.replica);
    let replica = wal.log().tombstone(group).or(lives).unwrap_or_default();
    recovered.grants.remove(&peer);
    let grant = Grant {
        epoch: Epoch(7),
        boot: BootCount(2),
        live: true,
        lease: Duration::from_secs(2),
        ..Grant::default()
    };
    let (leader, term) = (ReplicaAddress::founder(peer), Term(1));
    let bond = Fortification { leader: peer, replica: leader.replica, epoch: grant.epoch, term };
    let fortified = Some(bond);
    let reset = LogWrite::Reset(meta(LogId::new(Term(1), Index(4))));
    let append = LogWrite::Append([entry(group, Term(1), Index(5), 10)].into_iter().collect());
    let writes = [reset, append].map(|log| {
        let (vote, commit) = (Some(leader), Index(4));
        let hard_state = HardState { replica, term, vote, commit, fortified };
        (group, Persist { seq: WriteSeq(0), hard_state: Some(hard_state.into()), log })
    });
    wal.write(&[(peer, grant)], &writes).expect("a recovered log takes writes");
    assert!(wal.log().refusals().is_empty(), "a recovered log takes any group's writes");
    wal.maintain(SEGMENT_BYTES).expect("a recovered log can be collected");
    wal.close().expect("a recovered log can be closed");
    let (wal, mut again) = InlineWal::open(disk.clone(), options()).expect("it was just closed");
    assert_eq!(again.grants.remove(&peer), Some(grant), "what was granted is there");
    let written = again.groups.remove(&group).expect("what was written is there");
    assert_eq!((written.last, written.hard_state.fortified), (Index(5), fortified));
    check_group(&wal, group, &written);
    assert_eq!((&again.groups, &again.grants), (&recovered.groups, &recovered.grants));
    // Where damage was may be used again by now.
    let is_known = |group| recovered.damaged.contains_key(group);
    assert!(again.damaged.keys().all(is_known), "{:?}", again.damaged);
    Some(recovered)
}

fn check_group(wal: &InlineWal<SimDisk>, group: GroupId, state: &Restored) {
    let config = Config {
        group,
        node: OWN,
        replica: ReplicaId::FOUNDER,
        founding: founding(1),
        seed: 1,
        tuning: Arc::new(Tuning::default()),
    };
    Raft::new(config, state.clone(), Time(0)).invariants();
    let first = state.snapshot.index.next();
    let Ok(entries) = wal.read(group, first, state.last, usize::MAX) else {
        // An entry that is damaged is refused, and that was the only way to get at it.
        return;
    };
    assert_eq!(entries.len() as u64, state.last.0 - state.snapshot.index.0);
    for (entry, index) in entries.iter().zip(first.0..) {
        assert_eq!(entry.index, Index(index));
        entry.verify(group).expect("what is served is what was made");
    }
}

/// A node that the replicas here may fortify, so not their own.
fn other_node(number: u64) -> NodeId {
    NodeId(if number == OWN.0 { OWN.0 + 1 } else { number })
}

/// A group that so many nodes found, the own among them.
fn founding(voters: u64) -> Arc<Configuration> {
    let voters: Vec<_> = (OWN.0..OWN.0 + voters).map(NodeId).collect();
    Configuration::founding(&voters, Some(OWN)).into()
}

fn meta(last: LogId) -> SnapshotMeta {
    SnapshotMeta { last, configuration: founding(2) }
}

/// An entry that holds a configuration.
fn configured(group: GroupId, id: LogId) -> Entry {
    let added = founding(2).change(id, &[Change::AddLearner(NodeId(u64::MAX))]);
    let data = added.expect("it is not a member").encode();
    Entry::new(group, id, EntryKind::Configuration, data)
}

fn entry(group: GroupId, term: Term, index: Index, bytes: usize) -> Entry {
    let data = Bytes::from(vec![index.0 as u8; bytes]);
    Entry::new(group, LogId::new(term, index), EntryKind::Command, data)
}

/// Writes a log, then overwrites parts of it. Recovery finds a state that the log had at some
/// moment, but for groups of which it says that they lost entries.
fn written_over(input: &mut Unstructured<'_>) -> Result<()> {
    let disk = SimDisk::default();
    let mut states = vec![Recovered::default()];
    let (mut wal, _) = InlineWal::open(disk.clone(), options()).expect("the disk is empty");
    for _ in 0..input.int_in_range(1..=6)? {
        let state = states.last().expect("there is the empty one at least");
        let (grants, writes) = (grants(input)?, writes(input, state)?);
        wal.write(&grants, &writes).expect("there is room for more");
        wal.sync().expect("the disk syncs");
        if input.arbitrary()? {
            wal.mark().expect("the disk syncs");
        }
        let copy = InlineWal::open(disk.copy(), options());
        states.push(copy.expect("nothing is wrong with it").1);
    }
    let segments = 1..=wal.log().active_segment();
    if input.arbitrary()? {
        wal.close().expect("the disk syncs");
    }
    for _ in 0..input.int_in_range(1..=4)? {
        let segment = input.int_in_range(segments.clone())?;
        damage(input, &disk, segment)?;
    }
    if let Some(state) = open_and_use(&disk) {
        let is_it = |known: &Recovered| {
            let mut known = Recovered { damaged: state.damaged.clone(), ..known.clone() };
            known.groups.retain(|group, _| !state.damaged.contains_key(group));
            known == state
        };
        assert!(states.iter().any(is_it), "a state that the log never was in: {state:?}");
    }
    Ok(())
}

fn grants(input: &mut Unstructured<'_>) -> Result<Vec<(NodeId, Grant)>> {
    let peers: u8 = input.arbitrary()?;
    let granted = (0..3).filter(|bit| peers >> bit & 1 != 0);
    let grant = |peer| {
        let (epoch, boot, live): (u8, u8, bool) = input.arbitrary()?;
        let lease = Duration::from_micros(if live { peer } else { 0 });
        let (epoch, boot) = (Epoch(epoch.into()), BootCount(boot.into()));
        Ok((NodeId(peer), Grant { epoch, boot, live, lease, ..Grant::default() }))
    };
    granted.map(grant).collect()
}

/// Writes that go on from `state`.
fn writes(input: &mut Unstructured<'_>, state: &Recovered) -> Result<Vec<(GroupId, Persist)>> {
    let mut writes = Vec::new();
    let groups: u8 = input.arbitrary()?;
    for group in (0..3).filter(|bit| groups >> bit & 1 != 0).map(GroupId) {
        let state = state.groups.get(&group).cloned().unwrap_or_default();
        let term = state.runs.last().map_or(state.snapshot.term, |run| run.term);
        let (kind, size): (u8, u8) = input.arbitrary()?;
        let after = match kind % 4 {
            0 => state.last.prev().max(state.snapshot.index),
            _ => state.last,
        };
        let term = if kind % 4 == 0 { term.next() } else { Term(term.0.max(1)) };
        let log = match kind % 8 {
            7 => LogWrite::Reset(meta(LogId::new(term, after.plus(3)))),
            5 => LogWrite::Founding(founding(u64::from(size % 3) + 1)),
            3 => LogWrite::Append([configured(group, LogId::new(term, after.next()))].into()),
            _ => LogWrite::Append(
                (1..=u64::from(size % 3) + 1)
                    .map(|at| entry(group, term, after.plus(at), usize::from(size) * 7))
                    .collect(),
            ),
        };
        let leader = ReplicaAddress::founder(other_node(kind.into()));
        let bond = Fortification {
            leader: leader.node,
            replica: leader.replica,
            epoch: Epoch(size.into()),
            term,
        };
        let fortified = (size % 2 == 0).then_some(bond);
        let hard_state = HardState {
            replica: state.hard_state.replica,
            term,
            vote: fortified.map(|bond| bond.address()),
            commit: after,
            fortified,
        };
        writes
            .push((group, Persist { seq: WriteSeq(0), hard_state: Some(hard_state.into()), log }));
    }
    Ok(writes)
}

/// Turns a bit over, writes zeros, copies a stretch elsewhere or cuts a file off.
fn damage(input: &mut Unstructured<'_>, disk: &SimDisk, segment: u32) -> Result<()> {
    let name = name(segment);
    let mut content = disk.durable(&name);
    let Some(last) = content.iter().rposition(|byte| *byte != 0) else {
        return Ok(());
    };
    let used = last + 1;
    let mut place = || Ok::<_, arbitrary::Error>(usize::from(input.arbitrary::<u16>()?) % used);
    let (from, to) = (place()?, place()?);
    let bytes = place()?.min(used - from.max(to));
    match input.int_in_range(0..=4)? {
        0 | 1 => content[from] ^= 1 << input.int_in_range(0..=7)?,
        2 => content[from..from + bytes].fill(0),
        3 => content.copy_within(from..from + bytes, to),
        _ => content.truncate(from),
    }
    disk.plant(&name, &content);
    Ok(())
}

/// Plants segments of arbitrary batches.
fn plant(input: &mut Unstructured<'_>, disk: &SimDisk) -> Result<()> {
    let mut segment = if input.ratio(7, 8)? { 1 } else { input.arbitrary()? };
    while !input.is_empty() {
        let mut content = segment_header(segment);
        let filled = fill(input, segment, &mut content);
        content.resize(SEGMENT_BYTES as usize, 0);
        disk.plant(&name(segment), &content);
        filled?;
        let step = if input.ratio(7, 8)? { 1 } else { input.arbitrary()? };
        segment = segment.wrapping_add(step);
    }
    Ok(())
}

fn segment_header(segment: u32) -> Vec<u8> {
    let mut block = b"LOGBOAT\x01".to_vec();
    block.extend(7_u32.to_le_bytes());
    block.extend(segment.to_le_bytes());
    block.extend(SALT.to_le_bytes());
    block.extend(SEGMENT_BYTES.to_le_bytes());
    block.resize(BLOCK_BYTES - 4, 0);
    block.extend(crc32fast::hash(&block).to_le_bytes());
    block
}

fn salted(parts: &[&[u8]]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&SALT.to_le_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

/// Appends batches while there are data and room.
fn fill(input: &mut Unstructured<'_>, segment: u32, content: &mut Vec<u8>) -> Result<()> {
    for _ in 0..input.int_in_range(1..=4)? {
        let offset = content.len();
        let Records { mut body, count: mut records, groups, grants } = records(input)?;
        if input.ratio(1, 16)? {
            records = input.arbitrary()?;
        }
        let mark = (offset == BLOCK_BYTES).then_some(u64::from(segment.wrapping_sub(1)) << 32);
        finish(&mut body, offset, mark, grants, &groups);
        if input.ratio(1, 16)? {
            // Its second list is damaged.
            let at = body.len() - 1 - usize::from(input.int_in_range(0..=15_u8)?);
            body[at] ^= 1;
        }
        if offset + BATCH_HEADER_BYTES + body.len() > SEGMENT_BYTES as usize {
            return Ok(());
        }
        let durable = if input.ratio(7, 8)? {
            u64::from(segment) << 32 | offset as u64
        } else {
            u64::from(input.arbitrary::<u32>()?) << 32 | number(input)?
        };
        let oldest: u32 = if input.ratio(7, 8)? { 1 } else { input.arbitrary()? };
        let mut header = b"LBat".to_vec();
        header.extend((body.len() as u32).to_le_bytes());
        header.extend(durable.to_le_bytes());
        header.extend(oldest.to_le_bytes());
        header.extend(records.to_le_bytes());
        header.extend(input.int_in_range(0..=1_u32)?.to_le_bytes());
        header.extend(salted(&[&(offset as u64).to_le_bytes(), &header]));
        content.extend(header);
        content.extend(body);
    }
    Ok(())
}

/// The records of a batch.
struct Records {
    body: Vec<u8>,
    count: u32,
    /// Their groups, in their order.
    groups: Vec<u64>,
    /// How many are grants.
    grants: u64,
}

/// Arbitrary records.
fn records(input: &mut Unstructured<'_>) -> Result<Records> {
    let count = input.int_in_range(0..=4)?;
    let mut records = Records { body: Vec::new(), count, groups: Vec::new(), grants: 0 };
    for _ in 0..count {
        match record(input, &mut records.body)? {
            Some(group) => records.groups.push(group.0),
            None => records.grants += 1,
        }
    }
    Ok(records)
}

/// Appends the second list of a batch that begins at `offset`.
fn finish(body: &mut Vec<u8>, offset: usize, mark: Option<u64>, grants: u64, groups: &[u64]) {
    let mut list = Vec::new();
    put(&mut list, grants);
    list.extend(mark.into_iter().flat_map(u64::to_le_bytes));
    put(&mut list, 0);
    let mut last = 0;
    for group in groups {
        let difference = group.wrapping_sub(last).cast_signed();
        put(&mut list, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
        last = *group;
    }
    let bytes = (body.len() + list.len() + FOOTER_BYTES).next_multiple_of(8);
    body.resize(bytes - list.len() - FOOTER_BYTES, 0);
    let begin = body.len();
    body.extend(&list);
    body.extend((((BATCH_HEADER_BYTES + bytes) / 8) as u32).to_le_bytes());
    body.extend((list.len() as u32).to_le_bytes());
    let crc = salted(&[&(!(offset as u64)).to_le_bytes(), &body[begin..]]);
    body.extend(crc);
}

/// A founding configuration, or mostly one that the entry `id` holds.
fn configuration(input: &mut Unstructured<'_>, id: LogId) -> Result<Bytes> {
    if id == LogId::default() || input.arbitrary()? {
        return Ok(founding(input.int_in_range(1..=3)?).encode());
    }
    Ok(configured(GroupId(0), id).data)
}

fn put_configuration(header: &mut Vec<u8>, configuration: &[u8]) {
    put(header, configuration.len() as u64);
    header.extend_from_slice(configuration);
}

/// Appends a record, and returns its group unless it is a grant.
fn record(input: &mut Unstructured<'_>, body: &mut Vec<u8>) -> Result<Option<GroupId>> {
    // One more than there are.
    let kind = input.int_in_range(1..=8_u8)?;
    let group = GroupId(input.int_in_range(0..=2)?);
    let id = log_id(input)?;
    let mut header = vec![kind];
    put(&mut header, group.0);
    if kind != 7 {
        put(&mut header, id.term.0);
    }
    let mut data = Vec::new();
    match kind {
        1 => {
            let flags: u8 = input.arbitrary()?;
            let is_fortified = flags & 2 != 0;
            // Who fortifies a leader has voted in its term.
            header.push(flags | u8::from(is_fortified));
            put(&mut header, number(input)?);
            put(&mut header, number(input)?);
            if is_fortified {
                put(&mut header, other_node(number(input)?).0);
                put(&mut header, number(input)?);
                put(&mut header, number(input)?.min(id.term.0));
            }
        }
        2 | 5 => {
            put(&mut header, id.index.0);
            let count = input.int_in_range(0..=3)?;
            let announced = if input.ratio(15, 16)? { count } else { number(input)? };
            put(&mut header, announced);
            for at in 0..count {
                let index = Index(id.index.0.wrapping_add(at));
                let holder = LogId::new(id.term, index);
                let entry = match input.int_in_range(0..=7)? {
                    0 => configured(group, if input.ratio(7, 8)? { holder } else { id }),
                    _ => entry(group, id.term, index, input.int_in_range(0..=20)?),
                };
                let bytes = entry.data.len() as u64;
                put(&mut header, if input.ratio(31, 32)? { bytes } else { number(input)? });
                header.push(entry.kind as u8);
                header.extend(entry.checksum.to_le_bytes());
                data.extend_from_slice(&entry.data);
            }
        }
        6 => {
            // Epoch and boot of a grant stand where term and index do.
            put(&mut header, id.index.0);
            let flags: u8 = input.arbitrary()?;
            header.push(flags);
            if flags & 2 != 0 {
                put(&mut header, number(input)?);
            }
            put(&mut header, number(input)?);
        }
        7 => put_configuration(&mut header, &configuration(input, LogId::default())?),
        _ => {
            put(&mut header, id.index.0);
            let held = if input.ratio(7, 8)? { id } else { log_id(input)? };
            put_configuration(&mut header, &configuration(input, held)?);
        }
    }
    header.extend(salted(&[&header]));
    body.extend(header);
    body.extend(data);
    Ok((kind != 6).then_some(group))
}
