//! The first byte of a parcel, which says what kind it is.
//!
//! The numbers are the wire format: never change or reuse one without a new protocol version.
//!
//! The kind of a message between replicas says by its two highest bits whether the ids of these
//! follow. That of a founder, which most replicas are, does not.

/// The sender was added to its group later: its id follows the term.
pub(super) const SENDER_WAS_ADDED: u8 = 0x80;
/// The receiver was added to its group later: its id follows that of the sender.
pub(super) const RECEIVER_WAS_ADDED: u8 = 0x40;

pub(super) const PRE_VOTE: u8 = 1;
pub(super) const PRE_VOTE_REPLY: u8 = 2;
pub(super) const VOTE: u8 = 3;
pub(super) const VOTE_REPLY: u8 = 4;
pub(super) const APPEND: u8 = 5;
pub(super) const APPENDED: u8 = 6;
pub(super) const REJECTED: u8 = 7;
pub(super) const FORTIFY: u8 = 8;
pub(super) const FORTIFIED: u8 = 9;
pub(super) const SNAPSHOT: u8 = 10;
pub(super) const READ_INDEX: u8 = 11;
pub(super) const READ_INDEX_REPLY: u8 = 12;
pub(super) const TIMEOUT_NOW: u8 = 13;
pub(super) const RESIGN: u8 = 14;
pub(super) const RESIGNED: u8 = 15;
pub(super) const GONE: u8 = 16;
pub(super) const LEFT: u8 = 17;

pub(super) const REQUEST: u8 = 32;
pub(super) const REPLY: u8 = 33;
pub(super) const SNAPSHOT_CHUNK: u8 = 34;
pub(super) const SNAPSHOT_REFUSED: u8 = 35;

pub(super) const SUPPORT_REQUEST: u8 = 36;
pub(super) const SUPPORT_GRANTED: u8 = 37;
pub(super) const SUPPORT_CONFIRM: u8 = 38;
pub(super) const SUPPORT_CONFIRMED: u8 = 39;

pub(super) const FORWARD: u8 = 40;

pub(super) const FOUNDERS: u8 = 41;

pub(super) const SNAPSHOT_TAKEN: u8 = 42;
