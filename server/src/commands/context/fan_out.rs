//! One request to each of several ranges at once.

use super::Context;
use crate::backend::{Backend, BackendError, RangeId};
use crate::commands::answer::understood;
use crate::commands::error::CommandError;
use crate::commands::plan::late;
use crate::kv::{Answer, Command, Query};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::panic;
use tokio::task::JoinSet;

/// The most requests of one command that are in flight.
const MAX_IN_FLIGHT: usize = 128;

/// The keys of a request, by the range that holds them.
pub(in crate::commands) struct KeysByRange {
    /// One share for each range that holds any of them.
    pub(in crate::commands) shares: Vec<RangeShare>,
}

/// The keys of a request that one range holds.
pub(in crate::commands) struct RangeShare {
    pub(in crate::commands) range: RangeId,
    /// The places of the keys in the request.
    pub(in crate::commands) positions: Vec<usize>,
    /// The stored keys, in the same order.
    pub(in crate::commands) keys: Vec<Bytes>,
}

impl KeysByRange {
    pub(in crate::commands) fn new<B: Backend>(context: &Context<'_, B>, keys: &[Bytes]) -> Self {
        let mut shares: BTreeMap<RangeId, RangeShare> = BTreeMap::new();
        for (position, key) in keys.iter().enumerate() {
            let (range, stored) = context.locate(key);
            let empty = || RangeShare { range, positions: Vec::new(), keys: Vec::new() };
            let share = shares.entry(range).or_insert_with(empty);
            share.positions.push(position);
            share.keys.push(stored);
        }
        Self { shares: shares.into_values().collect() }
    }
}

impl<B: Backend> Context<'_, B> {
    /// Asks each range its query; the answers come in the order of `queries`.
    pub(in crate::commands) async fn read_each(
        &self,
        queries: Vec<(RangeId, Query)>,
    ) -> Result<Vec<Answer>, CommandError> {
        let database = self.session.database;
        let encoded = queries.iter().map(|(range, query)| (*range, query.encode_in(database)));
        let here = self.session.reads_anywhere;
        let answers = each(self.backend, encoded, |backend: B, range, query| async move {
            match here {
                true => backend.read_here(range, query).await,
                false => backend.read(range, query).await,
            }
        });
        let answers = answers.await.into_iter().map(|answer| understood(&answer?));
        let mut answers = answers.collect::<Result<Vec<_>, _>>()?;
        let came_late: Vec<_> =
            (0..answers.len()).filter(|&place| answers[place] == Answer::Late).collect();
        if came_late.is_empty() {
            return Ok(answers);
        }
        let again = came_late.iter().map(|&place| &queries[place]);
        let again = again.map(|(range, query)| (*range, late(query, database)));
        let settled = each(self.backend, again, |backend: B, range, command| async move {
            backend.propose(range, command).await
        });
        let settled = settled.await;
        for (&place, answer) in came_late.iter().zip(settled) {
            answers[place] = understood(&answer?)?;
        }
        Ok(answers)
    }

    /// Proposes each range its command. If some fail and others may have succeeded, the outcome of
    /// the whole is unknown.
    pub(in crate::commands) async fn propose_each(
        &self,
        commands: Vec<(RangeId, Command)>,
    ) -> Result<Vec<Answer>, CommandError> {
        self.check_memory(commands.iter().map(|(_, command)| command))?;
        let database = self.session.database;
        let encoded =
            commands.into_iter().map(|(range, command)| (range, command.encode_in(database)));
        let answers = each(self.backend, encoded, |backend: B, range, command| async move {
            backend.propose(range, command).await
        });
        let answers = answers.await;
        let maybe_done =
            |answer: &Result<_, _>| matches!(answer, Ok(_) | Err(BackendError::OutcomeUnknown));
        let any_done = answers.iter().any(maybe_done);
        let understand = |answer: Result<Bytes, BackendError>| match answer {
            Ok(answer) => understood(&answer),
            Err(error) if any_done => Err(CommandError::Partial(error)),
            Err(error) => Err(CommandError::Backend(error)),
        };
        answers.into_iter().map(understand).collect()
    }
}

/// Runs `request` for each range, some at a time. Each runs to its end: a write that has started is
/// not abandoned when another one fails.
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
            // Only a runtime that shuts down cancels these. The outcome is unknown then.
            Some(Err(error)) => {
                if let Ok(cause) = error.try_into_panic() {
                    panic::resume_unwind(cause);
                }
            }
        }
    }
}
