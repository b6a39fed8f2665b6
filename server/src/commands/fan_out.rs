//! One request to each of several ranges at once.

use std::collections::BTreeMap;
use std::panic;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::error::CommandError;
use super::{Context, understood};
use crate::backend::{Backend, BackendError, RangeId};
use crate::kv::{self, Command, Query};

/// The most requests of one command that are in flight.
const MAX_IN_FLIGHT: usize = 128;

/// The keys of a request, by the range that holds them.
pub(super) struct KeysByRange {
    /// For each range the positions of its keys in the request, and the stored keys.
    pub(super) groups: Vec<(RangeId, Vec<usize>, Vec<Bytes>)>,
}

impl KeysByRange {
    pub(super) fn new<B: Backend>(context: &Context<'_, B>, keys: &[Bytes]) -> Self {
        let mut groups: BTreeMap<RangeId, (Vec<usize>, Vec<Bytes>)> = BTreeMap::new();
        for (position, key) in keys.iter().enumerate() {
            let (range, stored) = context.locate(key);
            let group = groups.entry(range).or_default();
            group.0.push(position);
            group.1.push(stored);
        }
        let groups = groups.into_iter().map(|(range, (at, keys))| (range, at, keys));
        Self { groups: groups.collect() }
    }
}

impl<B: Backend> Context<'_, B> {
    /// Asks each range its query; the answers come in the order of `queries`.
    pub(super) async fn read_each(
        &self,
        queries: Vec<(RangeId, Query)>,
    ) -> Result<Vec<kv::Reply>, CommandError> {
        let encoded = queries.into_iter().map(|(range, query)| (range, query.encode()));
        let answers = each(self.backend, encoded, |backend: B, range, query| async move {
            backend.read(range, query).await
        });
        let limits = self.backend.limits();
        answers.await.into_iter().map(|answer| understood(&answer?, &limits)).collect()
    }

    /// Proposes each range its command. If some fail and others may have succeeded, the outcome of
    /// the whole is unknown.
    pub(super) async fn propose_each(
        &self,
        commands: Vec<(RangeId, Command)>,
    ) -> Result<Vec<kv::Reply>, CommandError> {
        let encoded = commands.into_iter().map(|(range, command)| (range, command.encode()));
        let answers = each(self.backend, encoded, |backend: B, range, command| async move {
            backend.propose(range, command).await
        });
        let answers = answers.await;
        let maybe_done =
            |answer: &Result<_, _>| matches!(answer, Ok(_) | Err(BackendError::OutcomeUnknown));
        let any_done = answers.iter().any(maybe_done);
        let limits = self.backend.limits();
        let understand = |answer: Result<Bytes, BackendError>| match answer {
            Ok(answer) => understood(&answer, &limits),
            Err(error) if any_done => Err(CommandError::Partial(error)),
            Err(error) => Err(CommandError::Backend(error)),
        };
        answers.into_iter().map(understand).collect()
    }
}

/// Runs `request` for each range, some at a time, to the end of each: a write that has started is
/// not abandoned because another one failed.
async fn each<B, F>(
    backend: &B,
    requests: impl ExactSizeIterator<Item = (RangeId, Bytes)>,
    request: impl Fn(B, RangeId, Bytes) -> F,
) -> Vec<Result<Bytes, BackendError>>
where
    B: Backend,
    F: Future<Output = Result<Bytes, BackendError>> + Send + 'static,
{
    let mut requests = requests.enumerate();
    if requests.len() == 1
        && let Some((_, (range, bytes))) = requests.next()
    {
        // The common case needs no task of its own.
        return vec![request(backend.clone(), range, bytes).await];
    }
    let mut answers = vec![Err(BackendError::OutcomeUnknown); requests.len()];
    let mut running = JoinSet::new();
    loop {
        while running.len() < MAX_IN_FLIGHT
            && let Some((position, (range, bytes))) = requests.next()
        {
            let answer = request(backend.clone(), range, bytes);
            running.spawn(async move { (position, answer.await) });
        }
        match running.join_next().await {
            None => return answers,
            Some(Ok((position, answer))) => answers[position] = answer,
            // Only a runtime that shuts down cancels these; the answer stays "unknown".
            Some(Err(error)) => {
                if let Ok(cause) = error.try_into_panic() {
                    panic::resume_unwind(cause);
                }
            }
        }
    }
}
