//! The format on the wire: it keeps everything, takes nothing else, and does not change unnoticed.

use crate::common::{append_of, every_message};
use bytes::Bytes;
use logboat_raft::{
    BootCount, Change, ClockReading, Configuration, Conflict, Entry, EntryKind, Epoch, GroupId,
    Index, LogId, LogPosition, MAX_COUNT, MAX_MEMBERS, Message, NodeId, Payload, ReadToken,
    ReplicaId, RequestSeq, Round, SnapshotMeta, SupportMessage, SupportSettings, Term,
    VotersDigest,
};
use logboat_transport::{
    DecodeError, Founders, Outgoing, Parcel, RequestId, SnapshotTaken, decode,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::time::Duration;

const HEADER_BYTES: usize = 12;

fn decode_all(frames: Vec<Bytes>) -> Vec<Parcel> {
    let mut parcels = Vec::new();
    for frame in frames {
        decode(frame, &mut parcels).unwrap();
    }
    parcels
}

/// Adds a parcel behind all others.
fn push(batch: &mut Outgoing, parcel: &Parcel) {
    let mut outgoing = Outgoing::new();
    match parcel {
        Parcel::Message { group, message } => outgoing.push_message(*group, message),
        Parcel::Request { id, group, body } => outgoing.push_request(*id, *group, body),
        Parcel::Forward { id, to, group, body } => outgoing.push_forward(*id, *to, *group, body),
        Parcel::Reply { id, body } => outgoing.push_reply(*id, body),
        Parcel::SnapshotTaken(taken) => outgoing.push_snapshot_taken(taken),
        Parcel::SnapshotRefused { group, last } => outgoing.push_snapshot_refused(*group, *last),
        Parcel::Support(message) => outgoing.push_support(message),
        Parcel::Founders { group, founders, asks } => {
            outgoing.push_founders(*group, founders.as_ref(), *asks);
        }
        Parcel::Snapshot(_) => unreachable!("chunks are not pushed"),
    }
    batch.append(&mut outgoing);
}

/// A number that a peer can have counted.
fn count() -> std::ops::RangeInclusive<u64> {
    0..=MAX_COUNT
}

fn log_id() -> impl Strategy<Value = LogId> {
    (count(), 0..MAX_COUNT - 100).prop_map(|(term, at)| LogId::new(Term(term), Index(at)))
}

fn founders() -> impl Strategy<Value = VotersDigest> {
    any::<u32>().prop_map(VotersDigest)
}

fn append(group: GroupId) -> impl Strategy<Value = Payload> {
    let entry = (count(), any::<bool>(), vec(any::<u8>(), 0..200));
    let parts = (log_id(), vec(entry, 0..8), count(), founders());
    parts.prop_map(move |(prev, drawn, commit, founders)| {
        let entries = drawn.into_iter().zip(1..).map(|((term, noop, data), offset)| {
            let id = LogId::new(Term(term), prev.index.plus(offset));
            let kind = if noop { EntryKind::Noop } else { EntryKind::Command };
            Entry::new(group, id, kind, data.into())
        });
        Payload::AppendEntries { prev, entries: entries.collect(), commit: Index(commit), founders }
    })
}

/// A founder, or a replica that was added.
fn replica() -> impl Strategy<Value = ReplicaId> {
    prop_oneof![Just(ReplicaId::FOUNDER), log_id().prop_map(ReplicaId)]
}

fn payload(group: GroupId) -> impl Strategy<Value = Payload> {
    let conflict = (option::of(count()), count(), count()).prop_map(|(term, x, len)| Conflict {
        x_term: term.map(Term),
        x_index: Index(x),
        x_len: Index(len),
    });
    prop_oneof![
        (log_id(), founders()).prop_map(|(last, founders)| Payload::PreVote { last, founders }),
        any::<bool>().prop_map(|granted| Payload::PreVoteReply { granted }),
        (log_id(), any::<bool>(), founders())
            .prop_map(|(last, transfer, founders)| Payload::Vote { last, transfer, founders }),
        any::<bool>().prop_map(|granted| Payload::VoteReply { granted }),
        append(group),
        (count(), count()).prop_map(|(through, applied)| Payload::Appended {
            through: Index(through),
            applied: Index(applied)
        }),
        (count(), conflict)
            .prop_map(|(prev, conflict)| Payload::Rejected { prev: Index(prev), conflict }),
        (count(), founders())
            .prop_map(|(commit, founders)| Payload::Fortify { commit: Index(commit), founders }),
        (option::of(count()), count()).prop_map(|(epoch, applied)| Payload::Fortified {
            epoch: epoch.map(Epoch),
            applied: Index(applied)
        }),
        any::<(u64, bool)>()
            .prop_map(|(token, lease)| Payload::ReadIndex { token: ReadToken(token), lease }),
        (any::<u64>(), option::of(count()), count()).prop_map(|(token, index, commit)| {
            let (token, index) = (ReadToken(token), index.map(Index));
            Payload::ReadIndexReply { token, index, commit: Index(commit) }
        }),
        (log_id(), 1..9u64).prop_map(|(last, voters)| {
            let voters: Vec<_> = (1..=voters).map(NodeId).collect();
            let founding = Configuration::founding(&voters, Some(NodeId(1)));
            let added = [Change::AddLearner(NodeId(u64::MAX))];
            let configuration = founding.change(last, &added).expect("it can be added").into();
            Payload::Snapshot { meta: SnapshotMeta { last, configuration } }
        }),
        Just(Payload::TimeoutNow),
        (count(), count()).prop_map(|(epoch, term)| {
            let (epoch, term) = (Epoch(epoch), Term(term));
            Payload::Resign { epoch, term }
        }),
        count().prop_map(|term| Payload::Resigned { term: Term(term) }),
        (log_id(), any::<u32>()).prop_map(|(floor, digest)| {
            let (floor, founders) = (ReplicaId(floor), VotersDigest(digest));
            Payload::Gone { floor, founders }
        }),
        Just(Payload::Left),
    ]
}

fn support() -> impl Strategy<Value = SupportMessage> {
    prop_oneof![
        (count(), count(), any::<bool>(), any::<u64>(), any::<bool>(), any::<u64>()).prop_map(
            |(boot, seq, heard, timeout_us, leases, log_end)| {
                let log_end = LogPosition::unpack(log_end);
                let (boot, seq) = (BootCount(boot), RequestSeq(seq));
                let timeout = Duration::from_micros(timeout_us);
                let settings = SupportSettings { timeout, leases };
                SupportMessage::Request { boot, seq, heard, settings, log_end, leaving: !leases }
            }
        ),
        (count(), count(), count(), any::<u64>(), any::<u64>(), any::<bool>()).prop_map(
            |(boot, seq, epoch, lease_us, unix_ms, is_settled)| {
                let (boot, seq, epoch) = (BootCount(boot), RequestSeq(seq), Epoch(epoch));
                let lease = Duration::from_micros(lease_us);
                let clock = ClockReading { unix_ms, is_settled };
                SupportMessage::Granted { boot, seq, epoch, lease, clock }
            }
        ),
        (count(), any::<u32>(), count()).prop_map(|(boot, worker, round)| {
            SupportMessage::Confirm { boot: BootCount(boot), worker, round: Round(round) }
        }),
        (count(), any::<u32>(), count(), option::of(count())).prop_map(
            |(boot, worker, round, epoch)| {
                let (boot, round, epoch) = (BootCount(boot), Round(round), epoch.map(Epoch));
                SupportMessage::Confirmed { boot, worker, round, epoch }
            }
        ),
    ]
}

fn parcel() -> impl Strategy<Value = Parcel> {
    let message = (any::<u64>(), count()).prop_flat_map(|(group, term)| {
        let parts = (replica(), replica(), payload(GroupId(group)));
        parts.prop_map(move |(from, to, payload)| Parcel::Message {
            group: GroupId(group),
            message: Message { from, to, term: Term(term), payload },
        })
    });
    let body = || vec(any::<u8>(), 0..300).prop_map(Bytes::from);
    prop_oneof![
        4 => message,
        1 => (any::<u64>(), any::<u64>(), body()).prop_map(|(id, group, body)| Parcel::Request {
            id: RequestId(id),
            group: GroupId(group),
            body,
        }),
        1 => (any::<[u64; 3]>(), body()).prop_map(|([id, to, group], body)| Parcel::Forward {
            id: RequestId(id),
            to: NodeId(to),
            group: GroupId(group),
            body,
        }),
        1 => (any::<u64>(), body()).prop_map(|(id, body)| Parcel::Reply {
            id: RequestId(id),
            body,
        }),
        1 => support().prop_map(Parcel::Support),
        1 => (any::<u64>(), log_id()).prop_map(|(group, last)| Parcel::SnapshotRefused {
            group: GroupId(group),
            last,
        }),
        1 => (any::<[u64; 3]>(), log_id()).prop_map(|([group, end, window_bytes], last)| {
            let group = GroupId(group);
            Parcel::SnapshotTaken(SnapshotTaken { group, last, end, window_bytes })
        }),
        1 => (any::<u64>(), founders(), vec(any::<u64>(), 0..=MAX_MEMBERS), any::<bool>()).prop_map(
            |(group, digest, members, asks)| Parcel::Founders {
                group: GroupId(group),
                founders: (!members.is_empty()).then(|| Founders {
                    digest,
                    members: members.into_iter().map(NodeId).collect(),
                }),
                asks,
            },
        ),
    ]
}

proptest! {
    #[test]
    fn every_batch_arrives_as_it_was_pushed(
        parts in vec(vec(parcel(), 0..10), 1..4),
    ) {
        let mut whole = Outgoing::new();
        for part in &parts {
            let mut outgoing = Outgoing::new();
            part.iter().for_each(|parcel| push(&mut outgoing, parcel));
            prop_assert_eq!(outgoing.messages(), part.len());
            whole.append(&mut outgoing);
            prop_assert!(outgoing.is_empty());
        }
        let sent = parts.concat();
        prop_assert_eq!(whole.messages(), sent.len());
        prop_assert_eq!(whole.is_empty(), sent.is_empty());
        let bytes = whole.bytes();
        let frames = whole.into_frames();
        prop_assert_eq!(frames.iter().map(Bytes::len).sum::<usize>(), bytes);
        prop_assert_eq!(decode_all(frames), sent);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = decode(bytes.into(), &mut Vec::new());
    }

    /// Behind a header that is right, the fields themselves must hold against anything.
    #[test]
    fn arbitrary_fields_never_panic(
        kind in 0u8..43,
        fields in vec(any::<u8>(), 0..200),
        data in vec(any::<u8>(), 0..50),
    ) {
        let fields = [&[kind], fields.as_slice()].concat();
        let _ = decode(framed(&fields, &data), &mut Vec::new());
    }
}

/// A frame with a right header around any content.
pub(crate) fn framed(fields: &[u8], data: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(fields.len() as u32).to_le_bytes());
    frame.extend_from_slice(&(data.len() as u32).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame);
    hasher.update(fields);
    frame.extend_from_slice(&hasher.finalize().to_le_bytes());
    [frame.as_slice(), fields, data].concat().into()
}

