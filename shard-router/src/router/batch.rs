//! Requests to several ranges at once, each on its way to the leader of its range.
//!
//! All of them are sent together, each to the node that seems to lead. The few that find no leader
//! there, or no way, go on one by one as single requests do.

use super::requests::{FailedAttempt, RoutedRequest, final_error};
use super::{Inner, READ_ATTEMPT_LIMIT, REQUEST_LIMIT};
use crate::error::RouteError;
use crate::map::RangeMap;
use bytes::Bytes;
use logboat::{Answers, GroupRequest, NodeId, ReadFrom, ReadMode, RequestError};
use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A request to the range at this place of the router's map.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// The place of the range.
    pub range: usize,
    /// What is done.
    pub access: Access,
    /// The command or the query.
    pub body: Bytes,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It replicates a command.
    Write,
    /// It has a query answered linearizably by the leader.
    Read,
    /// The same by the replica on this node, if there is one: it asks the leader only up to where
    /// it has to have applied the log.
    ReadHere,
}

/// What became of a request, with its place among those of the batch.
type Answered = (usize, Result<Bytes, RouteError>);

/// Requests under way to several ranges. Dropping it forgets them; commands may have their effects
/// all the same.
pub struct RoutedBatch {
    inner: Arc<Inner>,
    map: Arc<RangeMap>,
    parcels: Vec<Parcel>,
    /// How many parcels have no answer.
    open: usize,
    /// The first attempts, by the places of their parcels in `first`.
    answers: Answers,
    first: SmallVec<[usize; 2]>,
    /// Those that go on alone, made when there is the first.
    alone: Option<JoinSet<(usize, Result<Bytes, RouteError>)>>,
    /// What became of requests that have waited for too long.
    given_up: Vec<Answered>,
    start: Instant,
}

/// How a replica serves a read that does not lead.
const ANYWHERE: ReadMode = ReadMode { from: ReadFrom::Any, lease: false };

/// What goes to one group: a read, or all writes of the batch.
struct Parcel {
    range: usize,
    /// The places of the requests in the batch.
    numbers: SmallVec<[usize; 1]>,
    bodies: SmallVec<[Bytes; 1]>,
    request: GroupRequest,
    reads_here: bool,
    /// The node that gets the first attempt.
    target: NodeId,
    stage: Stage,
}

/// How far a parcel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first attempt has no answer yet.
    First,
    /// It goes on alone.
    Alone,
    Answered,
}

impl RoutedBatch {
    pub(super) fn begin(inner: &Arc<Inner>, requests: Vec<RangeRequest>) -> Self {
        let routes = inner.routes.load();
        let map = Arc::clone(&routes.map);
        let mut parcels = pack(requests);
        let mut batch = inner.node.batch();
        let mut first = SmallVec::with_capacity(parcels.len());
        let mut cut_off = Vec::new();
        let mut reached = SmallVec::<[(NodeId, bool); 4]>::new();
        for (place, parcel) in parcels.iter_mut().enumerate() {
            let range = &map.ranges()[parcel.range];
            let replica = routes.replica(&inner.node, range.group);
            let known = replica.as_deref().and_then(|replica| replica.view().leader());
            let here = parcel.reads_here && replica.is_some();
            let target = here
                .then(|| inner.node.id())
                .or(known)
                .or_else(|| inner.answered_last(range.group))
                .unwrap_or_else(|| range.replicas[0]);
            parcel.target = target;
            if target == inner.node.id() {
                match replica {
                    Some(replica) => batch.ask(&replica, &parcel.request),
                    None => {
                        cut_off.push(place);
                        continue;
                    }
                }
            } else if reaches(inner, target, &mut reached) {
                batch.call(target, range.group, &parcel.request);
            } else {
                cut_off.push(place);
                continue;
            }
            first.push(place);
        }
        let mut routed = Self {
            inner: Arc::clone(inner),
            open: parcels.len(),
            map,
            parcels,
            answers: batch.send(),
            first,
            alone: None,
            given_up: Vec::new(),
            start: Instant::now(),
        };
        for place in cut_off {
            routed.go_on_alone(place, None);
        }
        routed
    }

