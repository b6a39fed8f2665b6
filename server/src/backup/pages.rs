//! The admin pages by which copies of groups leave a cluster, and keys come in.

use super::tally::{Checksum, read_copy};
use crate::admin::Admin;
use crate::backend::{Backend, BackendError, RangeId, StoreAnswers, StoreRequest};
use crate::cluster::ClusterBackend;
use crate::cluster_pages::{Refusal, hex, refusal, router};
use crate::kv::{Answer, Command, Condition, Deadline, Entry, Failure, Lifetime, Query};
use crate::layout::Partition;
use crate::limits::Limits;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router as Pages};
use bytes::Bytes;
use logboat::{GroupId, Index, LogId, NodeId, Term};
use logboat_router::{Access, ExportPart};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// The longest body with keys to take in. The longest value fits.
const MOST_BYTES: usize = 16 << 20;

/// Keys that don't expire are set by one command up to so many bytes.
const COMMAND_BYTES: usize = 64 << 10;

/// How long to wait for answers before slow ones hold up no other.
const HURRY: Duration = Duration::from_secs(1);

/// `/layout`: how the keys of the cluster are laid out. Fields are only ever added.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayoutPage {
    /// The id that was drawn for the cluster, in hexadecimal digits. Empty if it has none, since
    /// an earlier version made it.
    pub(crate) cluster_id: String,
    /// How keys are laid out.
    pub(crate) partition: String,
    /// The groups in the order of their ranges.
    pub(crate) groups: Vec<GroupRange>,
}

/// A group in `/layout`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GroupRange {
    /// Its id.
    pub(crate) id: u64,
    /// The first key of its range, in hexadecimal digits.
    pub(crate) start: String,
}

/// `/keyspace`: how many keys all groups have, with those that have expired and take space still.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct KeyspacePage {
    /// How many keys there are.
    pub(crate) keys: u64,
    /// How many of them expire.
    pub(crate) expiring: u64,
    /// How many each database has.
    pub(crate) databases: BTreeMap<u8, u64>,
}

/// What is posted to `/groups/ID/export`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ExportOrder {
    /// The term and the index of the last entry of the state that is there already, if any.
    #[serde(default)]
    pub(crate) known: Option<(u64, u64)>,
    /// How often it was tried before. Replicas take turns.
    #[serde(default)]
    pub(crate) attempt: usize,
}

/// What is answered: a copy that a node holds ready.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ExportPage {
    /// The node.
    pub(crate) node: u64,
    /// The term and the index of the last entry that the state has.
    pub(crate) last: (u64, u64),
    /// The number of the copy. None if the state is there already.
    pub(crate) export: Option<u64>,
}

/// What is answered in the place of a part at the end of a copy.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct EndPage {
    /// How many bytes the copy has.
    pub(crate) bytes: u64,
    /// Their checksum, made where they were read.
    pub(crate) checksum: Checksum,
}

/// What is answered when keys were taken in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct ImportPage {
    /// How many.
    pub(crate) keys: u64,
}

/// The pages.
pub(crate) fn pages() -> Pages<Admin> {
    Pages::new()
        .route("/layout", get(layout))
        .route("/keyspace", get(keyspace))
        .route("/groups/{id}/export", post(export))
        .route("/exports/{node}/{export}/{number}", post(part))
        .route("/import/{partition}", post(import).layer(DefaultBodyLimit::max(MOST_BYTES)))
}

async fn layout(State(admin): State<Admin>) -> Result<Json<LayoutPage>, Refusal> {
    let router = router(&admin)?;
    let map = router.map();
    let groups = map.ranges().iter();
    let groups = groups.map(|range| GroupRange { id: range.group.0, start: hex(&range.start) });
    Ok(Json(LayoutPage {
        cluster_id: router.table().cluster().map(|id| id.to_string()).unwrap_or_default(),
        partition: map.layout().to_owned(),
        groups: groups.collect(),
    }))
}

async fn keyspace(State(admin): State<Admin>) -> Result<Json<KeyspacePage>, Refusal> {
    let backend = backend(&admin)?;
    let query = Query::Keyspace.encode();
    let request =
        |range| StoreRequest { range: RangeId(range), access: Access::Read, body: query.clone() };
    let requests = (0..backend.ranges()).map(request).collect();
    let mut page = KeyspacePage::default();
    for answer in answers_to(&backend, requests).await? {
        let Answer::Keyspace(databases) = answer else { return Err(garbled()) };
        for size in databases {
            page.keys += size.keys;
            page.expiring += size.expiring;
            *page.databases.entry(size.database).or_default() += size.keys;
        }
    }
    Ok(Json(page))
}

async fn export(
    State(admin): State<Admin>,
    Path(id): Path<u64>,
    Json(ExportOrder { known, attempt }): Json<ExportOrder>,
) -> Result<Json<ExportPage>, Refusal> {
    let known = known.map(|(term, index)| LogId::new(Term(term), Index(index)));
    let export = router(&admin)?.export(GroupId(id), known, attempt).await.map_err(refusal)?;
    let last = (export.last.term.0, export.last.index.0);
    Ok(Json(ExportPage { node: export.node.0, last, export: export.number }))
}

