//! The checker on histories whose verdict is plain to a reader: each shows one way to be right or
//! wrong.

use logboat_tests::history::{Answer, Kind, Operation, Outcome};
use logboat_tests::lin::{self, Report, Verdict};
use std::ops::{Range, RangeFrom};

/// When an operation was under way; without an end it has no answer.
struct Span {
    call: u64,
    end: Option<u64>,
}

impl From<Range<u64>> for Span {
    fn from(span: Range<u64>) -> Self {
        Self { call: span.start, end: Some(span.end) }
    }
}

impl From<RangeFrom<u64>> for Span {
    fn from(span: RangeFrom<u64>) -> Self {
        Self { call: span.start, end: None }
    }
}

fn operation(span: impl Into<Span>, kind: Kind, answer: Answer) -> Operation {
    let Span { call, end } = span.into();
    let operation = Operation::call(0, call, "k", kind);
    match end {
        Some(end) => operation.answered(end, answer),
        None => operation,
    }
}

fn put(span: impl Into<Span>, value: &str) -> Operation {
    operation(span, Kind::Put { value: value.into() }, Answer::Written)
}

fn append(span: impl Into<Span>, value: &str) -> Operation {
    operation(span, Kind::Append { value: value.into() }, Answer::Written)
}

fn delete(span: impl Into<Span>) -> Operation {
    operation(span, Kind::Delete, Answer::Written)
}

fn get(span: Range<u64>, found: Option<&str>) -> Operation {
    operation(span, Kind::Get, Answer::Read(found.map(Into::into)))
}

fn cas(span: impl Into<Span>, expect: Option<&str>, value: &str) -> Operation {
    let kind = Kind::Cas { expect: expect.map(Into::into), value: value.into() };
    operation(span, kind, Answer::Swapped)
}

fn mismatch(span: Range<u64>, expect: Option<&str>, current: Option<Option<&str>>) -> Operation {
    let kind = Kind::Cas { expect: expect.map(Into::into), value: "never".into() };
    let current = current.map(|found| found.map(Into::into));
    operation(span, kind, Answer::Mismatched { current })
}

fn incr(span: impl Into<Span>, by: i64, sum: i64) -> Operation {
    operation(span, Kind::Incr { by }, Answer::Counted(sum))
}

/// A value that was put for a while may have gone from this time on.
fn expire(call: u64, value: &str) -> Operation {
    operation(call.., Kind::Expire { value: value.into() }, Answer::Written)
}

#[track_caller]
fn assert_right(history: &[Operation]) {
    let verdict = lin::check(history);
    assert!(matches!(verdict, Verdict::Linearizable), "{verdict}");
}

#[track_caller]
fn assert_wrong(history: &[Operation]) -> Report {
    match lin::check(history) {
        Verdict::NotLinearizable(report) => *report,
        verdict => panic!("{verdict}"),
    }
}

#[test]
fn nothing_is_linearizable() {
    assert_right(&[]);
    assert_right(&[get(0..1, None)]);
}

#[test]
fn a_key_starts_absent() {
    assert_wrong(&[get(0..1, Some(""))]);
    assert_right(&[append(0..1, ""), get(2..3, Some(""))]);
    assert_wrong(&[append(0..1, ""), get(2..3, None)]);
}

#[test]
fn a_read_sees_the_last_write() {
    assert_right(&[put(0..1, "1;"), put(2..3, "2;"), get(4..5, Some("2;"))]);
    // A stale read.
    assert_wrong(&[put(0..1, "1;"), put(2..3, "2;"), get(4..5, Some("1;"))]);
    // A lost write.
    assert_wrong(&[put(0..1, "1;"), get(2..3, None)]);
    // A value that nobody wrote.
    assert_wrong(&[put(0..1, "1;"), get(2..3, Some("3;"))]);
    // A value that is written only later.
    assert_wrong(&[get(0..1, Some("1;")), put(2..3, "1;")]);
}