    /// Waits for answers, and returns them with the places of their requests. Nearly always these
    /// are all at once. After [`Self::hurry`] they come as they are there. `None` once all were
    /// returned. A wait that is abandoned loses no answer.
    ///
    /// # Errors
    /// Each answer may be an error, see [`RouteError`].
    pub async fn next(&mut self) -> Option<Vec<Answered>> {
        loop {
            let mut answered = std::mem::take(&mut self.given_up);
            if answered.is_empty() {
                if self.open == 0 {
                    return None;
                }
                match &mut self.alone {
                    None => {
                        let first = self.answers.next().await;
                        self.settle_first(first, &mut answered);
                    }
                    Some(alone) => tokio::select! {
                        first = self.answers.next(), if !self.first.is_empty() => {
                            self.settle_first(first, &mut answered);
                        }
                        Some(Ok((place, outcome))) = alone.join_next() => {
                            self.settle_alone(place, outcome, &mut answered);
                        }
                        // All that went on alone has ended, or was cut off by the runtime's end.
                        else => self.give_up_all(&mut answered),
                    },
                }
            }
            if !answered.is_empty() {
                return Some(answered);
            }
        }
    }

    /// Says that the caller has waited for a while. From now on answers are returned as they come,
    /// and what has no answer for too long is asked elsewhere, or given up. To be called every now
    /// and then.
    pub fn hurry(&mut self) {
        self.answers.hurry();
        let waited = self.start.elapsed();
        if waited < READ_ATTEMPT_LIMIT {
            return;
        }
        for place in 0..self.parcels.len() {
            let Parcel { stage, target, ref request, .. } = self.parcels[place];
            if stage != Stage::First {
                continue;
            }
            let failed = FailedAttempt { target, error: RequestError::TimedOut };
            if !request.kind().writes() {
                self.go_on_alone(place, Some(failed));
            } else if waited >= REQUEST_LIMIT {
                self.parcels[place].stage = Stage::Answered;
                self.open -= 1;
                let numbers = &self.parcels[place].numbers;
                let unknown = |&number| (number, Err(RouteError::OutcomeUnknown));
                self.given_up.extend(numbers.iter().map(unknown));
            }
        }
    }

    fn settle_first(
        &mut self,
        answers: Option<Vec<(usize, Result<Bytes, RequestError>)>>,
        answered: &mut Vec<Answered>,
    ) {
        let Some(answers) = answers else {
            // Nothing more comes of the first attempts.
            self.first.clear();
            return;
        };
        answered.reserve(answers.len());
        for (number, answer) in answers {
            let place = self.first[number];
            if self.parcels[place].stage == Stage::First {
                let target = self.parcels[place].target;
                match answer {
                    Ok(answer) => self.settle(place, Some(target), answer, answered),
                    Err(error) => self.fail(place, error, answered),
                }
            }
        }
    }

    fn settle_alone(
        &mut self,
        place: usize,
        outcome: Result<Bytes, RouteError>,
        answered: &mut Vec<Answered>,
    ) {
        match outcome {
            Ok(answer) => self.settle(place, None, answer, answered),
            Err(error) => self.close(place, &error, answered),
        }
    }

    /// Takes an answer apart. Of a list, the rest that certainly had no effect is sent again if all
    /// before it is decided. Otherwise it might overtake what comes before it.
    fn settle(
        &mut self,
        place: usize,
        target: Option<NodeId>,
        answer: Bytes,
        answered: &mut Vec<Answered>,
    ) {
        let group = self.map.ranges()[self.parcels[place].range].group;
        if target.is_some() {
            self.inner.answered(group, target);
        }
        let parcel = &mut self.parcels[place];
        if let [number] = parcel.numbers[..] {
            parcel.stage = Stage::Answered;
            self.open -= 1;
            return answered.push((number, Ok(answer)));
        }
        let outcomes = parcel.request.outcomes(answer);
        let kind = parcel.request.kind();
        let is_open = |outcome: &Result<Bytes, RequestError>| {
            outcome.as_ref().is_err_and(|error| final_error(kind, error).is_none())
        };
        let decided = outcomes.iter().take_while(|outcome| !is_open(outcome)).count();
        let is_unknown = |outcome: &Result<_, _>| *outcome == Err(RequestError::TimedOut);
        let (before, rest) = outcomes.split_at(decided);
        let goes_on = !before.iter().any(is_unknown) && rest.iter().all(is_open);
        let failed = rest.first().and_then(|outcome| outcome.clone().err());
        let kept = if goes_on { decided } else { outcomes.len() };
        for (number, outcome) in parcel.numbers.drain(..kept).zip(outcomes) {
            let outcome = outcome.map_err(|error| {
                let reason = error.to_string();
                final_error(kind, &error).unwrap_or(RouteError::Unavailable { reason })
            });
            answered.push((number, outcome));
        }
        parcel.bodies.drain(..kept);
        match failed.filter(|_| goes_on) {
            Some(error) => {
                parcel.pack();
                let target = target.unwrap_or(parcel.target);
                self.go_on_alone(place, Some(FailedAttempt { target, error }));
            }
            None => {
                parcel.stage = Stage::Answered;
                self.open -= 1;
            }
        }
    }

