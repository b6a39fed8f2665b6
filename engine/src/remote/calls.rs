//! Calls (remote procedure calls): requests to replicas on other nodes, and the callers that wait
//! for their answers.

use crate::error::RequestError;
use crate::request::encoding::decode_reply;
use crate::request::kind::Answer;
use bytes::Bytes;
use logboat_raft::NodeId;
use logboat_transport::RequestId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// The requests of this node that are under way to others.
pub(crate) struct Calls {
    next: AtomicU64,
    waiting: Mutex<HashMap<RequestId, (NodeId, oneshot::Sender<Answer>)>>,
}

impl Calls {
    /// `seed` differs between runs of a node, so that an answer to a request of an earlier run is
    /// not taken for one of this.
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { next: AtomicU64::new(seed), waiting: Mutex::default() })
    }

    /// An id that no request of this node has had.
    pub(crate) fn next_id(&self) -> RequestId {
        RequestId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// A new call to `node`.
    pub(crate) fn begin(self: &Arc<Self>, node: NodeId) -> Call {
        let id = self.next_id();
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().insert(id, (node, sender));
        Call { id, calls: Arc::clone(self), receiver }
    }

    /// Hands the answer of `node` to its caller, if that still waits.
    pub(crate) fn answered(&self, node: NodeId, id: RequestId, body: Bytes) {
        let mut waiting = self.waiting.lock();
        if waiting.get(&id).is_none_or(|(asked, _)| *asked != node) {
            return;
        }
        if let Some((_, sender)) = waiting.remove(&id) {
            let _ = sender.send(decode_reply(body));
        }
    }

    /// Ends the calls to a node whose connection is gone: their outcome is unknown.
    pub(crate) fn disconnected(&self, node: NodeId) {
        self.waiting.lock().retain(|_, (asked, _)| *asked != node);
    }
}

/// A call under way. Dropping it forgets it.
pub(crate) struct Call {
    id: RequestId,
    calls: Arc<Calls>,
    receiver: oneshot::Receiver<Answer>,
}

impl Call {
    pub(crate) fn id(&self) -> RequestId {
        self.id
    }

    /// Waits for the answer.
    pub(crate) async fn answer(mut self) -> Answer {
        (&mut self.receiver).await.unwrap_or(Err(RequestError::TimedOut))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.waiting.lock().remove(&self.id);
    }
}
