//! The batch of parcels for one peer, and the frames that it becomes.

use crate::wire::fields::{most_field_bytes, put_log_id, put_varint};
use crate::wire::frame::{Draft, FRAME_TARGET_BYTES, Frame, HEADER_BYTES};
use crate::wire::kind;
use crate::wire::message::{most_message_bytes, put_founders, put_message};
use crate::wire::parcel::{Founders, RequestId, SnapshotTaken};
use crate::wire::support::put_support;
use bytes::Bytes;
use logboat_raft::{GroupId, LogId, Message, NodeId, Payload, SupportMessage};

/// Up to this size a frame is copied into the one queued before it. A larger one travels by itself.
const MERGE_BYTES: usize = 4 << 10;

/// What one turn has for one peer, already encoded.
///
/// ```
/// use logboat_raft::GroupId;
/// use logboat_transport::{Outgoing, Parcel, RequestId, decode};
///
/// let mut outgoing = Outgoing::new();
/// outgoing.push_request(RequestId(1), GroupId(7), b"a command");
/// outgoing.push_reply(RequestId(9), b"an answer");
///
/// let mut parcels = Vec::new();
/// for frame in outgoing.into_frames() {
///     decode(frame, &mut parcels)?;
/// }
/// assert_eq!(parcels.len(), 2);
/// assert!(matches!(&parcels[1], Parcel::Reply { body, .. } if &body[..] == b"an answer"));
/// # Ok::<(), logboat_transport::DecodeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Frames that are large enough, in order. They come before the open ones.
    full: Vec<Draft>,
    open: Draft,
    /// The open frame of replies, and of what else the queue does not drop.
    replies: Draft,
}

