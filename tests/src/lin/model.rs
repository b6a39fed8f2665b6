//! The sequential specification: what an operation does to the value of its key. The search uses it
//! on fingerprints. Verdicts and reports use it on the texts themselves.

use super::text::{Fingerprint, Observed, Piece};
use crate::history::{Answer, Kind, Operation, Outcome};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a key holds, as far as any operation of its history can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Absent,
    /// The decimal text of an integer, on a key that has an incr; on other keys it is a text like
    /// any other. An incr tells every integer from every other, whether or not something observes
    /// it.
    Number(i64),
    /// A text that was observed, or a prefix of one.
    Text(Fingerprint),
    /// Any other text. Nothing observes it, an incr is refused on it, and appends turn it into
    /// another such text. So all of them are one state.
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
    Count {
        by: i64,
        sum: Option<i64>,
    },
    /// The answer is not one that the operation can have.
    Impossible,
}

/// The operations of one key, made ready for the search.
pub(super) struct Model<'a> {
    pub(super) actions: Vec<Action>,
    texts: Texts<'a>,
}

/// Which texts of a key are states of their own.
struct Texts<'a> {
    observed: Observed,
    /// On a key that has an incr: what is appended, since an append can make another integer of
    /// one.
    pieces: Option<HashMap<Piece, &'a str>>,
}

impl Action {
    /// Whether it leaves every state as it is.
    pub(super) fn preserves(self) -> bool {
        match self {
            Self::Read(_) | Self::Mismatch { .. } => true,
            Self::Set(_)
            | Self::Extend(_)
            | Self::Swap { .. }
            | Self::Count { .. }
            | Self::Impossible => false,
        }
    }
}

impl<'a> Model<'a> {
    pub(super) fn new(operations: &[&'a Operation]) -> Self {
        let texts = Texts::of(operations);
        let actions = operations.iter().map(|each| action(each, &texts)).collect();
        Self { actions, texts }
    }

    /// The state after `action`, or `None` if it can't have happened, or not with an effect, in
    /// `state`.
    pub(super) fn step(&self, state: State, action: Action) -> Option<State> {
        match action {
            Action::Set(new) => Some(new),
            Action::Extend(piece) => Some(self.texts.extended(state, piece)),
            Action::Read(found) => (state == found).then_some(state),
            Action::Swap { expect, new } => (state == expect).then_some(new),
            Action::Mismatch { expect, current } => {
                let fits = state != expect && current.is_none_or(|current| state == current);
                fits.then_some(state)
            }
            Action::Count { by, sum } => {
                let before = match state {
                    State::Absent => 0,
                    State::Number(before) => before,
                    State::Text(_) | State::Unobserved => return None,
                };
                let after = before.checked_add(by)?;
                sum.is_none_or(|sum| sum == after).then_some(State::Number(after))
            }
            Action::Impossible => None,
        }
    }
}

/// The beginning of every negative integer, itself none.
const MINUS: &str = "-";

impl<'a> Texts<'a> {
    fn of(operations: &[&'a Operation]) -> Self {
        let found: Vec<Cow<'_, str>> =
            operations.iter().flat_map(|each| observations(each)).collect();
        let mut observed: Vec<&str> = found.iter().map(AsRef::as_ref).collect();
        let counts = operations.iter().any(|each| matches!(each.kind, Kind::Incr { .. }));
        // Appends can make an integer of two texts that are none: the empty text and this one. So
        // both have to be states of their own. The empty text is one anyway.
        observed.extend(counts.then_some(MINUS));
        let piece = |each: &&'a Operation| match &each.kind {
            Kind::Append { value } => Some((Piece::of(value), value.as_str())),
            Kind::Put { .. }
            | Kind::Get
            | Kind::Cas { .. }
            | Kind::Incr { .. }
            | Kind::Delete
            | Kind::Expire { .. } => None,
        };
        let pieces = counts.then(|| operations.iter().filter_map(piece).collect());
        Self { observed: Observed::of(observed), pieces }
    }

    fn state(&self, value: &str) -> State {
        match self.pieces.is_some().then(|| integer(value)).flatten() {
            Some(number) => State::Number(number),
            None => self.text(Fingerprint::of(value)),
        }
    }

    /// The state of a text that is no integer, or whose key has no incr.
    fn text(&self, text: Fingerprint) -> State {
        if self.observed.contains(text) { State::Text(text) } else { State::Unobserved }
    }

