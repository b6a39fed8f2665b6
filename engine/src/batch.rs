//! A batch: requests to several groups that one caller makes together. Each worker here and each
//! node elsewhere gets its part at once, and the caller is woken when all answers are there.

use crate::admission::gate::AdmissionGate;
use crate::error::RequestError;
use crate::handle::GroupHandle;
use crate::remote::calls::{Call, Calls};
use crate::replica::event::GroupEvent;
use crate::replica::request::Request;
use crate::request::GroupRequest;
use crate::request::answers::Gathering;
use crate::request::encoding::put_request;
use crate::request::kind::{Answer, RequestKind};
use crate::start::Parts;
use crate::worker::event::Event;
use crate::worker::inbox::WorkerInbox;
use logboat_raft::{GroupId, NodeId};
use logboat_transport::{Outgoing, RequestId, SendError};
use smallvec::SmallVec;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

/// Requests to several groups that leave together. Each has a number: the first is 0.
///
/// ```
/// # use logboat::{Bytes, GroupId, GroupRequest, GroupSpec, Node, NodeConfig, NodeId};
/// # use logboat::StateMachine;
/// # use std::collections::BTreeMap;
/// # #[derive(Default)]
/// # struct Counter(u8);
/// # impl StateMachine for Counter {
/// #     fn apply(&mut self, command: Bytes) -> Bytes {
/// #         self.0 += command[0];
/// #         Bytes::copy_from_slice(&[self.0])
/// #     }
/// #     fn query(&self, _: Bytes) -> Bytes { Bytes::copy_from_slice(&[self.0]) }
/// #     fn snapshot(&self) -> logboat::SnapshotWriter { Box::new(|_| Ok(())) }
/// #     fn restore(&mut self, _: &mut dyn std::io::Read) -> std::io::Result<()> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let members = BTreeMap::from([(NodeId(1), "127.0.0.1:0".to_owned())]);
/// # let node = Node::start(NodeConfig::new(NodeId(1), members, dir.path())?)?;
/// # let start = |group| node.create_group(GroupSpec {
/// #     group: GroupId(group),
/// #     replicas: vec![NodeId(1)],
/// #     preferred: None,
/// #     machine: Box::new(Counter::default()),
/// # });
/// // Two groups that this node leads, whose commands are numbers to add.
/// let counters = [start(1)?, start(2)?];
/// let mut batch = node.batch();
/// for counter in &counters {
///     counter.view().led().await;
///     batch.ask(counter, &GroupRequest::propose(Bytes::from_static(&[5])));
/// }
/// let mut answers = batch.send();
/// while let Some(some) = answers.next().await {
///     for (_number, answer) in some {
///         assert_eq!(answer?, &[5][..]);
///     }
/// }
/// # node.stop();
/// # Ok(())
/// # }
/// ```
pub struct Batch<'a> {
    parts: &'a Parts,
    gathering: Arc<Gathering>,
    /// How many requests there are.
    requests: usize,
    /// Those that were refused before they left.
    refused: Vec<(usize, Answer)>,
    /// The kinds of those that replicas here get, by number.
    here: Vec<(usize, RequestKind)>,
    workers: SmallVec<[(Arc<WorkerInbox>, Vec<Event>); 2]>,
    frames: SmallVec<[Frame; 2]>,
    /// The encoded request that is being added; kept for its memory.
    encoded: Vec<u8>,
}

/// Requests to one node that leave in one frame, so that all of them leave or none.
struct Frame {
    node: NodeId,
    outgoing: Outgoing,
    calls: Vec<(RequestId, Call)>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(parts: &'a Parts) -> Self {
        Self {
            parts,
            gathering: Gathering::new(),
            requests: 0,
            refused: Vec::new(),
            here: Vec::new(),
            workers: SmallVec::new(),
            frames: SmallVec::new(),
            encoded: Vec::new(),
        }
    }

    /// Adds a request to a replica on this node. Requests to one replica reach it in the order in
    /// which they were added.
    pub fn ask(&mut self, replica: &GroupHandle, request: &GroupRequest) {
        let number = self.next_number();
        let (kind, body) = (request.kind(), request.body());
        let permit = match replica.gate.admit(kind, body) {
            Ok(permit) => permit,
            Err(error) => return self.refused.push((number, Err(error))),
        };
        let request = Request::gathered(body.clone(), self.gathering.place(number), permit);
        let event = Event::Local(replica.slot, GroupEvent::request(kind, request));
        self.here.push((number, kind));
        match self.workers.iter_mut().find(|(inbox, _)| Arc::ptr_eq(inbox, &replica.worker)) {
            Some((_, events)) => events.push(event),
            None => self.workers.push((Arc::clone(&replica.worker), vec![event])),
        }
    }

