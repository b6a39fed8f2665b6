//! The Redis front's backend on a cluster, and the state machine of its groups.

use crate::backend::{Backend, BackendError, RangeId, StoreAnswer, StoreAnswers, StoreRequest};
use crate::kv::Store;
use crate::layout::{CLUSTER_SLOTS, Partition, in_slot};
use crate::limits::Limits;
use crate::topology::{ClientAddress, ClientAddresses, SlotSpan, Topology, TopologyNode};
use bytes::Bytes;
use logboat::{CommandAdmission, NodeId, SnapshotWriter, StateMachine};
use logboat_router::{RangeRequest, RouteError, RoutedBatch, Router};
use std::io;
use std::sync::Arc;

/// A cluster, seen from one of its nodes.
#[derive(Clone)]
pub struct ClusterBackend {
    router: Router,
    partition: Partition,
    limits: Limits,
    addresses: Arc<ClientAddresses>,
}

impl ClusterBackend {
    /// The cluster behind `router`, with its keys laid out by `partition`.
    #[must_use]
    pub fn new(router: Router, partition: Partition, limits: Limits) -> Self {
        Self { router, partition, limits, addresses: Arc::default() }
    }

    /// Where clients reach the nodes.
    #[must_use]
    pub fn addresses(&self) -> &ClientAddresses {
        &self.addresses
    }

    /// Which slots are led by whom. Where the slots of Redis Cluster are scattered over the groups,
    /// any node has all of them.
    fn spans(&self) -> Vec<SlotSpan> {
        let map = self.router.map();
        let me = self.router.node().id();
        if self.partition != Partition::Slots {
            return vec![SlotSpan {
                slots: 0..=CLUSTER_SLOTS - 1,
                leader: me.0,
                others: Vec::new(),
            }];
        }
        let mut spans: Vec<SlotSpan> = Vec::new();
        for slot in 0..CLUSTER_SLOTS {
            let range = &map.ranges()[map.locate(&in_slot(slot << 2, b""))];
            let known = self.router.leader_of(range).filter(|node| self.is_known(*node));
            let reached = || range.replicas.iter().copied().find(|node| self.is_reached(*node));
            let leader = known.or_else(reached).unwrap_or(me);
            let others = range.replicas.iter().filter(|node| **node != leader);
            let others: Vec<_> = others.map(|node| node.0).collect();
            match spans.last_mut() {
                Some(span) if span.leader == leader.0 && span.others == others => {
                    span.slots = *span.slots.start()..=slot;
                }
                _ => spans.push(SlotSpan { slots: slot..=slot, leader: leader.0, others }),
            }
        }
        spans
    }

    fn is_known(&self, node: NodeId) -> bool {
        self.addresses.of(node).is_some()
    }

    fn is_reached(&self, node: NodeId) -> bool {
        let here = self.router.node();
        self.is_known(node) && (node == here.id() || here.reaches(node))
    }
}

impl Backend for ClusterBackend {
    fn partition(&self) -> Partition {
        self.partition
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn sure_copies(&self) -> usize {
        let map = self.router.map();
        map.ranges().iter().map(|range| range.replicas.len() / 2).min().unwrap_or(0)
    }

    async fn topology(&self) -> Option<Topology> {
        let nodes = self.router.node().members();
        self.addresses.read(self, &nodes).await;
        let node = |id: NodeId| {
            let (address, is_reached) = (self.addresses.of(id)?, self.is_reached(id));
            Some(TopologyNode { id: id.0, address, is_reached })
        };
        let nodes = nodes.into_iter().filter_map(node).collect();
        Some(Topology { me: self.router.node().id().0, nodes, spans: self.spans() })
    }

    fn led_elsewhere(&self, range: RangeId) -> Option<ClientAddress> {
        let map = self.router.map();
        let leader = self.router.leader_of(&map.ranges()[range.0])?;
        (leader != self.router.node().id()).then(|| self.addresses.of(leader)).flatten()
    }

    fn ranges(&self) -> usize {
        self.router.map().ranges().len()
    }

    fn range_of(&self, stored_key: &[u8]) -> RangeId {
        RangeId(self.router.map().locate(stored_key))
    }

    fn bounds(&self, range: RangeId) -> (Bytes, Option<Bytes>) {
        let map = self.router.map();
        let ranges = map.ranges();
        let end = ranges.get(range.0 + 1).map(|next| next.start.clone());
        (ranges[range.0].start.clone(), end)
    }

    type Answers = RoutedBatch;

    fn request_all(&self, requests: Vec<StoreRequest>) -> RoutedBatch {
        let routed =
            |StoreRequest { range, access, body }| RangeRequest { range: range.0, access, body };
        self.router.request_all(requests.into_iter().map(routed).collect())
    }

    async fn propose(&self, range: RangeId, command: Bytes) -> Result<Bytes, BackendError> {
        let map = self.router.map();
        Ok(self.router.propose(&map.ranges()[range.0], command).await?)
    }

    async fn read(&self, range: RangeId, query: Bytes) -> Result<Bytes, BackendError> {
        let map = self.router.map();
        Ok(self.router.read(&map.ranges()[range.0], query).await?)
    }
}

impl StoreAnswers for RoutedBatch {
    async fn next(&mut self) -> Option<Vec<StoreAnswer>> {
        let answers = Self::next(self).await?;
        let answer = |(number, answer): (_, Result<_, RouteError>)| {
            (number, answer.map_err(BackendError::from))
        };
        Some(answers.into_iter().map(answer).collect())
    }

    fn hurry(&mut self) {
        Self::hurry(self);
    }
}

impl From<RouteError> for BackendError {
    fn from(error: RouteError) -> Self {
        match error {
            RouteError::Busy => Self::Busy,
            RouteError::LogFull => Self::LogFull,
            RouteError::Unavailable { reason: _ } => Self::Unavailable,
            RouteError::LeaderUnreachable { leader } => Self::LeaderUnreachable(leader),
            RouteError::OutcomeUnknown => Self::OutcomeUnknown,
            RouteError::NoRoomForAnswer { bytes } => Self::NoRoomForAnswer { bytes },
            RouteError::TooLarge { bytes, limit } => Self::TooLarge { bytes, limit },
            RouteError::AnswerTooLarge { bytes, limit } => Self::AnswerTooLarge { bytes, limit },
        }
    }
}

impl StateMachine for Store {
    fn apply(&mut self, command: Bytes) -> Bytes {
        Self::apply(self, &command)
    }

    fn query(&self, query: Bytes) -> Bytes {
        Self::query(self, &query)
    }

    fn snapshot(&self) -> SnapshotWriter {
        Self::snapshot(self)
    }

    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()> {
        Self::restore(self, reader)
    }

    fn command_admission(&self) -> Option<Arc<dyn CommandAdmission>> {
        Some(Arc::new(self.admission()))
    }
}