/// One batch with everything in it, as one frame.
fn sample_frame() -> Bytes {
    let mut outgoing = Outgoing::new();
    for message in every_message() {
        outgoing.push_message(GroupId(7), &message);
    }
    outgoing.push_request(RequestId(1), GroupId(7), b"request");
    outgoing.push_reply(RequestId(2), b"reply");
    outgoing.push_snapshot_refused(GroupId(7), LogId::new(Term(1), Index(2)));
    // Batches that wait for the same peer share a frame.
    let mut queued = Outgoing::new();
    queued.append(&mut outgoing);
    let frames = queued.into_frames();
    assert_eq!(frames.len(), 1);
    frames[0].clone()
}

#[test]
fn a_frame_with_any_bit_flipped_is_refused_whole() {
    let frame = sample_frame();
    let mut parcels = Vec::new();
    decode(frame.clone(), &mut parcels).unwrap();
    let good = parcels.clone();
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let result = decode(flipped.into(), &mut parcels);
        assert!(result.is_err(), "bit {bit} flipped and not seen");
        assert_eq!(parcels, good, "bit {bit} flipped and parcels left behind");
    }
}

#[test]
fn a_frame_cut_anywhere_or_too_long_is_refused() {
    let frame = sample_frame();
    for end in 0..frame.len() {
        decode(frame.slice(..end), &mut Vec::new()).unwrap_err();
    }
    let longer = [frame.as_ref(), &[0]].concat();
    decode(longer.into(), &mut Vec::new()).unwrap_err();
}