    /// Adds a request to the replica of `group` on another node. It is answered for as long as the
    /// connection stands: bound the wait.
    pub fn call(&mut self, node: NodeId, group: GroupId, request: &GroupRequest) {
        self.push_call(node, request, |outgoing, id, body| outgoing.push_request(id, group, body));
    }

    /// Like [`Self::call`], but has the node `via` forward the request, once, since this node does
    /// not reach `to`. [`RequestError::Unreachable`] names the node that was not reached.
    pub fn call_via(&mut self, via: NodeId, to: NodeId, group: GroupId, request: &GroupRequest) {
        self.push_call(via, request, |outgoing, id, body| {
            outgoing.push_forward(id, to, group, body);
        });
    }

    /// Sends the requests. What the node refuses is answered at once.
    #[must_use]
    pub fn send(self) -> Answers {
        let Self { parts, gathering, requests, refused, here, workers, frames, .. } = self;
        let start = Instant::now();
        gathering.begin(requests - refused.len(), refused);
        for (worker, events) in workers {
            worker.post_all(events);
        }
        let mut ids = Vec::new();
        for frame in frames {
            ids.extend(frame.calls.iter().map(|(id, _)| *id));
            frame.send(parts);
        }
        let (calls, gate) = (Arc::clone(&parts.calls), Arc::clone(&parts.gate));
        Answers { gathering, calls, ids, gate, here, start }
    }

    const fn next_number(&mut self) -> usize {
        self.requests += 1;
        self.requests - 1
    }

    fn push_call(
        &mut self,
        node: NodeId,
        request: &GroupRequest,
        push: impl FnOnce(&mut Outgoing, RequestId, &[u8]),
    ) {
        let number = self.next_number();
        if let Err(error) = self.parts.gate.check(request.kind(), request.body()) {
            return self.refused.push((number, Err(error)));
        }
        self.encoded.clear();
        put_request(&mut self.encoded, request.kind(), request.body());
        let body = &self.encoded;
        let open = self.frames.iter().rposition(|frame| frame.node == node);
        let at = match open.filter(|&at| self.frames[at].outgoing.has_room_for(body.len())) {
            Some(at) => at,
            None => {
                self.frames.push(Frame { node, outgoing: Outgoing::new(), calls: Vec::new() });
                self.frames.len() - 1
            }
        };
        let frame = &mut self.frames[at];
        let id = self.parts.calls.next_id();
        push(&mut frame.outgoing, id, body);
        frame.calls.push((id, Call { node, place: self.gathering.place(number) }));
    }
}

impl Frame {
    /// Sends the requests, or has them answered if they can't leave.
    fn send(self, parts: &Parts) {
        let Self { node, outgoing, calls } = self;
        let ids: SmallVec<[RequestId; 16]> = calls.iter().map(|(id, _)| *id).collect();
        // The answers may come before the call below returns.
        parts.calls.begin(calls);
        let error = match parts.transport.send(node, outgoing) {
            Ok(()) => return,
            Err(SendError::Full) => RequestError::Busy,
            Err(_) => RequestError::Unreachable(node),
        };
        for Call { place, .. } in parts.calls.take(&ids) {
            if let Some(caller) = place.answer(Err(error.clone())) {
                caller.wake();
            }
        }
    }
}

/// The answers to the requests of a [`Batch`], of which none is lost when a wait for them is
/// abandoned. Dropping this forgets the requests, which may have their effects all the same.
pub struct Answers {
    gathering: Arc<Gathering>,
    calls: Arc<Calls>,
    /// The requests that went to other nodes.
    ids: Vec<RequestId>,
    gate: Arc<AdmissionGate>,
    /// The requests that went to replicas here, for the metrics.
    here: Vec<(usize, RequestKind)>,
    start: Instant,
}

impl Answers {
    /// Waits for answers, and returns them with the numbers of their requests. These are all
    /// answers at once, or, after [`Self::hurry`], those that are there as soon as there is any.
    /// `None` once all were returned.
    ///
    /// An answer is what [`GroupHandle::request`] would return, or
    /// [`Node::call`](crate::Node::call).
    pub async fn next(&mut self) -> Option<Vec<(usize, Result<bytes::Bytes, RequestError>)>> {
        let answers = poll_fn(|context| self.gathering.poll(context)).await?;
        self.observe(&answers);
        Some(answers)
    }

    /// From now on, returns answers as they come.
    pub fn hurry(&self) {
        self.gathering.take_piecemeal();
    }

    /// Counts the answers of replicas here.
    fn observe(&self, answers: &[(usize, Answer)]) {
        if self.here.is_empty() {
            return;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        for (number, _) in answers {
            let Ok(at) = self.here.binary_search_by_key(number, |(number, _)| *number) else {
                continue;
            };
            self.gate.metrics.observe(self.here[at].1, seconds);
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.ids.is_empty() && self.gathering.missing() > 0 {
            drop(self.calls.take(&self.ids));
        }
    }
}
