//! What clients ask of stores of keys.

use super::host::FOUNDED_MS;
use super::key_machine::LONGEST_VALUE_BYTES;
use super::random::Random;
use bytes::Bytes;
use logboat_server::kv::{Command, Condition, Deadline, ExpireIf, Lifetime, Query};

/// What a client wants of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyWork {
    /// SET, with what lifetime ever.
    Set { value: String, lifetime: Lifetime },
    /// PEXPIRE or PEXPIREAT.
    Expire { deadline: Deadline, condition: ExpireIf },
    /// PERSIST.
    Persist,
    /// DEL.
    Delete,
    /// The time is written into the log, for the sake of memory.
    Tick,
    /// GET.
    Get,
    /// PTTL.
    TimeLeft,
}

impl KeyWork {
    /// Something to do with a key, at a moment in microseconds. The number is that of the
    /// operation.
    pub(super) fn draw(number: u64, now_us: u64, random: &mut Random) -> Self {
        match random.below(20) {
            0..6 => {
                let lifetime = match random.below(8) {
                    0 => Lifetime::Endless,
                    1 => Lifetime::Kept,
                    _ => Lifetime::Until(draw_deadline(now_us, random)),
                };
                Self::Set { value: number.to_string(), lifetime }
            }
            6..8 => {
                let condition = ExpireIf {
                    endless: random.per_mille(150),
                    expiring: random.per_mille(150),
                    later: random.per_mille(150),
                    earlier: random.per_mille(150),
                };
                Self::Expire { deadline: draw_deadline(now_us, random), condition }
            }
            8 => Self::Persist,
            9 => Self::Delete,
            10 => Self::Tick,
            11..14 => Self::TimeLeft,
            _ => Self::Get,
        }
    }

    /// Whether it changes nothing.
    pub(super) const fn is_read(&self) -> bool {
        matches!(self, Self::Get | Self::TimeLeft)
    }

    /// What is asked of the store. Reads are questions at first, and commands if they come late.
    pub(super) fn query(&self, key: &str) -> Bytes {
        let key = Bytes::copy_from_slice(key.as_bytes());
        match self {
            Self::TimeLeft => Query::Expiry { key },
            _ => Query::Get { key, limit_bytes: LONGEST_VALUE_BYTES },
        }
        .encode()
    }

    /// The command that does it.
    pub(super) fn command(&self, key: &str) -> Bytes {
        let query = || self.query(key);
        let key = Bytes::copy_from_slice(key.as_bytes());
        match self {
            Self::Set { value, lifetime } => Command::Set {
                key,
                value: Bytes::copy_from_slice(value.as_bytes()),
                condition: Condition::Always,
                want_old: None,
                lifetime: *lifetime,
            },
            Self::Expire { deadline, condition } => {
                Command::Expire { key, deadline: *deadline, condition: *condition }
            }
            Self::Persist => Command::Persist { key },
            Self::Delete => Command::Delete { keys: vec![key] },
            Self::Tick => Command::Tick,
            Self::Get | Self::TimeLeft => Command::Ask { query: query() },
        }
        .encode()
    }
}

/// Mostly soon, so that it passes while somebody looks. At times in an hour, which no clock that
/// is wrong may bring about.
fn draw_deadline(now_us: u64, random: &mut Random) -> Deadline {
    let longest_ms = [50, 1_000, 10_000, 3_600_000][random.place(4)];
    let left_ms = random.below(longest_ms) as i64;
    match random.below(4) {
        0 => Deadline::At((FOUNDED_MS + now_us / 1_000) as i64 + left_ms),
        _ => Deadline::In(left_ms),
    }
}
