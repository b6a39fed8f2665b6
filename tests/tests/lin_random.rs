//! The checker on random histories: small ones, whose verdict is known by trying every order, and
//! large ones that a simulated store answered.

use logboat_tests::history::{Answer, Kind, Operation, Outcome};
use logboat_tests::lin::{self, Verdict};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::ops::Range;

/// Whether some order of the operations explains all answers, by trying each.
fn has_order(operations: &[Operation]) -> bool {
    let mut left: Vec<&Operation> = operations.iter().collect();
    left.retain(|each| each.outcome != Outcome::Refused);
    extends(&left, None)
}

/// Whether the operations left can follow on `value` in some order.
fn extends(left: &[&Operation], value: Option<&str>) -> bool {
    let first_return = left.iter().filter_map(|each| each.return_ns()).min();
    let Some(first_return) = first_return else {
        return true;
    };
    (0..left.len()).filter(|&i| left[i].call_ns <= first_return).any(|i| {
        let rest = [&left[..i], &left[i + 1..]].concat();
        let (after, answer) = perform(&left[i].kind, value);
        let fits = match &left[i].outcome {
            Outcome::Unknown => true,
            Outcome::Refused => false,
            Outcome::Done { answer: said, .. } => {
                answer.as_ref() == Some(said)
                    || matches!(answer, Some(Answer::Mismatched { .. }))
                        && *said == Answer::Mismatched { current: None }
            }
        };
        fits && extends(&rest, after.as_deref())
    })
}

/// What the store does: the new value, and its answer, or none if it refuses.
fn perform(kind: &Kind, value: Option<&str>) -> (Option<String>, Option<Answer>) {
    let old = value.map(str::to_owned);
    let (new, answer) = match kind {
        Kind::Put { value } => (Some(value.clone()), Answer::Written),
        Kind::Get => (old.clone(), Answer::Read(old)),
        Kind::Append { value: end } => (Some(old.unwrap_or_default() + end), Answer::Written),
        Kind::Cas { expect, value } if *expect == old => (Some(value.clone()), Answer::Swapped),
        Kind::Cas { .. } => (old.clone(), Answer::Mismatched { current: Some(old) }),
        Kind::Incr { by } => {
            let sum = counted(value.unwrap_or("0")).and_then(|number| number.checked_add(*by));
            let Some(sum) = sum else {
                return (old, None);
            };
            (Some(sum.to_string()), Answer::Counted(sum))
        }
        Kind::Delete => (None, Answer::Written),
        Kind::Expire { value: put } if old.as_ref() == Some(put) => (None, Answer::Written),
        Kind::Expire { .. } => return (old, None),
    };
    (new, Some(answer))
}

/// The integer whose text this is.
fn counted(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let shortest = text == "0" || !digits.starts_with('0');
    if plain && shortest { text.parse().ok() } else { None }
}

/// An operation to be, with times relative to the start.
#[derive(Clone, Debug)]
struct Plan {
    kind: Kind,
    call: u64,
    takes: u64,
    /// When the operation takes effect, as a share of its duration. Without an answer, it is a
    /// share of twice the time after its call; past the end, it never takes effect.
    effect: f64,
    answered: bool,
    /// Whether a cas that does not match says what it found.
    tells: bool,
}

impl Plan {
    fn effect_at(&self, end: u64) -> f64 {
        let length = if self.answered { self.takes } else { 2 * (end - self.call.min(end)) };
        self.call as f64 + self.effect * length as f64
    }
}

/// What a store that takes one operation after another, each at some time between its call and its
/// return, answers to the plans.
fn simulate(plans: &[Plan]) -> Vec<Operation> {
    let end = plans.iter().map(|each| each.call + each.takes).max().unwrap_or(0);
    let mut order: Vec<(f64, usize)> =
        plans.iter().enumerate().map(|(i, plan)| (plan.effect_at(end), i)).collect();
    order.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    let mut value: Option<String> = None;
    let mut operations = Vec::new();
    for (at, i) in order {
        let plan = &plans[i];
        let mut called = Operation::call(i as u64, plan.call, "k", plan.kind.clone());
        if !plan.answered {
            if at <= end as f64 {
                value = perform(&plan.kind, value.as_deref()).0;
            }
            operations.push(called);
            continue;
        }
        let (after, mut answer) = perform(&plan.kind, value.as_deref());
        if let Some(Answer::Mismatched { current }) = &mut answer
            && !plan.tells
        {
            *current = None;
        }
        value = after;
        operations.push(match answer {
            Some(answer) => called.answered(plan.call + plan.takes, answer),
            None => {
                called.outcome = Outcome::Refused;
                called
            }
        });
    }
    operations
}

/// What small histories are made of: a few values, so that they come up often and as parts of one
/// another.
#[derive(Clone, Copy)]
struct Store {
    written: &'static [&'static str],
    found: &'static [&'static str],
    /// How often an incr comes up, in shares of 12 for all else.
    incrs: u32,
}