#[test]
fn an_entry_of_another_group_is_refused() {
    let mut outgoing = Outgoing::new();
    outgoing.push_message(GroupId(8), &append_of(7, 10));
    let result = decode(outgoing.into_frames().remove(0), &mut Vec::new());
    assert!(matches!(result, Err(DecodeError::Entry(_))), "{result:?}");
}

#[test]
fn data_of_no_entry_is_refused() {
    let result = decode(framed(&[], b"stray"), &mut Vec::new());
    assert_eq!(result, Err(DecodeError::Trailing(5)));
}

#[test]
fn a_number_of_more_than_64_bits_is_refused() {
    let mut fields = vec![11];
    fields.extend_from_slice(&[0xff; 9]);
    fields.push(0x02);
    let result = decode(framed(&fields, b""), &mut Vec::new());
    assert_eq!(result, Err(DecodeError::Overlong));
}

#[test]
fn an_absurd_number_of_entries_is_refused_before_room_is_made() {
    // Append, group 1, term 1, prev 1@1, commit 1, then the count.
    let mut fields = vec![5, 1, 1, 1, 1, 1];
    fields.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let result = decode(framed(&fields, b""), &mut Vec::new());
    assert!(matches!(result, Err(DecodeError::Value { .. })), "{result:?}");
}

