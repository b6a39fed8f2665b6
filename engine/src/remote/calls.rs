//! Calls (remote procedure calls): requests to replicas on other nodes, and the places where their
//! answers are waited for.

use crate::request::answers::{Callers, Place};
use crate::request::encoding::decode_reply;
use bytes::Bytes;
use logboat_raft::NodeId;
use logboat_transport::RequestId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The requests of this node that are under way to others.
pub(crate) struct Calls {
    next: AtomicU64,
    waiting: Mutex<FxHashMap<RequestId, Call>>,
}

/// A request that is under way to another node.
pub(crate) struct Call {
    /// The node that was asked.
    pub(crate) node: NodeId,
    /// Where its answer goes.
    pub(crate) place: Place,
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

    /// Waits for the answers to these calls.
    pub(crate) fn begin(&self, calls: impl IntoIterator<Item = (RequestId, Call)>) {
        self.waiting.lock().extend(calls);
    }

    /// Hands the answers of `node` to those who still wait for them. Returns the answers that
    /// nobody here waits for.
    pub(crate) fn answered(
        &self,
        node: NodeId,
        mut answers: Vec<(RequestId, Bytes)>,
    ) -> Vec<(RequestId, Bytes)> {
        let mut callers = Callers::default();
        let mut waiting = self.waiting.lock();
        answers.retain_mut(|(id, body)| {
            if waiting.get(id).is_none_or(|call| call.node != node) {
                return true;
            }
            if let Some(call) = waiting.remove(id) {
                callers.add(call.place.answer(decode_reply(std::mem::take(body))));
            }
            false
        });
        drop(waiting);
        callers.wake();
        answers
    }

    /// Takes out the calls that still wait among these.
    pub(crate) fn take(&self, ids: &[RequestId]) -> Vec<Call> {
        let mut waiting = self.waiting.lock();
        ids.iter().filter_map(|id| waiting.remove(id)).collect()
    }

    /// Ends the calls to a node whose connection is gone: their outcome is unknown.
    pub(crate) fn disconnected(&self, node: NodeId) {
        let gone: Vec<_> = self.waiting.lock().extract_if(|_, call| call.node == node).collect();
        drop(gone);
    }
}