#[test]
fn concurrent_operations_come_in_any_order() {
    for found in [None, Some("1;"), Some("2;")] {
        assert_right(&[put(0..9, "1;"), put(1..8, "2;"), get(2..7, found)]);
    }
    // Those that touch count as concurrent.
    assert_right(&[put(0..5, "1;"), get(5..6, None)]);
    assert_right(&[get(0..5, Some("1;")), put(5..6, "1;")]);
    assert_right(&[put(3..3, "1;"), get(3..3, None), get(3..3, Some("1;"))]);
}

#[test]
fn reads_do_not_go_backwards() {
    let write = put(0..20, "1;");
    assert_right(&[write.clone(), get(1..2, None), get(3..4, Some("1;"))]);
    assert_wrong(&[write, get(1..2, Some("1;")), get(3..4, None)]);
    let writes = [put(0..20, "1;"), put(0..20, "2;")];
    let [first, second] = writes;
    let reads = [get(1..2, Some("1;")), get(3..4, Some("2;")), get(5..6, Some("1;"))];
    assert_wrong(&[vec![first, second], reads.to_vec()].concat());
}

#[test]
fn appends_are_kept_in_order_once() {
    let appends = [append(0..1, "1;"), append(2..3, "2;")];
    let with = |found| [appends.to_vec(), vec![get(4..5, Some(found))]].concat();
    assert_right(&with("1;2;"));
    for (wrong, why) in [
        ("2;1;", "out of order"),
        ("1;1;2;", "one doubled"),
        ("1;2;2;", "the last doubled"),
        ("2;", "the first lost"),
        ("1;", "the last lost"),
        ("", "both lost"),
        ("1;3;2;", "one from nowhere"),
    ] {
        assert!(matches!(lin::check(&with(wrong)), Verdict::NotLinearizable(_)), "{why}");
    }
}

#[test]
fn an_append_to_an_absent_key_writes_it() {
    assert_right(&[put(0..1, "1;"), delete(2..3), append(4..5, "2;"), get(6..7, Some("2;"))]);
    assert_wrong(&[put(0..1, "1;"), delete(2..3), append(4..5, "2;"), get(6..7, Some("1;2;"))]);
}

#[test]
fn an_append_splits_no_other_text() {
    // The same text, put as a whole and made of parts.
    assert_right(&[put(0..1, "1;2;"), append(2..3, "3;"), get(4..5, Some("1;2;3;"))]);
    assert_right(&[put(0..1, "1;"), append(2..3, "2;3;"), cas(4..5, Some("1;2;3;"), "4;")]);
}

#[test]
fn one_of_two_equal_swaps_succeeds() {
    let start = put(0..1, "1;");
    let (first, second) = (cas(2..9, Some("1;"), "2;"), cas(2..9, Some("1;"), "3;"));
    assert_wrong(&[start.clone(), first.clone(), second]);
    assert_right(&[start.clone(), first.clone(), mismatch(2..9, Some("1;"), None)]);
    assert_right(&[start.clone(), first.clone(), mismatch(2..9, Some("1;"), Some(Some("2;")))]);
    assert_wrong(&[start.clone(), first.clone(), mismatch(2..9, Some("1;"), Some(Some("3;")))]);
    assert_wrong(&[start.clone(), first, mismatch(2..9, Some("1;"), Some(None))]);
    // A value may come back.
    let there_and_back =
        [cas(2..3, Some("1;"), "2;"), put(4..5, "1;"), cas(6..7, Some("1;"), "3;")];
    assert_right(&[vec![start], there_and_back.to_vec()].concat());
}

#[test]
fn a_swap_can_expect_an_absent_key() {
    assert_right(&[cas(0..1, None, "1;"), get(2..3, Some("1;"))]);
    assert_wrong(&[cas(0..1, None, "1;"), cas(2..3, None, "2;")]);
    assert_wrong(&[put(0..1, ""), cas(2..3, None, "2;")]);
    assert_right(&[cas(0..1, None, "1;"), delete(2..3), cas(4..5, None, "2;")]);
    assert_right(&[put(0..1, "1;"), mismatch(2..3, None, None)]);
    assert_wrong(&[mismatch(2..3, None, None)]);
    assert_right(&[mismatch(2..3, Some("1;"), Some(None))]);
}