const TEXTS: Store = Store {
    written: &["1;", "2;", "3;", ""],
    found: &["1;", "2;", "3;", "1;2;", "2;1;", "1;1;", "3;1;2;", ""],
    incrs: 0,
};

/// Integers, and what becomes one, or none, by appending.
const NUMBERS: Store = Store {
    written: &["1", "2", "0", "-", "", "-1", "05", "1;"],
    found: &["0", "1", "2", "3", "4", "-1", "-2", "11", "12", "21", "-", "", "1;"],
    incrs: 12,
};

impl Store {
    fn value(self) -> impl Strategy<Value = String> {
        select(self.written).prop_map(str::to_owned)
    }

    fn found(self) -> impl Strategy<Value = Option<String>> {
        prop::option::weighted(0.9, select(self.found).prop_map(str::to_owned))
    }

    fn kind(self) -> impl Strategy<Value = Kind> {
        let value = || self.value();
        let by = select(&[1, 1, 2, -1, 0, i64::MAX][..]);
        let incr = by.prop_map(|by| Kind::Incr { by });
        let other = prop_oneof![
            2 => value().prop_map(|value| Kind::Put { value }),
            4 => Just(Kind::Get),
            3 => value().prop_map(|value| Kind::Append { value }),
            2 => (self.found(), value()).prop_map(|(expect, value)| Kind::Cas { expect, value }),
            1 => Just(Kind::Delete),
        ];
        (0..12 + self.incrs, other, incr).prop_map(
            |(share, other, incr)| {
                if share < 12 { other } else { incr }
            },
        )
    }

    fn plan(self) -> impl Strategy<Value = Plan> {
        let answered = prop::bool::weighted(0.7);
        (self.kind(), 0..14_u64, 0..8_u64, 0.0..1.0_f64, answered, any::<bool>()).prop_map(
            |(kind, call, takes, effect, answered, tells)| Plan {
                kind,
                call,
                takes,
                effect,
                answered,
                tells,
            },
        )
    }

    fn small(self) -> impl Strategy<Value = Vec<Operation>> {
        prop::collection::vec(self.plan(), 1..=7).prop_map(|plans| simulate(&plans))
    }

    /// Small histories of which some answers were replaced.
    fn corrupted(self, answers: Range<usize>) -> impl Strategy<Value = Vec<Operation>> {
        let corruptions = prop::collection::vec((any::<Index>(), self.found()), answers);
        (self.small(), corruptions).prop_map(|(mut history, corruptions)| {
            for (which, other) in corruptions {
                corrupt(&mut history, which, other);
            }
            history
        })
    }
}

/// Another answer to one of the operations, if there is one to which another can be given.
fn corrupt(operations: &mut [Operation], which: Index, other: Option<String>) {
    let mut answers: Vec<&mut Answer> = operations
        .iter_mut()
        .filter_map(|each| match (&each.kind, &mut each.outcome) {
            (Kind::Get | Kind::Cas { .. } | Kind::Incr { .. }, Outcome::Done { answer, .. }) => {
                Some(answer)
            }
            _ => None,
        })
        .collect();
    if answers.is_empty() {
        return;
    }
    let chosen = which.index(answers.len());
    let answer = &mut *answers[chosen];
    *answer = match answer {
        Answer::Read(_) => Answer::Read(other),
        Answer::Mismatched { current: None } => Answer::Swapped,
        Answer::Mismatched { current: Some(_) } => Answer::Mismatched { current: Some(other) },
        Answer::Swapped => Answer::Mismatched { current: None },
        Answer::Counted(sum) => {
            let other = other.and_then(|other| counted(&other));
            Answer::Counted(other.unwrap_or(sum.wrapping_add(1)))
        }
        Answer::Written => unreachable!("what only wrote was not chosen"),
    };
}

/// The history with the answers that arrived at that time or later forgotten.
fn without_answers_from(mut history: Vec<Operation>, time: Option<u64>) -> Vec<Operation> {
    for operation in &mut history {
        if operation.return_ns() >= time {
            operation.outcome = Outcome::Unknown;
        }
    }
    history
}

