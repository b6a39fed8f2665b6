//! The encoding of requests that are forwarded between nodes, and of their answers.

use crate::error::RequestError;
use crate::request::kind::RequestKind;
use bytes::{Buf, BufMut, Bytes};
use logboat_raft::{GroupId, NodeId, ReadFrom, ReadMode};
use logboat_transport::{Outgoing, RequestId};

const READ: u8 = 1;
const READ_ANYWHERE: u8 = 2;
const READ_ON_LEASE: u8 = 4;
const PROPOSE_ALL: u8 = 8;
const CHANGE: u8 = 16;
const TRANSFER: u8 = 32;
const READ_LOCAL: u8 = 64;

/// Encodes a request: one byte for the kind, then the command or query.
#[cfg(any(test, feature = "internals"))]
#[must_use]
pub fn encode_request(kind: RequestKind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + body.len());
    put_request(&mut bytes, kind, body);
    bytes
}

/// Appends an encoded request.
pub(crate) fn put_request(bytes: &mut Vec<u8>, kind: RequestKind, body: &[u8]) {
    let tag = match kind {
        RequestKind::Propose => 0,
        RequestKind::ProposeAll => PROPOSE_ALL,
        RequestKind::Change => CHANGE,
        RequestKind::Transfer => TRANSFER,
        RequestKind::ReadLocal => READ_LOCAL,
        RequestKind::Read(ReadMode { from, lease }) => {
            let anywhere = match from {
                ReadFrom::Leader => 0,
                ReadFrom::Any => READ_ANYWHERE,
            };
            READ | anywhere | (u8::from(lease) * READ_ON_LEASE)
        }
    };
    bytes.put_u8(tag);
    bytes.put_slice(body);
}

/// Decodes what [`encode_request`] wrote. `None` for anything else.
pub fn decode_request(mut bytes: Bytes) -> Option<(RequestKind, Bytes)> {
    let kind = match bytes.try_get_u8().ok()? {
        0 => RequestKind::Propose,
        PROPOSE_ALL => RequestKind::ProposeAll,
        CHANGE => RequestKind::Change,
        TRANSFER => RequestKind::Transfer,
        READ_LOCAL => RequestKind::ReadLocal,
        tag if tag & READ != 0 && tag <= READ | READ_ANYWHERE | READ_ON_LEASE => {
            let from = match tag & READ_ANYWHERE {
                0 => ReadFrom::Leader,
                _ => ReadFrom::Any,
            };
            RequestKind::Read(ReadMode { from, lease: tag & READ_ON_LEASE != 0 })
        }
        _ => return None,
    };
    Some((kind, bytes))
}

/// Encodes a list of commands, or of the answers to them ([`RequestKind::ProposeAll`]). A count
/// comes first, then each item with its length before it. Numbers are four bytes, little-endian.
pub fn encode_list<T: AsRef<[u8]>>(items: &[T]) -> Vec<u8> {
    let bytes: usize = items.iter().map(|item| 4 + item.as_ref().len()).sum();
    let mut list = Vec::with_capacity(4 + bytes);
    list.put_u32_le(items.len() as u32);
    for item in items {
        list.put_u32_le(item.as_ref().len() as u32);
        list.put_slice(item.as_ref());
    }
    list
}

/// The count at the beginning of a list.
pub(crate) fn count_of_list(list: &[u8]) -> usize {
    list.first_chunk().map_or(0, |count| u32::from_le_bytes(*count) as usize)
}

/// Decodes what [`encode_list`] wrote. `None` for anything else.
pub(crate) fn decode_list(mut list: Bytes) -> Option<Vec<Bytes>> {
    let count = list.try_get_u32_le().ok()? as usize;
    // The input must hold at least a length for each item, so the count can't make this allocate
    // too much.
    if count > list.len() / 4 {
        return None;
    }
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let bytes = list.try_get_u32_le().ok()? as usize;
        if bytes > list.len() {
            return None;
        }
        items.push(list.split_to(bytes));
    }
    list.is_empty().then_some(items)
}

/// Encodes an answer: one byte for the outcome, then the answer or the error's fields.
pub fn encode_reply(result: &Result<Bytes, RequestError>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(17);
    put_reply(&mut bytes, result);
    bytes
}