#[test]
fn a_failed_swap_writes_nothing() {
    let start = [put(0..1, "1;"), mismatch(2..3, Some("2;"), None)];
    assert_right(&[start.to_vec(), vec![get(4..5, Some("1;"))]].concat());
    assert_wrong(&[start.to_vec(), vec![get(4..5, Some("never"))]].concat());
}

#[test]
fn a_deleted_key_is_absent() {
    assert_right(&[put(0..1, "1;"), delete(2..3), get(4..5, None)]);
    assert_wrong(&[put(0..1, "1;"), delete(2..3), get(4..5, Some("1;"))]);
    assert_right(&[put(0..1, "1;"), delete(2..9), get(3..4, Some("1;")), get(5..6, None)]);
    assert_wrong(&[put(0..1, "1;"), delete(2..9), get(3..4, None), get(5..6, Some("1;"))]);
    assert_right(&[delete(0..1), get(2..3, None)]);
}

#[test]
fn an_unknown_write_takes_effect_late_or_never() {
    let start = [put(0..1, "1;"), put(2.., "2;")];
    let with = |reads: &[Operation]| [&start[..], reads].concat();
    assert_right(&with(&[get(900..901, Some("1;"))]));
    assert_right(&with(&[get(3..4, Some("1;")), get(900..901, Some("2;"))]));
    assert_right(&with(&[get(3..4, Some("2;")), get(900..901, Some("2;"))]));
    // Once it was seen it stays.
    assert_wrong(&with(&[get(3..4, Some("2;")), get(900..901, Some("1;"))]));
    // It takes effect once.
    let between = [get(3..4, Some("2;")), put(5..6, "3;"), get(7..8, Some("2;"))];
    assert_wrong(&with(&between));
    assert_right(&with(&[put(5..6, "3;"), get(7..8, Some("2;"))]));
    // Not before the call.
    assert_wrong(&[get(0..1, Some("2;")), put(2.., "2;")]);
}

#[test]
fn unknown_appends_may_be_there_or_not() {
    let appends = [append(0.., "1;"), append(0.., "2;"), append(2..3, "3;")];
    let with = |found: &str| [appends.to_vec(), vec![get(4..5, Some(found))]].concat();
    for found in ["3;", "1;3;", "3;1;", "2;1;3;", "1;3;2;", "3;2;1;"] {
        assert_right(&with(found));
    }
    for found in ["", "1;", "1;2;", "1;1;3;", "3;1;1;", "1;2;3;1;"] {
        assert_wrong(&with(found));
    }
    // The second read has lost what the first one saw.
    assert_wrong(&[with("1;3;"), vec![get(6..7, Some("3;"))]].concat());
    assert_right(&[with("3;"), vec![get(6..7, Some("3;2;1;"))]].concat());
}

#[test]
fn unknown_swaps_and_deletes_may_happen() {
    let start = [put(0..1, "1;"), cas(2.., Some("1;"), "2;"), delete(2..)];
    for found in [Some("1;"), Some("2;"), None] {
        assert_right(&[start.to_vec(), vec![get(4..5, found)]].concat());
    }
    let reads = [get(4..5, None), get(6..7, Some("2;"))];
    assert_wrong(&[start.to_vec(), reads.to_vec()].concat());
}

#[test]
fn unknown_writes_that_do_the_same_are_each_of_use() {
    let history = [
        put(0..1, "1;"),
        delete(2..),
        get(3..4, None),
        put(5..6, "1;"),
        delete(7..),
        get(8..9, None),
    ];
    assert_right(&history);
    // Twice needs two of them.
    let without = [&history[..4], &history[5..]].concat();
    assert_wrong(&without);
    assert_right(&[without, vec![delete(1..)]].concat());
}

