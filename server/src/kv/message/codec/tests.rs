use super::*;
use crate::kv::message::{Answer, DatabaseSize, Expiry, Failure, Query, Question};
use crate::layout::Partition;
use proptest::collection::vec;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

fn optional() -> impl Strategy<Value = Option<Bytes>> {
    proptest::option::of(bytes())
}

fn pairs() -> impl Strategy<Value = Vec<(Bytes, Bytes)>> {
    vec((bytes(), bytes()), 0..5)
}

fn partition() -> impl Strategy<Value = Partition> {
    prop_oneof![Just(Partition::Hash), Just(Partition::Range), Just(Partition::Slots)]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Always),
        Just(Condition::Missing),
        Just(Condition::Present),
        bytes().prop_map(Condition::Equals),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![any::<i64>().prop_map(Deadline::At), any::<i64>().prop_map(Deadline::In)]
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    let until = deadline().prop_map(Lifetime::Until);
    prop_oneof![Just(Lifetime::Endless), Just(Lifetime::Kept), until]
}

fn expiry() -> impl Strategy<Value = Expiry> {
    let at = |(deadline_ms, left_ms)| Expiry::At { deadline_ms, left_ms };
    let times = (any::<u64>(), any::<u64>());
    prop_oneof![Just(Expiry::Missing), Just(Expiry::Never), times.prop_map(at)]
}

fn database_size() -> impl Strategy<Value = DatabaseSize> {
    (0..DATABASES, any::<u64>(), any::<u64>()).prop_map(|(database, keys, expiring)| DatabaseSize {
        database,
        keys,
        expiring,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (bytes(), bytes(), condition(), proptest::option::of(any::<u64>()), lifetime()).prop_map(
            |(key, value, condition, want_old, lifetime)| Command::Set {
                key,
                value,
                condition,
                want_old,
                lifetime
            }
        ),
        (bytes(), deadline(), 0..16u8).prop_map(|(key, deadline, bits)| Command::Expire {
            key,
            deadline,
            condition: ExpireIf::of_bits(bits).unwrap()
        }),
        bytes().prop_map(|key| Command::Persist { key }),
        (bytes(), lifetime(), any::<u64>()).prop_map(|(key, lifetime, limit_bytes)| {
            Command::GetExpire { key, lifetime, limit_bytes }
        }),
        bytes().prop_map(|query| Command::Ask { query }),
        Just(Command::Tick),
        vec(bytes(), 0..5).prop_map(|keys| Command::Delete { keys }),
        (bytes(), any::<u64>()).prop_map(|(key, limit_bytes)| Command::Take { key, limit_bytes }),
        (bytes(), bytes(), any::<u64>())
            .prop_map(|(key, value, limit_bytes)| { Command::Append { key, value, limit_bytes } }),
        (bytes(), any::<u64>(), bytes(), any::<u64>()).prop_map(
            |(key, offset, value, limit_bytes)| Command::SetRange {
                key,
                offset,
                value,
                limit_bytes
            }
        ),
        (bytes(), any::<i64>()).prop_map(|(key, by)| Command::Increment { key, by }),
        (bytes(), bytes()).prop_map(|(key, by)| Command::IncrementFloat { key, by }),
        (pairs(), any::<bool>())
            .prop_map(|(pairs, only_if_missing)| Command::SetMany { pairs, only_if_missing }),
        Just(Command::Clear),
        (bytes(), bytes(), any::<bool>()).prop_map(|(from, to, only_if_missing)| Command::Rename {
            from,
            to,
            only_if_missing
        }),
        (bytes(), bytes(), 0..DATABASES, any::<bool>(), any::<u64>()).prop_map(
            |(from, to, to_database, replace, limit_bytes)| Command::Copy {
                from,
                to,
                to_database,
                replace,
                limit_bytes
            }
        ),
        Just(Command::ClearAll),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        (bytes(), any::<u64>()).prop_map(|(key, limit_bytes)| Query::Get { key, limit_bytes }),
        (vec(bytes(), 0..5), any::<u64>())
            .prop_map(|(keys, limit_bytes)| Query::GetMany { keys, limit_bytes }),
        vec(bytes(), 0..5).prop_map(|keys| Query::Exists { keys }),
        bytes().prop_map(|key| Query::Length { key }),
        (bytes(), any::<i64>(), any::<i64>(), any::<u64>()).prop_map(
            |(key, start, end, limit_bytes)| Query::Slice { key, start, end, limit_bytes }
        ),
        Just(Query::Count),
        bytes().prop_map(|key| Query::Usage { key }),
        bytes().prop_map(|key| Query::Expiry { key }),
        Just(Query::Keyspace),
        (bytes(), any::<u64>()).prop_map(|(key, bytes)| Query::Beginning { key, bytes }),
        (partition(), any::<u64>()).prop_map(|(partition, seed)| Query::Random { partition, seed }),
        (partition(), any::<u64>(), proptest::option::of(any::<u64>()), any::<u64>(), optional())
            .prop_map(|(partition, from, until, count, pattern)| Query::Scan {
                partition,
                from,
                until,
                count,
                pattern
            }),
        (partition(), any::<u64>(), any::<u64>(), optional(), optional(), any::<u64>()).prop_map(
            |(partition, from, until, after, pattern, limit_keys)| {
                Query::Places { partition, from, until, after, pattern, limit_keys }
            }
        ),
        (partition(), optional(), bytes(), any::<u64>()).prop_map(
            |(partition, after, pattern, limit_keys)| Query::Keys {
                partition,
                after,
                pattern,
                limit_keys
            }
        ),
        (partition(), bytes(), any::<bool>(), optional(), any::<u64>(), any::<u64>()).prop_map(
            |(partition, start, after_start, end, limit_pairs, limit_bytes)| {
                Query::Ordered { partition, start, after_start, end, limit_pairs, limit_bytes }
            }
        ),
        (partition(), bytes(), any::<bool>(), optional(), any::<u64>(), any::<bool>()).prop_map(
            |(partition, start, after_start, end, limit_keys, with_names)| {
                Query::Stretch { partition, start, after_start, end, limit_keys, with_names }
            }
        ),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Done),
        any::<i64>().prop_map(Answer::Integer),
        optional().prop_map(Answer::Value),
        vec(optional(), 0..5).prop_map(Answer::Values),
        (any::<bool>(), optional()).prop_map(|(done, old)| Answer::Stored { done, old }),
        (vec(bytes(), 0..5), any::<u64>(), proptest::option::of(any::<u64>()))
            .prop_map(|(keys, examined, next)| Answer::Page { keys, examined, next }),
        (vec(bytes(), 0..5), optional()).prop_map(|(keys, last)| Answer::Listing { keys, last }),
        (vec(bytes(), 0..5), any::<u64>(), optional())
            .prop_map(|(keys, count, last)| Answer::Stretch { keys, count, last }),
        (vec((bytes(), optional()), 0..5), any::<bool>())
            .prop_map(|(pairs, more)| Answer::Pairs { pairs, more }),
        any::<u64>().prop_map(|bytes| Answer::Withheld { bytes }),
        Just(Answer::Late),
        expiry().prop_map(Answer::Expiry),
        vec(database_size(), 0..5).prop_map(Answer::Keyspace),
        (0..=7u8).prop_map(|code| Answer::Failed(Failure::from_code(code).unwrap())),
    ]
}