/// Appends an encoded answer.
pub(crate) fn put_reply(bytes: &mut Vec<u8>, result: &Result<Bytes, RequestError>) {
    match result {
        Ok(answer) => {
            bytes.put_u8(0);
            bytes.put_slice(answer);
        }
        Err(RequestError::NotLeader { leader }) => {
            bytes.put_u8(1);
            bytes.put_u64_le(leader.map_or(0, |node| node.0));
        }
        Err(RequestError::Busy) => bytes.put_u8(2),
        Err(RequestError::LogFull) => bytes.put_u8(10),
        Err(RequestError::TimedOut) => bytes.put_u8(3),
        Err(RequestError::TooLarge { bytes: size, limit }) => {
            bytes.put_u8(4);
            bytes.put_u64_le(*size as u64);
            bytes.put_u64_le(*limit as u64);
        }
        Err(RequestError::NoSuchGroup(group)) => {
            bytes.put_u8(5);
            bytes.put_u64_le(group.0);
        }
        Err(RequestError::AnswerTooLarge { bytes: size, limit }) => {
            bytes.put_u8(8);
            bytes.put_u64_le(*size as u64);
            bytes.put_u64_le(*limit as u64);
        }
        Err(RequestError::NoRoomForAnswer { bytes: size }) => {
            bytes.put_u8(9);
            bytes.put_u64_le(*size as u64);
        }
        Err(RequestError::Stopped) => bytes.put_u8(6),
        Err(RequestError::Unreachable(node)) => {
            bytes.put_u8(7);
            bytes.put_u64_le(node.0);
        }
    }
}

/// An answer of this size may find no room on its way. Its asker hears that instead.
const LARGE_BYTES: usize = 16 << 10;

/// Adds an encoded answer to what leaves for the node that asked. One that is large finds room in
/// `most_bytes` of the batch, or is not sent.
pub(crate) fn push_answer(outgoing: &mut Outgoing, id: RequestId, body: &[u8], most_bytes: usize) {
    let bytes = body.len();
    if bytes <= LARGE_BYTES {
        return outgoing.push_reply(id, body);
    }
    let instead = encode_reply(&Err(RequestError::NoRoomForAnswer { bytes }));
    let waiting = outgoing.bytes();
    if waiting > 0 && waiting + bytes > most_bytes {
        outgoing.push_reply(id, &instead);
    } else {
        outgoing.push_reply_or(id, body, &instead);
    }
}