#[test]
fn a_write_that_nothing_reads_may_explain_a_failed_swap() {
    // Nothing but the unknown put can have changed the value in between, and back.
    let history = [
        put(0..1, "1;"),
        put(2.., "2;"),
        mismatch(3..4, Some("1;"), None),
        put(5..6, "1;"),
        cas(7..8, Some("1;"), "3;"),
    ];
    assert_right(&history);
    let without: Vec<Operation> =
        history.iter().filter(|each| each.call_ns != 2).cloned().collect();
    assert_wrong(&without);
    // One unknown write explains no two of them with the old value in between.
    let again = mismatch(9..10, Some("3;"), None);
    assert_wrong(&[history.to_vec(), vec![again]].concat());
}

#[test]
fn an_absent_key_counts_from_zero() {
    assert_right(&[incr(0..1, 1, 1), incr(2..3, 5, 6), incr(4..5, -6, 0), get(6..7, Some("0"))]);
    assert_right(&[incr(0..1, 0, 0), get(2..3, Some("0"))]);
    assert_right(&[incr(0..1, 7, 7), delete(2..3), get(4..5, None), incr(6..7, 7, 7)]);
    // A lost one, one done twice, and one that gave the value before.
    assert_wrong(&[incr(0..1, 1, 1), incr(2..3, 1, 1)]);
    assert_wrong(&[incr(0..1, 1, 1), incr(2..3, 1, 3)]);
    assert_wrong(&[incr(0..1, 1, 0)]);
    assert_wrong(&[incr(0..1, 0, 0), get(2..3, None)]);
}

#[test]
fn concurrent_incrs_give_each_sum_once() {
    let three = [incr(0..9, 1, 2), incr(0..9, 1, 3), incr(0..9, 1, 1)];
    assert_right(&three);
    assert_right(&[&three[..], &[get(1..8, Some("2"))]].concat());
    assert_wrong(&[incr(0..9, 1, 1), incr(0..9, 1, 1)]);
    assert_wrong(&[&three[..], &[get(10..11, Some("2"))]].concat());
    // Sums against the order in time.
    assert_wrong(&[incr(0..1, 1, 2), incr(2..3, 1, 1)]);
}

#[test]
fn an_incr_counts_on_from_any_integer_that_was_written() {
    assert_right(&[put(0..1, "41"), incr(2..3, 1, 42), cas(4..5, Some("42"), "-1")]);
    assert_right(&[put(0..1, "-1"), incr(2..3, 1, 0), append(4..5, ""), incr(6..7, 1, 1)]);
    // The text in between is one that nothing observes.
    assert_right(&[put(0..1, "4"), append(2..3, "1"), incr(4..5, 1, 42)]);
    assert_right(&[put(0..1, ""), append(2..3, "-"), append(4..5, "4"), incr(6..7, 1, -3)]);
    assert_right(&[incr(0..1, 4, 4), append(2..3, "1"), incr(4..5, 1, 42), append(6..7, ";")]);
    assert_right(&[incr(0..1, 4, 4), append(2..3, "1;"), get(4..5, Some("41;"))]);
    assert_right(&[incr(0..1, 4, 4), append(2..3, "1;"), put(4..5, "7"), incr(6..7, 1, 8)]);
    assert_wrong(&[put(0..1, "4"), append(2..3, "1"), incr(4..5, 1, 5)]);
    assert_wrong(&[put(0..1, "40"), put(2..3, "41"), incr(4..5, 1, 41)]);
}