proptest! {
    #[test]
    fn commands_round_trip(
        command in command(),
        database in 0..DATABASES,
        stamp_ms in proptest::option::of(any::<u64>()),
    ) {
        let proposal = Proposal { stamp_ms, database, command };
        prop_assert_eq!(Proposal::decode(&proposal.encode()), Ok(proposal));
    }

    #[test]
    fn queries_round_trip(query in query(), database in 0..DATABASES) {
        let bytes = query.encode_in(database);
        prop_assert_eq!(Question::decode(&bytes), Ok(Question { database, query }));
    }

    #[test]
    fn answers_round_trip(answer in answer()) {
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn a_cut_command_is_refused(command in command(), database in 0..2u8, cut in 1..8usize) {
        let bytes = command.encode_in(database);
        let cut = bytes.len().saturating_sub(cut);
        prop_assert!(Proposal::decode(&bytes[..cut]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        tag in prop_oneof![0..20u8, 0xf0..0xf2u8],
        tail in vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = vec![VERSION, tag];
        bytes.extend(tail);
        let bytes = Bytes::from(bytes);
        let _ = (Proposal::decode(&bytes), Question::decode(&bytes), Answer::decode(&bytes));
    }
}

#[test]
fn a_claimed_count_allocates_nothing() {
    // A list of 2^62 items in a message of 11 bytes.
    let mut bytes = vec![VERSION, 1];
    bytes.extend([0x80; 8]);
    bytes.push(0x40);
    assert_eq!(Proposal::decode(&bytes), Err(WireError::Truncated));
}

#[test]
fn trailing_bytes_and_foreign_versions_are_refused() {
    let mut bytes = Command::Clear.encode().to_vec();
    bytes.push(0);
    assert_eq!(Proposal::decode(&bytes), Err(WireError::TrailingBytes));
    assert_eq!(Proposal::decode(&[9, 8]), Err(WireError::UnknownTag(9)));
    let beyond = Command::Clear.encode_in(DATABASES);
    assert_eq!(Proposal::decode(&beyond), Err(WireError::UnknownTag(DATABASES)));
}
