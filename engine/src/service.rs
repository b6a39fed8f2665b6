//! Requests to a node, rather than to one of its replicas: for whoever builds something on the
//! nodes that its parts on other nodes have to hear of.

use crate::admission::Permit;
use crate::error::RequestError;
use bytes::Bytes;
use logboat_raft::{GroupId, NodeId};
use std::sync::{Arc, OnceLock};

/// What stands in the place of the group in requests to a node.
pub(crate) const SERVICE: GroupId = GroupId(u64::MAX);

/// Answers requests that go to a node ([`Node::serve`](crate::Node::serve)).
pub trait NodeService: Send + Sync + 'static {
    /// Answers a request by `reply`, at once or later. `from` is the node that asks, by
    /// [`Node::ask`](crate::Node::ask), or nobody if it is a
    /// [`Visit`](crate::transport::Visit): then whoever passes what guards the peers' port may
    /// have asked. It is called on the thread of the network, so it must neither block nor panic.
    fn asked(&self, from: Option<NodeId>, request: Bytes, reply: Reply);
}

/// The service of a node.
pub(crate) type Services = OnceLock<Arc<dyn NodeService>>;

/// Takes the answer to a request. Dropped without one, it answers [`RequestError::Stopped`].
pub struct Reply {
    answer: Option<Answer>,
    /// The request counts among those under way.
    _permit: Permit,
}

type Answer = Box<dyn FnOnce(Result<Bytes, RequestError>) + Send>;

impl Reply {
    pub(crate) fn new(
        permit: Permit,
        answer: impl FnOnce(Result<Bytes, RequestError>) + Send + 'static,
    ) -> Self {
        Self { answer: Some(Box::new(answer)), _permit: permit }
    }

    /// Answers. It does not wait for anything.
    pub fn send(mut self, answer: Bytes) {
        self.end(Ok(answer));
    }

    fn end(&mut self, outcome: Result<Bytes, RequestError>) {
        if let Some(answer) = self.answer.take() {
            answer(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.end(Err(RequestError::Stopped));
    }
}