    /// The first attempt brought no answer.
    fn fail(&mut self, place: usize, error: RequestError, answered: &mut Vec<Answered>) {
        let parcel = &self.parcels[place];
        match final_error(parcel.request.kind(), &error) {
            Some(error) => self.close(place, &error, answered),
            None => {
                let failed = FailedAttempt { target: parcel.target, error };
                self.go_on_alone(place, Some(failed));
            }
        }
    }

    /// All requests of a parcel end with this error.
    fn close(&mut self, place: usize, error: &RouteError, answered: &mut Vec<Answered>) {
        let parcel = &mut self.parcels[place];
        parcel.stage = Stage::Answered;
        self.open -= 1;
        answered.extend(parcel.numbers.iter().map(|&number| (number, Err(error.clone()))));
    }

    fn give_up_all(&mut self, answered: &mut Vec<Answered>) {
        for place in 0..self.parcels.len() {
            if self.parcels[place].stage != Stage::Answered {
                self.close(place, &RouteError::OutcomeUnknown, answered);
            }
        }
    }

    /// Has a parcel go on alone, after a first attempt that failed.
    fn go_on_alone(&mut self, place: usize, failed: Option<FailedAttempt>) {
        let parcel = &mut self.parcels[place];
        parcel.stage = Stage::Alone;
        let (inner, map) = (Arc::clone(&self.inner), Arc::clone(&self.map));
        let (range, request) = (parcel.range, parcel.request.clone());
        let deadline = self.start + REQUEST_LIMIT;
        self.alone.get_or_insert_default().spawn(async move {
            let range = &map.ranges()[range];
            let request = RoutedRequest { inner: &inner, range, request, deadline };
            (place, request.run(failed).await)
        });
    }
}

impl Parcel {
    fn new(number: usize, request: RangeRequest) -> Self {
        let RangeRequest { range, access, body } = request;
        Self {
            range,
            request: match access {
                Access::Write => GroupRequest::propose(body.clone()),
                Access::Read => GroupRequest::read(ReadMode::default(), body.clone()),
                Access::ReadHere => GroupRequest::read(ANYWHERE, body.clone()),
            },
            reads_here: access == Access::ReadHere,
            numbers: smallvec![number],
            bodies: smallvec![body],
            target: NodeId(0),
            stage: Stage::First,
        }
    }

    /// Makes the request of the commands that are left.
    fn pack(&mut self) {
        self.request = match &self.bodies[..] {
            [command] => GroupRequest::propose(command.clone()),
            commands => GroupRequest::propose_all(commands),
        };
    }
}

/// Makes one parcel of the writes of a range, and one of each read.
fn pack(requests: Vec<RangeRequest>) -> Vec<Parcel> {
    let mut parcels: Vec<Parcel> = Vec::with_capacity(requests.len());
    let mut writes = FxHashMap::default();
    for (number, request) in requests.into_iter().enumerate() {
        if request.access == Access::Write {
            match writes.entry(request.range) {
                Entry::Vacant(vacant) => _ = vacant.insert(parcels.len()),
                Entry::Occupied(occupied) => {
                    let parcel = &mut parcels[*occupied.get()];
                    parcel.numbers.push(number);
                    parcel.bodies.push(request.body);
                    continue;
                }
            }
        }
        parcels.push(Parcel::new(number, request));
    }
    parcels.iter_mut().filter(|parcel| parcel.numbers.len() > 1).for_each(Parcel::pack);
    parcels
}

/// Whether a node is reached, asked once for each node.
fn reaches(inner: &Inner, node: NodeId, known: &mut SmallVec<[(NodeId, bool); 4]>) -> bool {
    if let Some((_, reached)) = known.iter().find(|(other, _)| *other == node) {
        return *reached;
    }
    let reached = inner.reaches(node);
    known.push((node, reached));
    reached
}
