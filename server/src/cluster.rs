//! The Redis front's backend on a cluster, and the state machine of its groups.

use crate::backend::{Backend, BackendError, RangeId, StoreAnswer, StoreAnswers, StoreRequest};
use crate::kv::Store;
use crate::layout::{CLUSTER_SLOTS, Partition, in_slot};
use crate::limits::Limits;
use crate::topology::{ClientAddress, SlotSpan, Topology, TopologyNode};
use bytes::Bytes;
use logboat::{CommandAdmission, NodeId, ReadFrom, ReadMode, SnapshotWriter, StateMachine};
use logboat_router::{RangeRequest, RouteError, RoutedBatch, Router};
use std::io;
use std::sync::Arc;

/// A cluster, seen from one of its nodes.
#[derive(Clone)]
pub struct ClusterBackend {
    router: Router,
    partition: Partition,
    limits: Limits,
    /// Where clients reach this node, which the table may not know yet.
    own: Option<ClientAddress>,
}

impl ClusterBackend {
    /// The cluster behind `router`, with its keys laid out by `partition`.
    #[must_use]
    pub fn new(router: Router, partition: Partition, limits: Limits) -> Self {
        Self { router, partition, limits, own: None }
    }

    /// The same, where clients reach this node at `address` (`host:port`).
    #[must_use]
    pub fn reached_at(self, address: &str) -> Self {
        Self { own: ClientAddress::read(address), ..self }
    }

    /// The way of requests to the cluster.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
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
        let firsts = map.ranges().iter().map(|range| first_slot(&range.start));
        let ends = firsts.clone().skip(1).chain([CLUSTER_SLOTS]);
        for ((range, first), end) in map.ranges().iter().zip(firsts).zip(ends) {
            if first == end {
                // It holds a part of a slot that begins in another.
                continue;
            }
            let known = self.router.leader_of(range).filter(|node| self.is_known(*node));
            let reached = || range.replicas.iter().copied().find(|node| self.is_reached(*node));
            let leader = known.or_else(reached).unwrap_or(me);
            let others = range.replicas.iter().filter(|node| **node != leader);
            let others: Vec<_> = others.map(|node| node.0).collect();
            match spans.last_mut() {
                Some(span) if span.leader == leader.0 && span.others == others => {
                    span.slots = *span.slots.start()..=end - 1;
                }
                _ => spans.push(SlotSpan { slots: first..=end - 1, leader: leader.0, others }),
            }
        }
        spans
    }

    /// Where clients reach a node.
    fn address_of(&self, node: NodeId) -> Option<ClientAddress> {
        let own = self.own.as_ref().filter(|_| node == self.router.node().id());
        let table = || self.router.table().node(node).map(|record| record.card.clients.clone());
        own.cloned().or_else(|| ClientAddress::read(&table()?))
    }

    fn is_known(&self, node: NodeId) -> bool {
        self.address_of(node).is_some()
    }

    fn is_reached(&self, node: NodeId) -> bool {
        let here = self.router.node();
        self.is_known(node) && (node == here.id() || here.reaches(node))
    }
}

/// The first slot that begins at or behind a stored key.
fn first_slot(start: &[u8]) -> u16 {
    if start.is_empty() {
        return 0;
    }
    let slot = Partition::Slots.stored_slot(start) >> 2;
    if &in_slot(slot << 2, b"")[..] < start { slot + 1 } else { slot }
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

    fn has_topology(&self) -> bool {
        true
    }

    async fn topology(&self) -> Option<Topology> {
        let nodes = self.router.node().members();
        let node = |id: NodeId| {
            let (address, is_reached) = (self.address_of(id)?, self.is_reached(id));
            Some(TopologyNode { id: id.0, address, is_reached })
        };
        let nodes = nodes.into_iter().filter_map(node).collect();
        Some(Topology { me: self.router.node().id().0, nodes, spans: self.spans() })
    }

    fn led_elsewhere(&self, range: RangeId) -> Option<ClientAddress> {
        let map = self.router.map();
        let leader = self.router.leader_of(&map.ranges()[range.0])?;
        let is_elsewhere = leader != self.router.node().id();
        is_elsewhere.then(|| self.address_of(leader)).flatten()
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

    async fn read_here(&self, range: RangeId, query: Bytes) -> Result<Bytes, BackendError> {
        let (map, mode) = (self.router.map(), ReadMode { from: ReadFrom::Any, lease: false });
        Ok(self.router.read_in(mode, &map.ranges()[range.0], query).await?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_belongs_to_the_range_that_its_first_key_is_in() {
        assert_eq!(first_slot(b""), 0);
        for slot in [0, 1, 7_000, CLUSTER_SLOTS - 1] {
            let start = in_slot(slot << 2, b"");
            assert_eq!(first_slot(&start), slot);
            assert_eq!(first_slot(&in_slot(slot << 2, b"a")), slot + 1);
            assert_eq!(first_slot(&in_slot((slot << 2) + 1, b"")), slot + 1);
        }
    }
}
