//! The key-value store's own formats: commands, queries, answers and snapshots.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use logboat_server::kv::{Answer, Command, Proposal, Question, Store};

/// The longest value that a command may make. The front sends its own limit along with a command,
/// and so bounds what carrying it out allocates.
const MOST_VALUE_BYTES: u64 = 1 << 20;

/// Decodes bytes as commands, queries, answers and snapshots, and carries out what they are.
pub fn store_codec(data: &[u8]) {
    round_trips(data);
    // The pieces end where the data do.
    let _ = carried_out(&mut Unstructured::new(data));
    let mut store = Store::new();
    if store.restore(&mut &data[..]).is_ok() {
        let written = snapshot_of(&store);
        // Only what an older version wrote is written in another form.
        let is_present = data.starts_with(&written[..8]);
        assert!(!is_present || written == data, "a snapshot has one form");
    } else {
        assert_eq!(snapshot_of(&store), snapshot_of(&Store::new()));
    }
}

fn round_trips(data: &[u8]) {
    if let Ok(proposal) = Proposal::decode(data) {
        assert_eq!(Proposal::decode(&proposal.encode()), Ok(proposal));
    }
    if let Ok(question) = Question::decode(data) {
        let Question { database, query } = &question;
        assert_eq!(Question::decode(&query.encode_in(*database)), Ok(question));
    }
    if let Ok(answer) = Answer::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
}

/// Carries out pieces of the input as commands and queries on a store. Two stores stay equal, and
/// so does one that is made from a snapshot.
fn carried_out(input: &mut Unstructured<'_>) -> Result<()> {
    let (mut one, mut other) = (Store::new(), Store::new());
    while !input.is_empty() {
        let is_query: bool = input.arbitrary()?;
        let length = usize::from(input.arbitrary::<u8>()?).min(input.len());
        let bytes = input.bytes(length)?;
        if is_query {
            answered(&one.query(&Bytes::copy_from_slice(bytes)));
            continue;
        }
        let Ok(Proposal { stamp_ms, database, command }) = Proposal::decode(bytes) else {
            let before = snapshot_of(&one);
            answered(&one.apply(&Bytes::copy_from_slice(bytes)));
            assert_eq!(snapshot_of(&one), before, "what is no command changes nothing");
            continue;
        };
        let command = Proposal { stamp_ms, database, command: limited(command) }.encode();
        let answer = one.apply(&command);
        answered(&answer);
        assert_eq!(other.apply(&command), answer, "replicas answer alike");
    }
    let snapshot = snapshot_of(&one);
    assert_eq!(snapshot_of(&other), snapshot);
    let mut restored = Store::new();
    restored.restore(&mut &snapshot[..]).expect("a snapshot can be restored");
    assert_eq!(snapshot_of(&restored), snapshot);
    Ok(())
}

fn answered(answer: &Bytes) {
    Answer::decode(answer).expect("an answer decodes");
}

fn limited(command: Command) -> Command {
    match command {
        Command::Append { key, value, limit_bytes } => {
            Command::Append { key, value, limit_bytes: limit_bytes.min(MOST_VALUE_BYTES) }
        }
        Command::SetRange { key, offset, value, limit_bytes } => {
            Command::SetRange { key, offset, value, limit_bytes: limit_bytes.min(MOST_VALUE_BYTES) }
        }
        other => other,
    }
}

fn snapshot_of(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.snapshot()(&mut bytes).expect("memory takes all that is written");
    bytes
}