#[test]
fn entries_past_the_last_index_are_refused() {
    // Append, group 1, term 1, prev u64::MAX@1, commit 1, one entry.
    let mut fields = vec![5, 1, 1, 1];
    fields.extend_from_slice(&[0xff; 9]);
    fields.extend_from_slice(&[0x01, 1, 1]);
    fields.extend_from_slice(&[0; 7]);
    let result = decode(framed(&fields, b""), &mut Vec::new());
    assert!(matches!(result, Err(DecodeError::Implausible { .. })), "{result:?}");
}

#[test]
fn entry_data_are_slices_of_the_frame() {
    let mut outgoing = Outgoing::new();
    outgoing.push_message(GroupId(7), &append_of(7, 1000));
    let frame = outgoing.into_frames().remove(0);
    let range = frame.as_ptr_range();
    let parcels = decode_all(vec![frame]);
    let [Parcel::Message { message, .. }] = parcels.as_slice() else {
        panic!("{parcels:?}");
    };
    let Payload::AppendEntries { entries, .. } = &message.payload else {
        panic!("{message:?}");
    };
    assert!(range.contains(&entries[0].data.as_ptr()));
}

#[test]
fn small_parts_of_a_large_frame_do_not_keep_it() {
    let mut large = vec![33, 1];
    large.extend([0x80, 0x80, 0x80, 0x02]);
    large.resize(large.len() + (4 << 20), 7);
    let small = [33, 2, 5, 1, 2, 3, 4, 5];
    let frame = framed(&[&large[..], &small].concat(), b"");
    let range = frame.as_ptr_range();
    let bodies = decode_all(vec![frame]).into_iter().map(|parcel| match parcel {
        Parcel::Reply { body, .. } => body,
        other => panic!("{other:?}"),
    });
    let bodies = bodies.collect::<Vec<_>>();
    assert_eq!(bodies[1].as_ref(), [1, 2, 3, 4, 5]);
    assert!(range.contains(&bodies[0].as_ptr()) && !range.contains(&bodies[1].as_ptr()));
}

/// Says of each count of a message in turn that it is beyond what can be counted.
#[test]
fn implausible_numbers_are_refused_and_named() {
    let (far, near) = (MAX_COUNT + 1, MAX_COUNT);
    let id = |term, index| LogId::new(Term(term), Index(index));
    let message = |term, payload| Parcel::Message {
        group: GroupId(7),
        message: Message::of_founder(Term(term), payload),
    };
    let vote = |last| Payload::Vote { last, transfer: false, founders: VotersDigest(7) };
    let refused = [
        ("term", message(far, Payload::TimeoutNow)),
        ("term", message(1, vote(id(far, 1)))),
        ("index", message(1, vote(id(1, far)))),
        ("index", message(1, Payload::Appended { through: Index(far), applied: Index(0) })),
        (
            "index",
            message(1, Payload::Fortify { commit: Index(u64::MAX), founders: VotersDigest(7) }),
        ),
        ("epoch", message(1, Payload::Resign { epoch: Epoch(far), term: Term(1) })),
        ("epoch", message(1, Payload::Fortified { epoch: Some(Epoch(far)), applied: Index(0) })),
        ("boot count", request(u64::MAX, 1)),
        ("request number", request(1, far)),
    ];
    for (name, parcel) in refused {
        let mut outgoing = Outgoing::new();
        push(&mut outgoing, &parcel);
        let result = decode(outgoing.into_frames().remove(0), &mut Vec::new());
        let named = matches!(result, Err(DecodeError::Implausible { field, .. }) if field == name);
        assert!(named, "{parcel:?}: {result:?}");
    }
    let mut outgoing = Outgoing::new();
    push(&mut outgoing, &message(near, vote(id(near, near))));
    push(&mut outgoing, &request(near, near));
    assert_eq!(decode_all(outgoing.into_frames()).len(), 2);
}