impl Outgoing {
    /// An empty batch. It allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages() == 0
    }

    /// What it takes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.drafts().map(Draft::bytes).sum()
    }

    /// How many parcels were pushed.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.drafts().map(|draft| draft.parcels).sum()
    }

    /// Adds a message from the replica of `group` on this node. A full queue drops messages, since
    /// they are sent again, but not the offer of a snapshot: all of the snapshot would be.
    ///
    /// # Panics
    /// When the entries of an append do not follow its `prev` without a gap.
    pub fn push_message(&mut self, group: GroupId, message: &Message) {
        let most_bytes = most_message_bytes(message);
        if matches!(message.payload, Payload::Snapshot { .. }) {
            self.begin_reply(most_bytes);
            let Draft { fields, data, .. } = &mut self.replies;
            return put_message(fields, data, group, message);
        }
        self.push(most_bytes, |fields, data| put_message(fields, data, group, message));
    }

    /// Whether a request of so many bytes leaves in the frame that is open. Another frame may be
    /// dropped while this one is not.
    #[must_use]
    pub fn has_room_for(&self, request_bytes: usize) -> bool {
        let bytes = most_field_bytes(5) + request_bytes;
        self.open.parcels == 0 || self.open.bytes() + bytes <= FRAME_TARGET_BYTES
    }

    /// Adds a request to the peer's engine.
    pub fn push_request(&mut self, id: RequestId, group: GroupId, body: &[u8]) {
        self.push(most_field_bytes(4) + body.len(), |fields, _| {
            fields.push(kind::REQUEST);
            put_varint(fields, id.0);
            put_varint(fields, group.0);
            put_varint(fields, body.len() as u64);
            fields.extend_from_slice(body);
        });
    }

    /// Adds a request to the engine of the node `to`, which the peer is to forward.
    pub fn push_forward(&mut self, id: RequestId, to: NodeId, group: GroupId, body: &[u8]) {
        self.push(most_field_bytes(5) + body.len(), |fields, _| {
            fields.push(kind::FORWARD);
            put_varint(fields, id.0);
            put_varint(fields, to.0);
            put_varint(fields, group.0);
            put_varint(fields, body.len() as u64);
            fields.extend_from_slice(body);
        });
    }

    /// Adds the answer to a request of the peer's engine. A full queue does not drop it: somebody
    /// waits for it.
    pub fn push_reply(&mut self, id: RequestId, body: &[u8]) {
        self.begin_reply(most_field_bytes(3) + body.len());
        put_reply(&mut self.replies.fields, id, body);
    }

    /// Like [`Self::push_reply`], for an answer that may be large. A queue without room for it
    /// takes the answer `instead`, which is small and says so.
    pub fn push_reply_or(&mut self, id: RequestId, body: &[u8], instead: &[u8]) {
        let (mut draft, mut small) = (Draft::default(), Draft::default());
        for (draft, body) in [(&mut draft, body), (&mut small, instead)] {
            draft.begin_reply();
            put_reply(&mut draft.fields, id, body);
        }
        draft.instead = Some(Box::new(small));
        self.full.push(draft);
    }

    /// Tells the peer that a chunk of a snapshot was taken. A full queue does not drop it: the peer
    /// waits for it.
    pub fn push_snapshot_taken(&mut self, taken: &SnapshotTaken) {
        self.begin_reply(most_field_bytes(6));
        let fields = &mut self.replies.fields;
        fields.push(kind::SNAPSHOT_TAKEN);
        put_varint(fields, taken.group.0);
        put_log_id(fields, taken.last);
        put_varint(fields, taken.end);
        put_varint(fields, taken.window_bytes);
    }

    /// Tells the peer that the snapshot it streams is of no use here.
    pub fn push_snapshot_refused(&mut self, group: GroupId, last: LogId) {
        self.push(most_field_bytes(4), |fields, _| {
            fields.push(kind::SNAPSHOT_REFUSED);
            put_varint(fields, group.0);
            put_log_id(fields, last);
        });
    }

    /// Tells the peer by whom a group was founded, for all that is known here, and `asks` the same.
    pub fn push_founders(&mut self, group: GroupId, founders: Option<&Founders>, asks: bool) {
        let members = founders.map_or(0, |founders| founders.members.len());
        self.push(most_field_bytes(5 + members), |fields, _| {
            fields.push(kind::FOUNDERS);
            put_varint(fields, group.0);
            fields.push(u8::from(asks));
            put_varint(fields, members as u64);
            if let Some(Founders { digest, members }) = founders.filter(|_| members > 0) {
                put_founders(fields, *digest);
                members.iter().for_each(|member| put_varint(fields, member.0));
            }
        });
    }

    /// Adds a message about liveness.
    pub fn push_support(&mut self, message: &SupportMessage) {
        self.push(most_field_bytes(5), |fields, _| put_support(fields, message));
    }

    /// Moves everything out of `other` to the end of this batch.
    pub fn append(&mut self, other: &mut Self) {
        for draft in other.take_drafts() {
            self.append_draft(draft);
        }
    }

    /// The frames as they stand on the wire, each in one piece, for callers that carry them without
    /// a transport. A parcel above 4 GiB, which no frame can hold, is left out.
    #[must_use]
    pub fn into_frames(mut self) -> Vec<Bytes> {
        self.remove_oversize(u32::MAX);
        self.take_frames().iter().map(Frame::to_bytes).collect()
    }

    /// Takes out the frames above the limit, each of which holds a single parcel. Returns the size
    /// of the largest. A reply among them is answered by what goes in its place, if there is that.
    pub(crate) fn remove_oversize(&mut self, max_frame_bytes: u32) -> Option<usize> {
        let fits = |draft: &Draft| draft.bytes() <= max_frame_bytes as usize;
        let largest = self.drafts().map(Draft::bytes).max()?;
        if largest <= max_frame_bytes as usize {
            return None;
        }
        self.full = self
            .take_drafts()
            .filter_map(|draft| if fits(&draft) { Some(draft) } else { Some(*draft.instead?) })
            .collect();
        Some(largest)
    }

    /// Keeps the first frames of messages, as many as fit `room_bytes`, and drops the others. If
    /// `one_at_least`, the first one is kept whatever its size. Replies are kept in any case, but
    /// those for which there is no room as what goes in their place. Returns whether anything was
    /// dropped or replaced.
    pub(crate) fn shed(&mut self, room_bytes: usize, one_at_least: bool) -> bool {
        if self.bytes() <= room_bytes {
            return false;
        }
        let mut left = room_bytes;
        let (mut alone, mut full) = (one_at_least, false);
        let mut has_shed = false;
        let mut kept = Vec::new();
        for mut draft in self.take_drafts() {
            let fits = std::mem::take(&mut alone) || draft.bytes() <= left;
            if draft.replies {
                if !fits && let Some(instead) = draft.instead.take() {
                    draft = *instead;
                    has_shed = true;
                }
            } else if full || !fits {
                // What follows a message that is missing here would be refused there.
                full = true;
                continue;
            }
            left = left.saturating_sub(draft.bytes());
            kept.push(draft);
        }
        self.full = kept;
        has_shed || full
    }

    /// Closes and removes all frames. Those above 4 GiB must have been removed before.
    pub(crate) fn take_frames(&mut self) -> Vec<Frame> {
        self.take_drafts().map(Draft::close).collect()
    }

    fn drafts(&self) -> impl Iterator<Item = &Draft> {
        self.full.iter().chain([&self.open, &self.replies]).filter(|draft| draft.parcels > 0)
    }

    fn take_drafts(&mut self) -> impl Iterator<Item = Draft> + use<> {
        let Self { full, open, replies } = std::mem::take(self);
        full.into_iter().chain([open, replies]).filter(|draft| draft.parcels > 0)
    }

    /// Encodes one parcel at the end of the open frame. The parcel takes at most `most_bytes`. If
    /// it would not fit beside the others, it begins a new frame, so that a parcel above the limit
    /// is dropped alone.
    fn push(&mut self, most_bytes: usize, encode: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        if self.open.parcels > 0 && self.open.bytes() + most_bytes > FRAME_TARGET_BYTES {
            self.full.push(std::mem::take(&mut self.open));
        }
        self.open.begin();
        encode(&mut self.open.fields, &mut self.open.data);
        self.open.parcels += 1;
    }

    /// Begins a parcel of at most so many bytes among the replies.
    fn begin_reply(&mut self, most_bytes: usize) {
        if self.replies.parcels > 0 && self.replies.bytes() + most_bytes > FRAME_TARGET_BYTES {
            self.full.push(std::mem::take(&mut self.replies));
        }
        self.replies.begin_reply();
    }

    fn append_draft(&mut self, mut draft: Draft) {
        if draft.parcels == 0 {
            return;
        }
        if self.open.parcels == 0 {
            self.open = draft;
        } else if draft.bytes() <= MERGE_BYTES
            && self.open.instead.is_none()
            && self.open.bytes() + draft.bytes() <= FRAME_TARGET_BYTES
        {
            self.open.fields.extend_from_slice(&draft.fields[HEADER_BYTES..]);
            self.open.data.append(&mut draft.data);
            self.open.parcels += draft.parcels;
            self.open.replies |= draft.replies;
        } else {
            self.full.push(std::mem::replace(&mut self.open, draft));
        }
    }
}

fn put_reply(fields: &mut Vec<u8>, id: RequestId, body: &[u8]) {
    fields.push(kind::REPLY);
    put_varint(fields, id.0);
    put_varint(fields, body.len() as u64);
    fields.extend_from_slice(body);
}
