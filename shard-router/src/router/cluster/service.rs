//! What nodes ask each other about the cluster, and what somebody asks who wants to join it.

use super::join::{Application, Welcome};
use super::rejoin::{Resignation, Resigned};
use crate::router::Inner;
use crate::table::News;
use bytes::Bytes;
use logboat::{GroupId, Node, NodeId, NodeService, Reply, RequestError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long a node that follows waits for news.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(12);

/// What a node is asked. What follows in brackets is the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Question {
    /// What has happened to the table since this version ([`News`])? Answered when something has,
    /// or after a while.
    Follow { since: u64 },
    /// What do your replicas do ([`Report`])?
    Report,
    /// How far are these learners, each given as its group, which leads at your node, and its node
    /// (`Vec<LearnerReport>`)? Those that you can't tell of are left out.
    Learners { learners: Vec<(u64, u64)> },
    /// Hold a copy of your replica of this group ready, unless its state is the one after this
    /// entry (`Result<Opened, String>`).
    Export { group: u64, known: Option<(u64, u64)> },
    /// What is this part of a copy ([`PartAnswer`](super::export::PartAnswer), in its own form)?
    ExportPart { export: u64, number: u64 },
    /// Why is the node of this directory not part of the cluster any more (`Option<String>`)?
    Standing { node: u64, incarnation: u64 },
    /// May this node join (`Result<Welcome, String>`)?
    Join(Application),
    /// May this node, which can't go on under its id, be given up (`Resigned`)?
    Resign(Resignation),
}

/// What a node says of its replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The groups that it leads, with how many bytes a copy of each takes.
    pub(super) led: Vec<(u64, u64)>,
    /// The groups whose replica there has failed.
    pub(super) failed: Vec<u64>,
    /// The groups whose replica there is gone though the table names it as a member, with the term
    /// and the index of the smallest id that a replica there may have.
    #[serde(default)]
    pub(super) gone: Vec<(u64, (u64, u64))>,
    /// Whether its disk takes no more.
    pub(super) is_full: bool,
    /// The nodes that it reaches.
    pub(super) reaches: Vec<u64>,
    /// The starts of its peers that it has last let in: node, count and nonce.
    #[serde(default)]
    pub(super) let_in: Vec<(u64, u64, u64)>,
    /// The nodes that recoveries of lost majorities have given up there.
    #[serde(default)]
    pub(super) given_up: Vec<u64>,
}

/// How far a learner is, as its leader says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LearnerReport {
    pub(super) group: u64,
    pub(super) node: u64,
    pub(super) is_ready: bool,
    /// The index of the last entry that it is known to hold.
    pub(super) matched: u64,
}

/// Asks another node.
pub(super) async fn ask<T: DeserializeOwned>(
    node: &Node,
    to: NodeId,
    question: &Question,
) -> Result<T, RequestError> {
    let asking = node.ask(to, encode(question));
    let answer = timeout(ANSWER_LIMIT, asking).await.unwrap_or(Err(RequestError::TimedOut))?;
    serde_json::from_slice(&answer).map_err(|_| RequestError::Stopped)
}

pub(super) fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("its keys are strings").into()
}

/// Has this node answer from now on.
pub(super) fn register(inner: &Arc<Inner>) {
    let service = Service { inner: Arc::downgrade(inner), runtime: Handle::current() };
    inner.node.serve(Arc::new(service));
}

/// The node has it for as long as it runs, so it must not have the node.
struct Service {
    inner: Weak<Inner>,
    runtime: Handle,
}

impl NodeService for Service {
    fn asked(&self, from: Option<NodeId>, request: Bytes, reply: Reply) {
        let Some(inner) = self.inner.upgrade() else { return };
        self.runtime.spawn(async move {
            let Ok(question) = serde_json::from_slice(&request) else { return };
            if let Some(answer) = inner.answer(from, question).await {
                reply.send(answer);
            }
        });
    }
}

impl Inner {
    /// Answers a node, or a visitor, who may ask to join or to be given up, and whether a node has
    /// left.
    async fn answer(self: &Arc<Self>, from: Option<NodeId>, question: Question) -> Option<Bytes> {
        match question {
            Question::Follow { since } => {
                from?;
                Some(encode(&self.news(since).await))
            }
            Question::Report => {
                from?;
                // A replica may be found to have failed when it is started.
                if !self.has_started.load(Ordering::Relaxed) {
                    return None;
                }
                Some(encode(&self.report()))
            }
            Question::Learners { learners } => {
                from?;
                Some(encode(&self.learners(&learners).await))
            }
            Question::Export { group, known } => {
                from?;
                Some(encode(&self.open_export(GroupId(group), known).await))
            }
            Question::ExportPart { export, number } => {
                from?;
                Some(self.exports.part(export, number).await.encode())
            }
            Question::Standing { node, incarnation } => {
                Some(encode(&self.standing(node, incarnation)))
            }
            Question::Join(application) => {
                let welcome: Result<Welcome, String> = self.welcome(application).await?;
                Some(encode(&welcome))
            }
            Question::Resign(resignation) => {
                let resigned: Resigned = self.resigned(resignation).await?;
                Some(encode(&resigned))
            }
        }
    }

    async fn news(&self, since: u64) -> News {
        let mut tables = self.feed.watch();
        let newer = tables.wait_for(|table| table.version() > since);
        let _ = timeout(PATIENCE, newer).await;
        self.feed.since(since)
    }
}
