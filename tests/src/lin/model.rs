//! What an operation does to the value of its key: the sequential specification, on fingerprints
//! for the search and on the texts themselves for all that is shown and believed.

use super::text::{Fingerprint, Observed, Piece};
use crate::history::{Answer, Kind, Operation, Outcome};

/// What a key holds, as far as any operation of its history can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Absent,
    /// A text that was observed, or a prefix of one.
    Text(Fingerprint),
    /// Any other text. Nothing observes it, and appends lead from it to others of its kind only, so
    /// that all of them are one state.
    Unobserved,
}

/// An operation as the search sees it: what it demands of the state, and what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Set(State),
    Extend(Piece),
    Read(State),
    Swap {
        expect: State,
        new: State,
    },
    Mismatch {
        expect: State,
        current: Option<State>,
    },
    /// The answer is not one that the operation can have.
    Impossible,
}

/// The operations of one key, made ready for the search.
pub(super) struct Model {
    pub(super) actions: Vec<Action>,
    observed: Observed,
}

impl Action {
    /// Whether it leaves every state as it is.
    pub(super) fn preserves(self) -> bool {
        match self {
            Self::Read(_) | Self::Mismatch { .. } => true,
            Self::Set(_) | Self::Extend(_) | Self::Swap { .. } | Self::Impossible => false,
        }
    }
}

impl Model {
    pub(super) fn new(operations: &[&Operation]) -> Self {
        let observed =
            Observed::of(operations.iter().flat_map(|each| observations(each)).collect());
        let actions = operations.iter().map(|each| action(each, &observed)).collect();
        Self { actions, observed }
    }

    /// The state after `action`, or `None` if it can't have happened, or not with an effect, in
    /// `state`.
    pub(super) fn step(&self, state: State, action: Action) -> Option<State> {
        match action {
            Action::Set(new) => Some(new),
            Action::Extend(piece) => Some(match state {
                State::Absent => text(Fingerprint::EMPTY.with(piece), &self.observed),
                State::Text(before) => text(before.with(piece), &self.observed),
                State::Unobserved => State::Unobserved,
            }),
            Action::Read(found) => (state == found).then_some(state),
            Action::Swap { expect, new } => (state == expect).then_some(new),
            Action::Mismatch { expect, current } => {
                let fits = state != expect && current.is_none_or(|current| state == current);
                fits.then_some(state)
            }
            Action::Impossible => None,
        }
    }
}

/// The value of a key after `operation`, or `None` if it can't have happened with `value`. An
/// operation without an answer takes effect if it can.
pub(super) fn replay(value: Option<String>, operation: &Operation) -> Option<Option<String>> {
    let answer = match &operation.outcome {
        Outcome::Done { answer, .. } => Some(answer),
        Outcome::Refused => return None,
        Outcome::Unknown => None,
    };
    match (&operation.kind, answer) {
        (Kind::Put { value: new }, None | Some(Answer::Written)) => Some(Some(new.clone())),
        (Kind::Append { value: new }, None | Some(Answer::Written)) => {
            Some(Some(value.unwrap_or_default() + new))
        }
        (Kind::Delete, None | Some(Answer::Written)) => Some(None),
        (Kind::Get, Some(Answer::Read(found))) => (value == *found).then_some(value),
        (Kind::Cas { expect, value: new }, None | Some(Answer::Swapped)) => {
            (value == *expect).then(|| Some(new.clone()))
        }
        (Kind::Cas { expect, .. }, Some(Answer::Mismatched { current })) => {
            let fits = value != *expect && current.as_ref().is_none_or(|current| value == *current);
            fits.then_some(value)
        }
        (_, _) => None,
    }
}

/// The texts that an operation found or asked for.
pub(super) fn observations(operation: &Operation) -> impl Iterator<Item = &str> {
    let expected = match &operation.kind {
        Kind::Cas { expect, .. } => expect.as_deref(),
        Kind::Put { .. } | Kind::Get | Kind::Append { .. } | Kind::Delete => None,
    };
    let found = match &operation.outcome {
        Outcome::Done { answer: Answer::Read(found), .. } => found.as_deref(),
        Outcome::Done { answer: Answer::Mismatched { current: Some(found) }, .. } => {
            found.as_deref()
        }
        Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown => None,
    };
    expected.into_iter().chain(found)
}

fn action(operation: &Operation, observed: &Observed) -> Action {
    let state = |value: &Option<String>| match value {
        None => State::Absent,
        Some(value) => text(Fingerprint::of(value), observed),
    };
    let answer = match &operation.outcome {
        Outcome::Done { answer, .. } => Some(answer),
        Outcome::Refused => return Action::Impossible,
        Outcome::Unknown => None,
    };
    match (&operation.kind, answer) {
        (Kind::Put { value }, None | Some(Answer::Written)) => {
            Action::Set(text(Fingerprint::of(value), observed))
        }
        (Kind::Append { value }, None | Some(Answer::Written)) => Action::Extend(Piece::of(value)),
        (Kind::Delete, None | Some(Answer::Written)) => Action::Set(State::Absent),
        (Kind::Get, Some(Answer::Read(found))) => Action::Read(state(found)),
        (Kind::Cas { expect, value }, None | Some(Answer::Swapped)) => {
            Action::Swap { expect: state(expect), new: text(Fingerprint::of(value), observed) }
        }
        (Kind::Cas { expect, .. }, Some(Answer::Mismatched { current })) => {
            Action::Mismatch { expect: state(expect), current: current.as_ref().map(state) }
        }
        (_, _) => Action::Impossible,
    }
}

fn text(text: Fingerprint, observed: &Observed) -> State {
    if observed.contains(text) { State::Text(text) } else { State::Unobserved }
}