fn request(boot: u64, seq: u64) -> Parcel {
    let (boot, seq) = (BootCount(boot), RequestSeq(seq));
    let settings = SupportSettings { timeout: Duration::ZERO, leases: false };
    Parcel::Support(SupportMessage::Request {
        boot,
        seq,
        heard: false,
        settings,
        log_end: LogPosition::default(),
        leaving: false,
    })
}

#[test]
fn a_large_batch_is_split_between_parcels_and_keeps_its_order() {
    let messages: Vec<_> = (0..40).map(|at| append_of(7, at * 7000)).collect();
    let mut outgoing = Outgoing::new();
    for message in &messages {
        outgoing.push_message(GroupId(7), message);
    }
    let frames = outgoing.into_frames();
    assert!(frames.len() > 1);
    assert!(frames.iter().all(|frame| frame.len() <= 1 << 20));
    let received = decode_all(frames).into_iter().map(|parcel| match parcel {
        Parcel::Message { message, .. } => message,
        other => panic!("{other:?}"),
    });
    assert_eq!(received.collect::<Vec<_>>(), messages);
}

#[test]
fn an_acknowledgement_takes_at_most_twelve_bytes() {
    let payload = Payload::Appended { through: Index(200_000_000), applied: Index(199_999_999) };
    let of_founders = Message::of_founder(Term(100), payload);
    let bytes = |message: &Message| {
        let mut outgoing = Outgoing::new();
        outgoing.push_message(GroupId(1000), message);
        outgoing.bytes() - HEADER_BYTES
    };
    assert_eq!(bytes(&of_founders), 12);
    // The id of a replica that was added is a term and an index.
    let added = ReplicaId(LogId::new(Term(90), Index(100_000_000)));
    assert_eq!(bytes(&Message { from: added, ..of_founders.clone() }), 12 + 5);
    assert_eq!(bytes(&Message { from: added, to: added, ..of_founders }), 12 + 2 * 5);
}

/// The format is a promise between nodes of one version. If this fails, the protocol's version
/// must change.
#[test]
fn the_bytes_of_every_parcel_are_pinned() {
    let mut lines = String::new();
    let mut pin = |name: &str, push: &dyn Fn(&mut Outgoing)| {
        let mut outgoing = Outgoing::new();
        push(&mut outgoing);
        let frame = outgoing.into_frames().remove(0);
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        let (header, fields) = hex.split_at(2 * HEADER_BYTES);
        lines += &format!("{name}\n    {header} {fields}\n");
    };
    for message in every_message() {
        let text = format!("{:?}", message.payload);
        let name = text.split([' ', '{']).next().unwrap_or_default();
        pin(name, &|outgoing| outgoing.push_message(GroupId(7), &message));
    }
    let last = LogId::new(Term(5), Index(300));
    pin("request", &|outgoing| {
        outgoing.push_request(RequestId(300), GroupId(7), b"ask");
    });
    pin("forward", &|outgoing| {
        outgoing.push_forward(RequestId(300), NodeId(3), GroupId(7), b"ask");
    });
    pin("reply", &|outgoing| outgoing.push_reply(RequestId(300), b"answer"));
    pin("snapshot refused", &|outgoing| outgoing.push_snapshot_refused(GroupId(7), last));
    let (boot, round, worker) = (BootCount(3), Round(300), 1);
    let settings = SupportSettings { timeout: Duration::from_millis(2_500), leases: true };
    for (name, message) in [
        (
            "support request",
            SupportMessage::Request {
                boot,
                seq: RequestSeq(300),
                heard: true,
                settings,
                log_end: LogPosition { segment: 1, offset: 5 },
                leaving: false,
            },
        ),
        (
            "support granted",
            SupportMessage::Granted {
                boot,
                seq: RequestSeq(300),
                epoch: Epoch(2),
                lease: Duration::from_millis(2_500),
                clock: ClockReading { unix_ms: 1_800_000_000_000, is_settled: true },
            },
        ),
        ("confirm", SupportMessage::Confirm { boot, worker, round }),
        ("confirmed", SupportMessage::Confirmed { boot, worker, round, epoch: Some(Epoch(2)) }),
        ("not confirmed", SupportMessage::Confirmed { boot, worker, round, epoch: None }),
    ] {
        pin(name, &|outgoing| outgoing.push_support(&message));
    }
    assert_eq!(lines, include_str!("wire.golden"));
}