/// Encodes the answers to a list of commands, each as [`encode_reply`] does.
pub(crate) fn encode_replies(answers: &[Result<Bytes, RequestError>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(4 + 16 * answers.len());
    list.put_u32_le(answers.len() as u32);
    for answer in answers {
        let start = list.len();
        list.put_u32_le(0);
        put_reply(&mut list, answer);
        let bytes = (list.len() - start - 4) as u32;
        list[start..start + 4].copy_from_slice(&bytes.to_le_bytes());
    }
    list
}

/// Decodes the outcomes of so many commands of a list ([`RequestKind::ProposeAll`]), in their
/// order. An answer that makes no sense leaves them unknown.
pub fn decode_replies(list: Bytes, commands: usize) -> Vec<Result<Bytes, RequestError>> {
    match decode_list(list).filter(|replies| replies.len() == commands) {
        Some(replies) => replies.into_iter().map(decode_reply).collect(),
        None => vec![Err(RequestError::TimedOut); commands],
    }
}

/// Decodes what [`encode_reply`] wrote. Anything else leaves the outcome unknown.
pub fn decode_reply(bytes: Bytes) -> Result<Bytes, RequestError> {
    try_decode_reply(bytes).unwrap_or(Err(RequestError::TimedOut))
}

fn try_decode_reply(mut bytes: Bytes) -> Option<Result<Bytes, RequestError>> {
    let error = match bytes.try_get_u8().ok()? {
        0 => return Some(Ok(bytes)),
        1 => {
            let node = bytes.try_get_u64_le().ok()?;
            RequestError::NotLeader { leader: (node != 0).then_some(NodeId(node)) }
        }
        2 => RequestError::Busy,
        10 => RequestError::LogFull,
        3 => RequestError::TimedOut,
        4 => RequestError::TooLarge {
            bytes: usize::try_from(bytes.try_get_u64_le().ok()?).ok()?,
            limit: usize::try_from(bytes.try_get_u64_le().ok()?).ok()?,
        },
        8 => RequestError::AnswerTooLarge {
            bytes: bytes.try_get_u64_le().ok()? as usize,
            limit: bytes.try_get_u64_le().ok()? as usize,
        },
        9 => RequestError::NoRoomForAnswer { bytes: bytes.try_get_u64_le().ok()? as usize },
        5 => RequestError::NoSuchGroup(GroupId(bytes.try_get_u64_le().ok()?)),
        6 => RequestError::Stopped,
        7 => RequestError::Unreachable(NodeId(bytes.try_get_u64_le().ok()?)),
        _ => return None,
    };
    Some(Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_transport::{Parcel, decode};

    #[test]
    fn requests_survive_the_way_between_nodes() {
        let modes = [ReadFrom::Leader, ReadFrom::Any]
            .into_iter()
            .flat_map(|from| [false, true].map(|lease| ReadMode { from, lease }));
        let others = [
            RequestKind::Propose,
            RequestKind::ProposeAll,
            RequestKind::Change,
            RequestKind::Transfer,
            RequestKind::ReadLocal,
        ];
        for kind in modes.map(RequestKind::Read).chain(others) {
            let bytes = Bytes::from(encode_request(kind, b"body"));
            assert_eq!(decode_request(bytes), Some((kind, Bytes::from_static(b"body"))));
        }
        for tag in [2, 4, 6, 9, 10, 17, 33, 65, 255] {
            assert_eq!(decode_request(Bytes::from(vec![tag])), None);
        }
    }

    #[test]
    fn lists_survive_the_way_and_no_part_of_one_passes_for_one() {
        for items in [vec![], vec![""], vec!["one", "", "three"]] {
            let list = Bytes::from(encode_list(&items));
            assert_eq!(decode_list(list.clone()).unwrap(), items);
            for cut in 0..list.len() {
                assert_eq!(decode_list(list.slice(..cut)), None);
            }
            let longer = [&list[..], b"x"].concat();
            assert_eq!(decode_list(longer.into()), None);
        }
        assert_eq!(decode_list(Bytes::from_static(&[255; 64])), None);
    }

    #[test]
    fn replies_survive_the_way_between_nodes() {
        let results = [
            Ok(Bytes::new()),
            Ok(Bytes::from_static(b"answer")),
            Err(RequestError::NotLeader { leader: None }),
            Err(RequestError::NotLeader { leader: Some(NodeId(3)) }),
            Err(RequestError::Busy),
            Err(RequestError::LogFull),
            Err(RequestError::TimedOut),
            Err(RequestError::TooLarge { bytes: 9, limit: 8 }),
            Err(RequestError::AnswerTooLarge { bytes: 9, limit: 8 }),
            Err(RequestError::NoRoomForAnswer { bytes: 9 }),
            Err(RequestError::NoSuchGroup(GroupId(7))),
            Err(RequestError::Stopped),
            Err(RequestError::Unreachable(NodeId(2))),
        ];
        for result in results {
            let bytes = Bytes::from(encode_reply(&result));
            for cut in 1..bytes.len() {
                let _ = decode_reply(bytes.slice(..cut));
            }
            assert_eq!(decode_reply(bytes), result);
        }
    }

    #[test]
    fn of_large_answers_in_a_batch_as_many_leave_as_there_is_room_for() {
        let answer = encode_reply(&Ok(Bytes::from(vec![0; LARGE_BYTES])));
        let mut outgoing = Outgoing::new();
        for id in 1..=4 {
            push_answer(&mut outgoing, RequestId(id), &answer, 2 * LARGE_BYTES + 1_000);
        }
        let mut parcels = Vec::new();
        for frame in outgoing.into_frames() {
            decode(frame, &mut parcels).unwrap();
        }
        let mut outcomes: Vec<_> = parcels
            .into_iter()
            .map(|parcel| {
                let Parcel::Reply { id, body } = parcel else { panic!("{parcel:?}") };
                (id.0, decode_reply(body).map(|answer| answer.len()))
            })
            .collect();
        outcomes.sort_by_key(|(id, _)| *id);
        let (whole, bytes) = (Ok(LARGE_BYTES), answer.len());
        let refused = Err(RequestError::NoRoomForAnswer { bytes });
        let expected = [(1, whole.clone()), (2, whole), (3, refused.clone()), (4, refused)];
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn an_answer_that_makes_no_sense_leaves_the_outcome_unknown() {
        for bytes in [&b""[..], b"\x01", b"\x63"] {
            assert_eq!(decode_reply(Bytes::from_static(bytes)), Err(RequestError::TimedOut));
        }
    }
}