#[test]
fn an_incr_of_what_is_no_integer_is_refused() {
    for text in ["1;", "", "-", "+1", "01", "-0", " 1", "9223372036854775808"] {
        assert_wrong(&[put(0..1, text), incr(2..3, 1, 1)]);
        assert_wrong(&[put(0..1, text), incr(2..3, 1, 2)]);
        let mut refused = incr(2..3, 1, 1);
        refused.outcome = Outcome::Refused;
        assert_right(&[put(0..1, text), refused, get(4..5, Some(text))]);
    }
    // Nor does one whose sum has no room change anything.
    let full = put(0..1, "9223372036854775807");
    assert_right(&[full.clone(), incr(2.., 1, 0), get(4..5, Some("9223372036854775807"))]);
    assert_wrong(&[full, incr(2..3, 1, i64::MIN)]);
}

#[test]
fn an_unknown_incr_counts_once_or_not_at_all() {
    let start = [incr(0..1, 1, 1), incr(2.., 10, 0)];
    let with = |rest: &[Operation]| [&start[..], rest].concat();
    assert_right(&with(&[get(3..4, Some("1")), incr(5..6, 1, 2)]));
    assert_right(&with(&[get(3..4, Some("1")), incr(5..6, 1, 12)]));
    assert_right(&with(&[incr(3..4, 1, 2), incr(5..6, 1, 13), get(900..901, Some("13"))]));
    assert_wrong(&with(&[incr(3..4, 1, 12), get(5..6, Some("2"))]));
    assert_wrong(&with(&[incr(3..4, 1, 12), incr(5..6, 1, 23)]));
    // It is of no use on a text, and of use again when that has gone.
    assert_right(&with(&[put(3..4, "a"), get(5..6, Some("a")), delete(7..8), incr(9..10, 1, 11)]));
    assert_wrong(&with(&[put(3..4, "a"), get(5..6, Some("11"))]));
}

#[test]
fn many_unknown_incrs_are_told_apart_by_their_sum() {
    let mut history: Vec<Operation> =
        (0..40).map(|i| incr(i.., 1 + i64::from(i % 3 == 0), 0)).collect();
    history.extend((0..100).map(|i| incr(100 + 10 * i..105 + 10 * i, 1, 20 + i as i64)));
    assert_right(&history);
    history.push(incr(2_000..2_001, 1, 1_000));
    assert_wrong(&history);
}

#[test]
fn refused_operations_have_no_effect() {
    let mut refused = put(2.., "2;");
    refused.outcome = Outcome::Refused;
    assert_right(&[put(0..1, "1;"), refused.clone(), get(4..5, Some("1;"))]);
    assert_wrong(&[put(0..1, "1;"), refused, get(4..5, Some("2;"))]);
}

#[test]
fn an_answer_that_the_operation_cannot_have_is_wrong() {
    assert_wrong(&[operation(0..1, Kind::Get, Answer::Written)]);
    assert_wrong(&[operation(0..1, Kind::Delete, Answer::Read(None))]);
}

#[test]
fn keys_are_independent() {
    let of = |mut operation: Operation, key: &str| {
        operation.key = key.into();
        operation
    };
    let right = [of(put(0..1, "1;"), "a"), of(get(2..3, None), "b")];
    assert_right(&right);
    let wrong = [right.to_vec(), vec![of(get(4..5, None), "a")]].concat();
    assert_eq!(assert_wrong(&wrong).key, "a");
}

#[test]
fn the_report_names_the_answer_that_fits_no_order() {
    let mut history: Vec<Operation> =
        (0..100).map(|i| put(10 * i..10 * i + 5, &format!("{i};"))).collect();
    history.extend((0..100).map(|i| get(10 * i + 6..10 * i + 8, Some(&format!("{i};")))));
    let stale = get(507..513, Some("48;"));
    history.push(stale.clone());
    let report = assert_wrong(&history);
    assert_eq!((report.culprit, report.operations, report.left_out), (stale, 201, 1));
    assert_eq!(report.writers, [put(480..485, "48;")]);
    // All up to then but the culprit and what had not returned: 51 puts, their reads, and no more.
    assert_eq!(report.order.len(), 102);
    assert_eq!(report.order.last().map(|last| last.call_ns), Some(506));
    assert_eq!(report.window.iter().map(|each| each.call_ns).collect::<Vec<_>>(), [507, 510]);
    assert_eq!(report.window[1].outcome, Outcome::Unknown, "it returned only later");
}