async fn part(
    State(admin): State<Admin>,
    Path((node, export, number)): Path<(u64, u64, u64)>,
) -> Result<Response, Refusal> {
    let part = router(&admin)?.export_part(NodeId(node), export, number).await.map_err(refusal)?;
    Ok(match part {
        ExportPart::Bytes(bytes) => {
            ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response()
        }
        ExportPart::End { bytes, checksum } => {
            Json(EndPage { bytes, checksum: Checksum(checksum) }).into_response()
        }
    })
}

/// Takes keys in, which come in the form of a snapshot and are laid out in this way. Each is set,
/// whatever was there, so the same keys may come twice.
async fn import(
    State(admin): State<Admin>,
    Path(partition): Path<String>,
    body: Bytes,
) -> Result<Json<ImportPage>, Refusal> {
    let bad = |reason: String| (StatusCode::BAD_REQUEST, format!("{reason}\n"));
    let partition: Partition = partition.parse().map_err(|it| bad(format!("{it}")))?;
    let backend = backend(&admin)?;
    let mut commands = Commands::new(&backend);
    let mut keys = 0;
    let read = read_copy(&mut &body[..], |database, key, entry| {
        keys += 1;
        commands.set(database, backend.partition().stored(partition.client_key(key)), entry);
        Ok(())
    });
    read.map_err(|error: io::Error| bad(format!("the keys can't be read: {error}")))?;
    drop(body);
    for answer in answers_to(&backend, commands.finish()).await? {
        if let Answer::Failed(failure) = answer {
            return Err(match failure {
                Failure::OutOfMemory => {
                    let reason = "a node has no memory for more keys: see --max-memory\n";
                    (StatusCode::INSUFFICIENT_STORAGE, reason.to_owned())
                }
                failure => bad(format!("a key was refused: {failure:?}")),
            });
        }
    }
    Ok(Json(ImportPage { keys }))
}

/// The commands that set keys: few for those that don't expire, and one for each other.
struct Commands<'a> {
    backend: &'a ClusterBackend,
    requests: Vec<StoreRequest>,
    /// Keys that don't expire and wait for others of their range and database.
    pairs: BTreeMap<(usize, u8), Pairs>,
}

#[derive(Default)]
struct Pairs {
    pairs: Vec<(Bytes, Bytes)>,
    bytes: usize,
}

impl<'a> Commands<'a> {
    const fn new(backend: &'a ClusterBackend) -> Self {
        Self { backend, requests: Vec::new(), pairs: BTreeMap::new() }
    }

    fn set(&mut self, database: u8, key: Bytes, entry: Entry) {
        let range = self.backend.range_of(&key);
        let expires = entry.expires();
        let Entry { value, deadline_ms } = entry;
        if expires {
            let deadline = i64::try_from(deadline_ms).unwrap_or(i64::MAX);
            let command = Command::Set {
                key,
                value,
                condition: Condition::Always,
                want_old: None,
                lifetime: Lifetime::Until(Deadline::At(deadline)),
            };
            return self.push(range, database, &command);
        }
        let waiting = self.pairs.entry((range.0, database)).or_default();
        waiting.bytes += key.len() + value.len();
        waiting.pairs.push((key, value));
        if waiting.bytes >= COMMAND_BYTES {
            let pairs = std::mem::take(waiting).pairs;
            self.push(range, database, &Command::SetMany { pairs, only_if_missing: false });
        }
    }

    fn push(&mut self, range: RangeId, database: u8, command: &Command) {
        let body = command.encode_in(database);
        self.requests.push(StoreRequest { range, access: Access::Write, body });
    }

    fn finish(mut self) -> Vec<StoreRequest> {
        for ((range, database), Pairs { pairs, .. }) in std::mem::take(&mut self.pairs) {
            if !pairs.is_empty() {
                let command = Command::SetMany { pairs, only_if_missing: false };
                self.push(RangeId(range), database, &command);
            }
        }
        self.requests
    }
}

/// The answers to all requests, in any order, or why one has none.
async fn answers_to(
    backend: &ClusterBackend,
    requests: Vec<StoreRequest>,
) -> Result<Vec<Answer>, Refusal> {
    let mut decoded = Vec::with_capacity(requests.len());
    let mut answers = backend.request_all(requests);
    loop {
        match tokio::time::timeout(HURRY, StoreAnswers::next(&mut answers)).await {
            Err(_) => StoreAnswers::hurry(&mut answers),
            Ok(None) => return Ok(decoded),
            Ok(Some(some)) => {
                for (_, answer) in some {
                    let answer = answer.map_err(unanswered)?;
                    decoded.push(Answer::decode(&answer).map_err(|_| garbled())?);
                }
            }
        }
    }
}

fn unanswered(error: BackendError) -> Refusal {
    let code = match error {
        BackendError::TooLarge { .. } | BackendError::AnswerTooLarge { .. } => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{error}\n"))
}

fn garbled() -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, "a group has answered what makes no sense\n".to_owned())
}

fn backend(admin: &Admin) -> Result<ClusterBackend, Refusal> {
    let router = router(admin)?;
    let partition = router.map().layout().parse();
    let partition =
        partition.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))?;
    Ok(ClusterBackend::new(router.clone(), partition, Limits::default()))
}