/// Checks histories against the trial of every order, and that both verdicts came up often.
fn compare(cases: u32, at_least: u32, histories: impl Strategy<Value = Vec<Operation>>) {
    let (right, wrong) = (Cell::new(0), Cell::new(0));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&histories, |history| {
            let verdict = lin::check(&history);
            if has_order(&history) {
                right.set(right.get() + 1);
                prop_assert!(matches!(verdict, Verdict::Linearizable), "{}", verdict);
                return Ok(());
            }
            wrong.set(wrong.get() + 1);
            let Verdict::NotLinearizable(report) = verdict else {
                return Err(TestCaseError::fail(format!("wrong, but {verdict}")));
            };
            // Without its sum an incr may explain other answers, which are left out along with it.
            let counts = matches!(report.culprit.kind, Kind::Incr { .. });
            prop_assert!(report.left_out == 1 || counts && report.left_out > 1);
            prop_assert!(!report.to_string().is_empty());
            let before = without_answers_from(history, report.culprit.return_ns());
            prop_assert!(has_order(&before), "an earlier answer fits no order either");
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
    assert!(right.get() >= at_least && wrong.get() >= at_least, "{right:?} {wrong:?}");
}

#[test]
fn the_verdict_is_that_of_trying_every_order() {
    compare(4_000, 400, TEXTS.corrupted(1..2));
}

#[test]
fn counting_is_judged_as_by_trying_every_order() {
    compare(6_000, 400, NUMBERS.corrupted(1..2));
}

#[test]
fn several_wrong_answers_are_no_right_one() {
    compare(1_000, 50, TEXTS.corrupted(2..4));
    compare(1_000, 50, NUMBERS.corrupted(2..4));
}

/// Which operations a busy history is made of.
#[derive(Clone, Copy, Debug)]
enum Mix {
    All,
    /// Appends and gets, which leave no write unseen.
    Appends,
    /// Like it, but all gets come at the end.
    AppendsReadLate,
    /// Incrs and gets.
    Counts,
}

/// Plans for `clients` that call one operation after another, with values that are unique. One
/// operation in `unknown_in` gets no answer.
fn busy(seed: u64, clients: u64, each: u64, unknown_in: u64, mix: Mix) -> Vec<Plan> {
    let mut state = seed | 1;
    let mut below = |limit: u64| {
        // Xorshift64*, of which the upper half is good enough.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    };
    let mut plans = Vec::new();
    for client in 0..clients {
        let mut call = below(100);
        for turn in 0..each {
            let value = format!("{};", client * each + turn);
            let recent = (client * each + turn).saturating_sub(below(3));
            let kind = match (mix, below(10)) {
                (Mix::All, 0) => Kind::Delete,
                (Mix::All, 1..3) => Kind::Put { value },
                (Mix::All, 3) => Kind::Cas { expect: None, value },
                (Mix::All, 4) => Kind::Cas { expect: Some(format!("{recent};")), value },
                (Mix::All, 5..7) | (Mix::Appends, 0..5) => Kind::Append { value },
                (Mix::Counts, 0..4) => Kind::Incr { by: 1 },
                (Mix::Counts, 4) => Kind::Incr { by: 2 + below(8) as i64 },
                (Mix::AppendsReadLate, _) if turn + 1 < each => Kind::Append { value },
                (_, _) => Kind::Get,
            };
            plans.push(Plan {
                kind,
                call,
                takes: 1 + below(80),
                effect: below(1_000) as f64 / 1_000.0,
                answered: below(unknown_in) > 0,
                tells: below(2) > 0,
            });
            call += 81 + below(40);
        }
    }
    plans
}

fn busy_history() -> impl Strategy<Value = Vec<Operation>> {
    let mix = select(vec![Mix::All, Mix::Appends, Mix::AppendsReadLate, Mix::Counts]);
    (any::<u64>(), 1..8_u64, 1..60_u64, 5..50_u64, mix).prop_map(
        |(seed, clients, each, unknown_in, mix)| {
            simulate(&busy(seed, clients, each, unknown_in, mix))
        },
    )
}

proptest! {
    #![proptest_config(Config { cases: 100, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_a_store_answered_is_linearizable(history in busy_history()) {
        let verdict = lin::check(&history);
        prop_assert!(matches!(verdict, Verdict::Linearizable), "{}", verdict);
    }

    #[test]
    fn an_answer_that_no_order_gives_is_found(
        mut history in busy_history(),
        which in any::<Index>(),
        doubled in any::<bool>(),
    ) {
        let mut texts: Vec<(usize, &mut String)> = history
            .iter_mut()
            .enumerate()
            .filter_map(|(i, each)| match &mut each.outcome {
                Outcome::Done { answer: Answer::Read(Some(text)), .. } => Some((i, text)),
                _ => None,
            })
            .collect();
        prop_assume!(!texts.is_empty());
        let chosen = which.index(texts.len());
        let (chosen, text) = &mut texts[chosen];
        let chosen = *chosen;
        // No value is written twice, so that neither can have been read.
        if doubled {
            let last = text[..text.len() - 1].rfind(';').map_or(0, |end| end + 1);
            text.extend_from_within(last..);
        } else {
            text.push_str("x;");
        }
        match lin::check(&history) {
            Verdict::NotLinearizable(report) => {
                prop_assert_eq!(&report.culprit, &history[chosen]);
            }
            verdict => return Err(TestCaseError::fail(verdict.to_string())),
        }
    }
}