    fn extended(&self, state: State, piece: Piece) -> State {
        let (start, before) = match state {
            State::Absent => (Some(String::new()), Fingerprint::EMPTY),
            State::Number(number) => {
                let start = number.to_string();
                let before = Fingerprint::of(&start);
                (Some(start), before)
            }
            State::Text(before) if before == Fingerprint::EMPTY => (Some(String::new()), before),
            State::Text(before) if before == Fingerprint::of(MINUS) => {
                (Some(MINUS.to_owned()), before)
            }
            State::Text(before) => (None, before),
            State::Unobserved => return State::Unobserved,
        };
        // Only a short beginning can be that of an integer.
        let whole = self.pieces.as_ref().zip(start).map(|(pieces, start)| start + pieces[&piece]);
        match whole.and_then(|whole| integer(&whole)) {
            Some(number) => State::Number(number),
            None => self.text(before.with(piece)),
        }
    }
}

/// The integer that a text spells as Redis would: without a sign `+`, zeros in front or spaces.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
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
        (Kind::Expire { value: put }, None) => (value.as_ref() == Some(put)).then_some(None),
        (Kind::Get, Some(Answer::Read(found))) => (value == *found).then_some(value),
        (Kind::Cas { expect, value: new }, None | Some(Answer::Swapped)) => {
            (value == *expect).then(|| Some(new.clone()))
        }
        (Kind::Cas { expect, .. }, Some(Answer::Mismatched { current })) => {
            let fits = value != *expect && current.as_ref().is_none_or(|current| value == *current);
            fits.then_some(value)
        }
        (Kind::Incr { by }, None | Some(Answer::Counted(_))) => {
            let sum = value.map_or(Some(0), |value| integer(&value))?.checked_add(*by)?;
            let fits = answer.is_none_or(|answer| *answer == Answer::Counted(sum));
            fits.then(|| Some(sum.to_string()))
        }
        (_, _) => None,
    }
}

/// The texts that an operation found or asked for.
pub(super) fn observations(operation: &Operation) -> impl Iterator<Item = Cow<'_, str>> {
    let expected = match &operation.kind {
        Kind::Cas { expect, .. } => expect.as_deref(),
        Kind::Expire { value } => Some(value.as_str()),
        Kind::Put { .. } | Kind::Get | Kind::Append { .. } | Kind::Incr { .. } | Kind::Delete => {
            None
        }
    };
    let found = match (&operation.kind, &operation.outcome) {
        (_, Outcome::Done { answer: Answer::Read(found), .. }) => found.as_deref().map(Cow::from),
        (_, Outcome::Done { answer: Answer::Mismatched { current: Some(found) }, .. }) => {
            found.as_deref().map(Cow::from)
        }
        // At 0 it may have found the key absent.
        (Kind::Incr { by }, Outcome::Done { answer: Answer::Counted(sum), .. }) => {
            sum.checked_sub(*by).filter(|found| *found != 0).map(|found| found.to_string().into())
        }
        (_, Outcome::Done { .. } | Outcome::Refused | Outcome::Unknown) => None,
    };
    expected.map(Cow::from).into_iter().chain(found)
}

fn action(operation: &Operation, texts: &Texts<'_>) -> Action {
    let state = |value: &Option<String>| match value {
        None => State::Absent,
        Some(value) => texts.state(value),
    };
    let answer = match &operation.outcome {
        Outcome::Done { answer, .. } => Some(answer),
        Outcome::Refused => return Action::Impossible,
        Outcome::Unknown => None,
    };
    match (&operation.kind, answer) {
        (Kind::Put { value }, None | Some(Answer::Written)) => Action::Set(texts.state(value)),
        (Kind::Append { value }, None | Some(Answer::Written)) => Action::Extend(Piece::of(value)),
        (Kind::Delete, None | Some(Answer::Written)) => Action::Set(State::Absent),
        (Kind::Expire { value }, None) => {
            Action::Swap { expect: texts.state(value), new: State::Absent }
        }
        (Kind::Get, Some(Answer::Read(found))) => Action::Read(state(found)),
        (Kind::Cas { expect, value }, None | Some(Answer::Swapped)) => {
            Action::Swap { expect: state(expect), new: texts.state(value) }
        }
        (Kind::Cas { expect, .. }, Some(Answer::Mismatched { current })) => {
            Action::Mismatch { expect: state(expect), current: current.as_ref().map(state) }
        }
        (Kind::Incr { by }, None) => Action::Count { by: *by, sum: None },
        (Kind::Incr { by }, Some(Answer::Counted(sum))) => {
            Action::Count { by: *by, sum: Some(*sum) }
        }
        (_, _) => Action::Impossible,
    }
}
