//! The encoding of what concerns a group as a whole: changes of its members, transfers of its
//! leadership, and reads that say how new their state is. Numbers are eight bytes, little-endian.

use crate::error::{ChangeError, RequestError, TransferError};
use crate::membership::Membership;
use bytes::{Buf, BufMut, Bytes};
use logboat_raft::{Change, ChangeRefusal, Configuration, Index, LogId, NodeId, Term};

/// What a leader is asked for about its group's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeRequest {
    /// To make changes of the members.
    Make {
        /// The entry whose members these must still be, if that matters.
        from: Option<LogId>,
        /// What one joint step does.
        changes: Vec<Change>,
    },
    /// To say whether the learner on this node could be promoted.
    CheckLearner(NodeId),
}

/// What stands before changes that are based on an entry, and what a check of a learner is.
const FROM: u8 = 5;
const CHECK_LEARNER: u8 = 6;

/// Encodes what a leader is asked for. Of a list of changes: for each a byte that says which, and
/// the node.
#[must_use]
pub fn encode_change_request(request: &ChangeRequest) -> Bytes {
    let mut bytes = Vec::new();
    match request {
        ChangeRequest::Make { from, changes } => {
            if let Some(LogId { term, index }) = from {
                bytes.put_u8(FROM);
                bytes.put_u64_le(term.0);
                bytes.put_u64_le(index.0);
            }
            for change in changes {
                bytes.put_u8(match change {
                    Change::AddLearner(_) => 0,
                    Change::Promote(_) => 1,
                    Change::Demote(_) => 2,
                    Change::Remove(_) => 3,
                    Change::Prefer(_) => 4,
                });
                bytes.put_u64_le(change.node().0);
            }
        }
        ChangeRequest::CheckLearner(node) => {
            bytes.put_u8(CHECK_LEARNER);
            bytes.put_u64_le(node.0);
        }
    }
    bytes.into()
}

/// Decodes what [`encode_change_request`] wrote. `None` for anything else.
#[must_use]
pub fn decode_change_request(mut bytes: &[u8]) -> Option<ChangeRequest> {
    let from = match bytes.first() {
        Some(&CHECK_LEARNER) => {
            bytes.advance(1);
            let node = get_node(&mut bytes)?;
            return bytes.is_empty().then_some(ChangeRequest::CheckLearner(node));
        }
        Some(&FROM) => {
            bytes.advance(1);
            Some(get_log_id(&mut bytes)?)
        }
        _ => None,
    };
    Some(ChangeRequest::Make { from, changes: get_changes(bytes)? })
}

fn get_changes(mut bytes: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::with_capacity(bytes.len() / 9);
    while !bytes.is_empty() {
        let kind = bytes.try_get_u8().ok()?;
        let node = get_node(&mut bytes)?;
        changes.push(match kind {
            0 => Change::AddLearner(node),
            1 => Change::Promote(node),
            2 => Change::Demote(node),
            3 => Change::Remove(node),
            4 => Change::Prefer(node),
            _ => return None,
        });
    }
    Some(changes)
}

/// Encodes how a change ended: the members that the group has then, or why there is none.
///
/// # Errors
/// That of the request, if that is what the node or its replica has to say.
pub(crate) fn encode_changed(
    outcome: Result<Membership, ChangeError>,
) -> Result<Bytes, RequestError> {
    let mut bytes = Vec::new();
    match outcome {
        Ok(members) => {
            bytes.put_u8(0);
            bytes.put_slice(&members.configuration().encode());
        }
        Err(ChangeError::Refused(refusal)) => put_refusal(&mut bytes, refusal),
        Err(ChangeError::NotAPeer { node }) => {
            bytes.put_u8(15);
            bytes.put_u64_le(node.0);
        }
        Err(ChangeError::Lost) => bytes.put_u8(16),
        Err(ChangeError::OtherMembers { id }) => {
            bytes.put_u8(17);
            bytes.put_u64_le(id.term.0);
            bytes.put_u64_le(id.index.0);
        }
        Err(ChangeError::Request(error)) => return Err(error),
    }
    Ok(bytes.into())
}

fn put_refusal(bytes: &mut Vec<u8>, refusal: ChangeRefusal) {
    let mut put = |tag, fields: &[u64]| {
        bytes.put_u8(tag);
        fields.iter().for_each(|field| bytes.put_u64_le(*field));
    };
    match refusal {
        ChangeRefusal::TermNotCommitted => put(1, &[]),
        ChangeRefusal::InProgress { id } => put(2, &[id.term.0, id.index.0]),
        ChangeRefusal::Nothing => put(3, &[]),
        ChangeRefusal::NamedTwice { node } => put(4, &[node.0]),
        ChangeRefusal::AlreadyMember { node } => put(5, &[node.0]),
        ChangeRefusal::NotMember { node } => put(6, &[node.0]),
        ChangeRefusal::NotLearner { node } => put(7, &[node.0]),
        ChangeRefusal::NotVoter { node } => put(8, &[node.0]),
        ChangeRefusal::VoterNotDemoted { node } => put(9, &[node.0]),
        ChangeRefusal::NoVoterLeft => put(10, &[]),
        ChangeRefusal::TooManyMembers => put(11, &[]),
        ChangeRefusal::NotCaughtUp { node, matched, last } => {
            put(12, &[node.0, matched.0, last.0]);
        }
        ChangeRefusal::NotFortified { node } => put(13, &[node.0]),
        ChangeRefusal::NoQuorum => put(14, &[]),
    }
}