#[test]
fn the_window_reaches_back_to_the_read_that_matters() {
    let mut history = vec![put(0.., "1;"), put(0.., "2;")];
    history.extend((1..5).map(|i| get(10 * i..10 * i + 5, None)));
    history.push(get(60..65, Some("1;")));
    history.extend((7..20).map(|i| get(10 * i..10 * i + 5, Some("2;"))));
    history.push(get(200..205, Some("1;")));
    history.extend((21..30).map(|i| get(10 * i..10 * i + 5, Some("1;"))));
    let report = assert_wrong(&history);
    assert_eq!(report.culprit.call_ns, 200);
    let window: Vec<u64> = report.window.iter().map(|each| each.call_ns).collect();
    assert_eq!(window[..3], [0, 0, 60], "the open writes, and the first read of the value");
    assert_eq!(window.last(), Some(&200));
}

#[test]
fn the_report_names_the_longest_write_of_a_value() {
    let history = [append(0..1, "6;"), append(2..3, "46;"), get(4..5, Some("46;"))];
    assert_eq!(assert_wrong(&history).writers, history[1..2]);
    let nobody = [append(0..1, "6;"), put(2..3, "7;"), get(4..5, Some("8;"))];
    assert_eq!(assert_wrong(&nobody).writers, []);
}

#[test]
fn a_report_can_be_read() {
    let history = [put(0..1_000, "1;"), put(2_000..3_000, "2;"), get(4_000..5_000, Some("1;"))];
    let shown = assert_wrong(&history).to_string();
    let expected = "\
key \"k\", 3 operations
The first answer that fits no order (times in seconds):
     0.000004000 to    0.000005000  client 0: get (found \"1;\")
What may have written the value, 1 operations:
     0.000000000 to    0.000001000  client 0: put \"1;\" (done)
The longest order of what was answered until then has 2 operations and leaves out 1. \
Its end, with the value after each:
     0.000000000 to    0.000001000  client 0: put \"1;\" (done)  => \"1;\"
     0.000002000 to    0.000003000  client 0: put \"2;\" (done)  => \"2;\"
What was under way, from the earliest read that matters on:
     0.000004000 to    0.000005000  client 0: get (found \"1;\")
";
    assert_eq!(shown, expected);
}

#[test]
fn a_search_that_is_given_up_is_no_success() {
    let history = [put(0..9, "1;"), put(0..9, "2;"), get(10..11, Some("1;"))];
    assert!(matches!(lin::check_within(&history, 3), Verdict::Undecided { steps: 3, .. }));
    assert_right(&history);
    // A key that is wrong is wrong, whatever became of the others.
    let mut wrong = get(0..1, Some("1;"));
    wrong.key = "z".into();
    let both = [history.to_vec(), vec![wrong]].concat();
    assert!(matches!(lin::check_within(&both, 50), Verdict::NotLinearizable(_)));
}

#[test]
fn a_key_expires_once_and_does_not_come_back() {
    let lived = [put(0..1, "a;"), expire(0, "a;"), get(2..3, Some("a;"))];
    let gone = [&lived[..], &[get(4..5, None)]].concat();
    assert_right(&lived);
    assert_right(&gone);
    assert_right(&[&gone[..], &[put(6..7, "b;"), get(8..9, Some("b;"))]].concat());
    // It is seen after a read that saw it gone.
    assert_wrong(&[&gone[..], &[get(6..7, Some("a;"))]].concat());
    // It goes before that may be.
    assert_wrong(&[put(0..1, "a;"), expire(6, "a;"), get(2..3, None)]);
    // What expires is not what was put later.
    assert_wrong(&[put(0..1, "a;"), expire(0, "a;"), put(2..3, "b;"), get(4..5, None)]);
}
