//! Arbitrary messages of replicas. Numbers are mostly small, so that they meet each other, and
//! sometimes the last ones that a peer can have counted to, or any of those.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use logboat_raft::{
    Change, Configuration, Conflict, Entry, EntryKind, Epoch, GroupId, Index, LogId, MAX_COUNT,
    Message, NodeId, Payload, ReadToken, ReplicaId, SnapshotMeta, Term, VotersDigest,
};

/// A number that is small most of the time.
pub(crate) fn number(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match input.arbitrary::<u8>()? {
        byte @ 0..0xe0 => u64::from(byte % 0x10),
        byte @ 0xe0..0xf8 => MAX_COUNT - u64::from(byte % 4),
        0xf8.. => input.int_in_range(0..=MAX_COUNT)?,
    })
}

pub(crate) fn group(input: &mut Unstructured<'_>) -> Result<GroupId> {
    number(input).map(GroupId)
}

pub(crate) fn term(input: &mut Unstructured<'_>) -> Result<Term> {
    number(input).map(Term)
}

pub(crate) fn index(input: &mut Unstructured<'_>) -> Result<Index> {
    number(input).map(Index)
}

pub(crate) fn log_id(input: &mut Unstructured<'_>) -> Result<LogId> {
    Ok(LogId::new(term(input)?, index(input)?))
}

/// A message as it can come out of the decoder: entries follow the one before them without a gap,
/// and their checksums are right.
pub(crate) fn message(input: &mut Unstructured<'_>, group: GroupId) -> Result<Message> {
    let term = term(input)?;
    let payload = match input.int_in_range(0..=16)? {
        0 => Payload::PreVote { last: log_id(input)?, founders: founders(input)? },
        1 => Payload::PreVoteReply { granted: input.arbitrary()? },
        2 => Payload::Vote {
            last: log_id(input)?,
            transfer: input.arbitrary()?,
            founders: founders(input)?,
        },
        3 => Payload::VoteReply { granted: input.arbitrary()? },
        4 => Payload::Appended { through: index(input)?, applied: index(input)? },
        5 => Payload::Rejected {
            prev: index(input)?,
            conflict: Conflict {
                x_term: if input.arbitrary()? { Some(self::term(input)?) } else { None },
                x_index: index(input)?,
                x_len: index(input)?,
            },
        },
        6 => Payload::Fortify { commit: index(input)?, founders: founders(input)? },
        7 => Payload::Fortified { epoch: epoch(input)?, applied: index(input)? },
        8 => Payload::Snapshot { meta: snapshot_meta(input)? },
        9 => Payload::TimeoutNow,
        12 => {
            Payload::Resign { epoch: epoch(input)?.unwrap_or_default(), term: self::term(input)? }
        }
        13 => Payload::Resigned { term: self::term(input)? },
        14 => Payload::Gone { floor: replica(input)?, founders: founders(input)? },
        15 => Payload::Left,
        10 => Payload::ReadIndex { token: ReadToken(number(input)?), lease: input.arbitrary()? },
        11 => Payload::ReadIndexReply {
            token: ReadToken(number(input)?),
            index: if input.arbitrary()? { Some(index(input)?) } else { None },
            commit: index(input)?,
        },
        _ => append(input, group)?,
    };
    Ok(Message { from: replica(input)?, to: replica(input)?, term, payload })
}

/// Mostly a founder's.
fn replica(input: &mut Unstructured<'_>) -> Result<ReplicaId> {
    match input.arbitrary::<u8>()? {
        0..=223 => Ok(ReplicaId::FOUNDER),
        _ => Ok(ReplicaId(log_id(input)?)),
    }
}

/// A number of the few that a pair of nodes gets to.
pub(crate) fn epoch(input: &mut Unstructured<'_>) -> Result<Option<Epoch>> {
    Ok(input.arbitrary::<Option<u8>>()?.map(|epoch| Epoch(epoch.into())))
}

/// One that an entry may hold: few voters, and one that joins or leaves them.
fn configuration(input: &mut Unstructured<'_>, id: LogId) -> Result<Configuration> {
    let voters: Vec<_> = (1..=input.int_in_range(1..=5)?).map(NodeId).collect();
    let founding =
        Configuration::founding(&voters, input.arbitrary::<bool>()?.then_some(NodeId(1)));
    let node = NodeId(input.int_in_range(1..=7)?);
    let change =
        if voters.contains(&node) { Change::Demote(node) } else { Change::AddLearner(node) };
    Ok(founding.change(id, &[change]).unwrap_or(founding))
}

fn snapshot_meta(input: &mut Unstructured<'_>) -> Result<SnapshotMeta> {
    let id = log_id(input)?;
    let last = if input.arbitrary()? { id } else { log_id(input)? };
    Ok(SnapshotMeta { last, configuration: configuration(input, id)?.into() })
}

fn append(input: &mut Unstructured<'_>, group: GroupId) -> Result<Payload> {
    let prev = log_id(input)?;
    let room = (u64::MAX - prev.index.0).min(5);
    let entries = (1..=input.int_in_range(0..=room)?).map(|offset| {
        let id = LogId::new(term(input)?, prev.index.plus(offset));
        let bytes = Bytes::from(vec![7; input.int_in_range(0..=40)?]);
        let (kind, data) = match input.int_in_range(0..=4)? {
            0 => (EntryKind::Configuration, bytes),
            1 => (EntryKind::Configuration, configuration(input, id)?.encode()),
            2 => (EntryKind::Noop, Bytes::new()),
            _ => (EntryKind::Command, bytes),
        };
        Ok(Entry::new(group, id, kind, data))
    });
    let entries = entries.collect::<Result<_>>()?;
    let commit = index(input)?;
    Ok(Payload::AppendEntries { prev, entries, commit, founders: founders(input)? })
}

/// The digest of a set of few voters, which is mostly the one of the replica's.
fn founders(input: &mut Unstructured<'_>) -> Result<VotersDigest> {
    let voters: Vec<_> = (1..=input.int_in_range(1..=5)?).map(NodeId).collect();
    Ok(VotersDigest::of(&voters))
}