/// Decodes what `encode_changed` wrote. `None` for anything else.
#[must_use]
pub fn decode_changed(mut bytes: &[u8]) -> Option<Result<Membership, ChangeError>> {
    let refusal = match bytes.try_get_u8().ok()? {
        0 => {
            let configuration = Configuration::decode(bytes).ok()?;
            return Some(Ok(Membership::new(configuration.into())));
        }
        1 => ChangeRefusal::TermNotCommitted,
        2 => ChangeRefusal::InProgress { id: get_log_id(&mut bytes)? },
        3 => ChangeRefusal::Nothing,
        4 => ChangeRefusal::NamedTwice { node: get_node(&mut bytes)? },
        5 => ChangeRefusal::AlreadyMember { node: get_node(&mut bytes)? },
        6 => ChangeRefusal::NotMember { node: get_node(&mut bytes)? },
        7 => ChangeRefusal::NotLearner { node: get_node(&mut bytes)? },
        8 => ChangeRefusal::NotVoter { node: get_node(&mut bytes)? },
        9 => ChangeRefusal::VoterNotDemoted { node: get_node(&mut bytes)? },
        10 => ChangeRefusal::NoVoterLeft,
        11 => ChangeRefusal::TooManyMembers,
        12 => ChangeRefusal::NotCaughtUp {
            node: get_node(&mut bytes)?,
            matched: Index(bytes.try_get_u64_le().ok()?),
            last: Index(bytes.try_get_u64_le().ok()?),
        },
        13 => ChangeRefusal::NotFortified { node: get_node(&mut bytes)? },
        14 => ChangeRefusal::NoQuorum,
        15 => {
            let error = ChangeError::NotAPeer { node: get_node(&mut bytes)? };
            return bytes.is_empty().then_some(Err(error));
        }
        16 => return bytes.is_empty().then_some(Err(ChangeError::Lost)),
        17 => {
            let error = ChangeError::OtherMembers { id: get_log_id(&mut bytes)? };
            return bytes.is_empty().then_some(Err(error));
        }
        _ => return None,
    };
    bytes.is_empty().then_some(Err(refusal.into()))
}

/// Encodes to whom leadership shall go.
#[must_use]
pub fn encode_transfer(to: NodeId) -> Bytes {
    Bytes::copy_from_slice(&to.0.to_le_bytes())
}

/// Decodes what [`encode_transfer`] wrote. `None` for anything else.
pub(crate) fn decode_transfer(mut bytes: &[u8]) -> Option<NodeId> {
    let to = get_node(&mut bytes)?;
    bytes.is_empty().then_some(to)
}

/// How a transfer ended, but for what the node or its replica has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transferred {
    /// The successor leads.
    Done,
    /// It does not vote.
    NotVoter,
    /// It did not take over, and this node leads by now.
    NotTaken { leader: NodeId },
}

pub(crate) fn encode_transferred(outcome: Transferred) -> Bytes {
    match outcome {
        Transferred::Done => Bytes::from_static(&[0]),
        Transferred::NotVoter => Bytes::from_static(&[1]),
        Transferred::NotTaken { leader } => {
            let mut bytes = vec![2];
            bytes.put_u64_le(leader.0);
            bytes.into()
        }
    }
}

/// Decodes what `encode_transferred` wrote of a transfer to `to`. `None` for anything else.
#[must_use]
pub fn decode_transferred(to: NodeId, mut bytes: &[u8]) -> Option<Result<(), TransferError>> {
    let outcome = match bytes.try_get_u8().ok()? {
        0 => Ok(()),
        1 => Err(TransferError::NotVoter { node: to }),
        2 => Err(TransferError::NotTaken { node: to, leader: get_node(&mut bytes)? }),
        _ => return None,
    };
    bytes.is_empty().then_some(outcome)
}

/// Encodes an answer from the state after the entry `as_of`, which comes first.
pub(crate) fn encode_local(as_of: LogId, answer: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(16 + answer.len());
    bytes.put_u64_le(as_of.term.0);
    bytes.put_u64_le(as_of.index.0);
    bytes.put_slice(answer);
    bytes.into()
}

/// Decodes what [`encode_local`] wrote. `None` for anything else.
pub(crate) fn decode_local(mut bytes: Bytes) -> Option<(LogId, Bytes)> {
    let as_of = get_log_id(&mut bytes)?;
    Some((as_of, bytes))
}

