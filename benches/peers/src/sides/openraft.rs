//! openraft in the contests: in memory, replicas that call each other, its best case.
//!
//! It is set up as in its own `cluster_benchmark`. Its log is in memory and durable at once, its
//! state machine does nothing, and its network is function calls. Requests have up to 1,024
//! entries. Replicas and clients share one runtime of tokio. Three things are more favourable than
//! there. Appends to a follower are pipelined (`Raft::stream_append`). Heartbeats are rare, as
//! befits thousands of groups: every second, and never while there is traffic, rather than 20 times
//! a second. There are no snapshots; under the default policy none would be due in the time of a
//! run.

use crate::work::clients::Target;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use logboat_bench::Failure;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder, TokioRuntime};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, VoteRequest,
    VoteResponse,
};
use openraft::storage::{
    EntryResponder, IOFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::type_config::alias::{
    EntryOf, LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf,
};
use openraft::vote::RaftLeaderId;
use openraft::{
    Config, Entry, EntryPayload, OptionalSend, Raft, RaftTypeConfig, SnapshotPolicy,
    StoredMembership, Vote,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug, Display};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

const NODES: u64 = 3;

/// Commands are bytes, answers are empty. The rest is what `declare_raft_types` would choose,
/// except for the responder, which is the lighter one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = ();
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, ()>;
    type Entry = Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// A client's command.
#[derive(Clone, Debug)]
pub(crate) struct Command(Bytes);

impl Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0.len())
    }
}

type Replica = Raft<Types, Machine>;

/// The replicas of each group.
pub(crate) struct Groups(Vec<Vec<Replica>>);

impl Groups {
    /// Starts the replicas of all groups and waits until each has its leader.
    pub(crate) async fn start(groups: u64) -> Result<Self, Failure> {
        let config = Config {
            heartbeat_interval: 1_000,
            heartbeat_min_interval: Some(1_000),
            election_timeout_min: 5_000,
            election_timeout_max: 10_000,
            max_payload_entries: 1_024,
            purge_batch_size: 1_024,
            snapshot_policy: SnapshotPolicy::Never,
            ..Config::default()
        };
        let config = Arc::new(config.validate()?);
        let mut started = Vec::new();
        for group in 0..groups {
            started.push(start_group(&config, leader_of(group)).await?);
        }
        for (group, replicas) in (0..).zip(&started) {
            let leader = leader_of(group);
            for replica in replicas {
                let wait = replica.wait(Some(Duration::from_secs(60)));
                wait.current_leader(leader, "the first leader").await?;
            }
        }
        Ok(Self(started))
    }

    /// Stops all replicas.
    pub(crate) async fn stop(&self) {
        for replica in self.0.iter().flatten() {
            // A replica that has failed has stopped already, and its writes were refused.
            let _ = replica.shutdown().await;
        }
    }
}

const fn leader_of(group: u64) -> u64 {
    1 + group % NODES
}

async fn start_group(config: &Arc<Config>, leader: u64) -> Result<Vec<Replica>, Failure> {
    let peers = Peers::default();
    let mut replicas = Vec::new();
    for node in 1..=NODES {
        let (log, machine) = (Log::default(), Machine::default());
        let replica = Raft::new(node, Arc::clone(config), peers.clone(), log, machine).await?;
        peers.0.lock().insert(node, replica.clone());
        replicas.push(replica);
    }
    let members: BTreeMap<u64, ()> = (1..=NODES).map(|node| (node, ())).collect();
    let first = usize::try_from(leader - 1)?;
    replicas[first].initialize(members).await?;
    Ok(replicas)
}

impl Target for Groups {
    async fn write(&self, group: usize, command: Bytes) -> bool {
        let leader = &self.0[group][(leader_of(group as u64) - 1) as usize];
        leader.client_write(Command(command)).await.is_ok()
    }
}

/// The replicas of a group, by node.
#[derive(Clone, Default)]
struct Peers(Arc<Mutex<BTreeMap<u64, Replica>>>);

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &()) -> Peer {
        Peer(self.0.lock().get(&target).cloned())
    }
}

/// Another replica, which is called directly; none when it had not started yet.
struct Peer(Option<Replica>);

impl Peer {
    fn replica(&self) -> Result<&Replica, Unreachable<Types>> {
        self.0.as_ref().ok_or_else(|| Unreachable::from_string("not started yet"))
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RPCError<Types> {
    Unreachable::new(error).into()
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.replica()?.append_entries(request).await.map_err(|error| unreachable(&error))
    }

    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let answers = self.replica()?.stream_append(requests);
            let answers = answers.map_err(|error| unreachable(&error));
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.replica()?.vote(request).await.map_err(|error| unreachable(&error))
    }

    /// There are no snapshots.
    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<Types>,
        _snapshot: SnapshotOf<Types, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(Unreachable::from_string("there are no snapshots").into())
    }
}

/// A log in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<LogContent>>);

#[derive(Default)]
struct LogContent {
    vote: Option<VoteOf<Types>>,
    purged: Option<LogIdOf<Types>>,
    /// Consecutive, from the one after `purged` on; indexes begin with 0.
    entries: VecDeque<EntryOf<Types>>,
}

impl LogContent {
    /// Where the entry of an index is, or would be.
    fn place(&self, index: u64) -> usize {
        let begin = self.entries.front().map_or(0, |entry| entry.log_id.index);
        usize::try_from(index.saturating_sub(begin)).unwrap_or(usize::MAX).min(self.entries.len())
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<EntryOf<Types>>> {
        let content = self.0.lock();
        let from = match range.start_bound() {
            Bound::Included(index) => content.place(*index),
            Bound::Excluded(index) => content.place(index + 1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => content.place(index + 1),
            Bound::Excluded(index) => content.place(*index),
            Bound::Unbounded => content.entries.len(),
        };
        Ok(content.entries.range(from..to).cloned().collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(self.0.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let content = self.0.lock();
        let last = content.entries.back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: content.purged, last_log_id: last.or(content.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        self.0.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.lock().entries.extend(entries);
        done.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        let mut content = self.0.lock();
        let kept = last.map_or(0, |last| content.place(last.index + 1));
        content.entries.truncate(kept);
        Ok(())
    }

    async fn purge(&mut self, last: LogIdOf<Types>) -> io::Result<()> {
        let mut content = self.0.lock();
        let gone = content.place(last.index + 1);
        content.entries.drain(..gone);
        content.purged = Some(last);
        Ok(())
    }
}

/// A state machine that only remembers where it is.
#[derive(Default)]
struct Machine {
    applied: Option<LogIdOf<Types>>,
    membership: StoredMembershipOf<Types>,
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = NoSnapshots;

    async fn applied_state(
        &mut self,
    ) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(members) = entry.payload {
                self.membership = StoredMembership::new(self.applied, members);
            }
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> NoSnapshots {
        NoSnapshots
    }

    async fn install_snapshot(&mut self, _: &SnapshotMetaOf<Types>, (): ()) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, ()>>> {
        Ok(None)
    }
}

/// What builds snapshots where the policy is to have none.
struct NoSnapshots;

impl RaftSnapshotBuilder<Types> for NoSnapshots {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, ()>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