fn get_node(bytes: &mut impl Buf) -> Option<NodeId> {
    bytes.try_get_u64_le().ok().map(NodeId)
}

fn get_log_id(bytes: &mut impl Buf) -> Option<LogId> {
    let term = Term(bytes.try_get_u64_le().ok()?);
    Some(LogId::new(term, Index(bytes.try_get_u64_le().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(7);

    fn at(index: u64) -> LogId {
        LogId::new(Term(3), Index(index))
    }

    #[test]
    fn changes_survive_the_way_between_nodes() {
        let changes = [
            Change::AddLearner(NODE),
            Change::Promote(NodeId(1)),
            Change::Demote(NodeId(u64::MAX)),
            Change::Remove(NODE),
            Change::Prefer(NodeId(2)),
        ];
        for from in [None, Some(at(9))] {
            let request = ChangeRequest::Make { from, changes: changes.to_vec() };
            let bytes = encode_change_request(&request);
            assert_eq!(decode_change_request(&bytes).unwrap(), request);
            let head = from.map_or(0, |_| 17);
            let is_whole = |cut: &usize| *cut >= head && (cut - head).is_multiple_of(9);
            for cut in (1..bytes.len()).filter(|cut| !is_whole(cut)) {
                assert_eq!(decode_change_request(&bytes[..cut]), None, "cut at {cut}");
            }
        }
        let nothing = ChangeRequest::Make { from: None, changes: vec![] };
        assert_eq!(decode_change_request(&[]), Some(nothing));
        let check = ChangeRequest::CheckLearner(NODE);
        let bytes = encode_change_request(&check);
        assert_eq!(decode_change_request(&bytes), Some(check));
        assert_eq!(decode_change_request(&bytes[..8]), None);
        assert_eq!(decode_change_request(&[7, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn outcomes_of_changes_survive_the_way_between_nodes() {
        let members = Configuration::founding(&[NodeId(1), NODE], Some(NODE));
        let members = members.change(at(9), &[Change::AddLearner(NodeId(4))]).unwrap();
        let refusals = [
            ChangeRefusal::TermNotCommitted,
            ChangeRefusal::InProgress { id: at(9) },
            ChangeRefusal::Nothing,
            ChangeRefusal::NamedTwice { node: NODE },
            ChangeRefusal::AlreadyMember { node: NODE },
            ChangeRefusal::NotMember { node: NODE },
            ChangeRefusal::NotLearner { node: NODE },
            ChangeRefusal::NotVoter { node: NODE },
            ChangeRefusal::VoterNotDemoted { node: NODE },
            ChangeRefusal::NoVoterLeft,
            ChangeRefusal::TooManyMembers,
            ChangeRefusal::NotCaughtUp { node: NODE, matched: Index(5), last: Index(8) },
            ChangeRefusal::NotFortified { node: NODE },
            ChangeRefusal::NoQuorum,
        ];
        let errors = refusals.into_iter().map(ChangeError::Refused);
        let errors = errors.chain([
            ChangeError::NotAPeer { node: NODE },
            ChangeError::Lost,
            ChangeError::OtherMembers { id: at(9) },
        ]);
        let outcomes = errors.map(Err).chain([Ok(Membership::new(members.into()))]);
        for outcome in outcomes {
            let bytes = encode_changed(outcome.clone()).unwrap();
            for cut in 0..bytes.len() {
                assert!(decode_changed(&bytes[..cut]).is_none(), "{outcome:?} cut at {cut}");
            }
            assert_eq!(decode_changed(&bytes), Some(outcome));
        }
        let unsaid = Err(ChangeError::Request(RequestError::TimedOut));
        assert_eq!(encode_changed(unsaid), Err(RequestError::TimedOut));
        assert_eq!(decode_changed(&[99]), None);
    }

    #[test]
    fn transfers_and_stale_reads_survive_the_way_between_nodes() {
        assert_eq!(decode_transfer(&encode_transfer(NODE)), Some(NODE));
        assert_eq!(decode_transfer(&[1, 2, 3]), None);
        let leader = NodeId(2);
        for (outcome, expected) in [
            (Transferred::Done, Ok(())),
            (Transferred::NotVoter, Err(TransferError::NotVoter { node: NODE })),
            (Transferred::NotTaken { leader }, Err(TransferError::NotTaken { node: NODE, leader })),
        ] {
            let bytes = encode_transferred(outcome);
            assert_eq!(decode_transferred(NODE, &bytes), Some(expected));
            assert_eq!(decode_transferred(NODE, &bytes[..bytes.len() - 1]), None);
        }
        let answer = Bytes::from_static(b"answer");
        assert_eq!(decode_local(encode_local(at(5), &answer)), Some((at(5), answer)));
        assert_eq!(decode_local(Bytes::from_static(b"too short")), None);
    }
}
