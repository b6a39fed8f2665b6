//! History files: what is written reads back, and what is wrong is refused with its line.

use logboat_tests::history::{self, Answer, HistoryError, Kind, Operation, Outcome};
use serde_json::json;

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn cas(expect: Option<&str>) -> Kind {
    Kind::Cas { expect: expect.map(Into::into), value: "2;".into() }
}

fn incr(key: &str, call: u64, by: i64, sum: i64) -> Operation {
    Operation::call(0, call, key, Kind::Incr { by }).answered(call + 1, Answer::Counted(sum))
}

/// One operation of each kind and outcome, with the line that stands for it.
fn examples() -> Vec<(Operation, &'static str)> {
    let call = |kind| Operation::call(7, 10, "k", kind);
    let mut refused = call(Kind::Delete);
    refused.outcome = Outcome::Refused;
    refused.info = Some(json!({ "node": 3 }));
    let mismatch = |kind, current| call(kind).answered(20, Answer::Mismatched { current });
    vec![
        (
            call(Kind::Put { value: "1;".into() }).answered(20, Answer::Written),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"put","key":"k","value":"1;","ok":true}"#,
        ),
        (
            call(Kind::Append { value: "1;".into() }),
            r#"{"client":7,"call_ns":10,"return_ns":null,"op":"append","key":"k","value":"1;","ok":null}"#,
        ),
        (
            call(Kind::Get).answered(20, Answer::Read(None)),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"get","key":"k","output":null,"ok":true}"#,
        ),
        (
            call(Kind::Get).answered(20, Answer::Read(text("1;\u{e9}\"\n"))),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"get","key":"k","output":"1;é\"\n","ok":true}"#,
        ),
        (
            call(cas(Some("1;"))).answered(20, Answer::Swapped),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"cas","key":"k","value":"2;","expect":"1;","output":true,"ok":true}"#,
        ),
        (
            mismatch(cas(None), None),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"cas","key":"k","value":"2;","expect":null,"output":false,"ok":true}"#,
        ),
        (
            mismatch(cas(None), Some(text("3;"))),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"cas","key":"k","value":"2;","expect":null,"output":false,"current":"3;","ok":true}"#,
        ),
        (
            mismatch(cas(Some("1;")), Some(None)),
            r#"{"client":7,"call_ns":10,"return_ns":20,"op":"cas","key":"k","value":"2;","expect":"1;","output":false,"current":null,"ok":true}"#,
        ),
        (
            refused,
            r#"{"client":7,"call_ns":10,"return_ns":null,"op":"delete","key":"k","ok":false,"info":{"node":3}}"#,
        ),
    ]
}

#[test]
fn each_operation_has_its_line() {
    for (operation, line) in examples() {
        let mut written = Vec::new();
        history::write(&mut written, std::slice::from_ref(&operation)).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), format!("{line}\n"));
        assert_eq!(history::read(line.as_bytes()).unwrap(), [operation]);
    }
}

/// How the operations read back, and how many keys were left out.
fn round_trip(operations: &[Operation]) -> (Vec<Operation>, usize) {
    let mut written = Vec::new();
    let left_out = history::write(&mut written, operations).expect("memory can be written to");
    (history::read(&written[..]).expect("what was written can be read"), left_out)
}

#[test]
fn an_incr_is_written_as_the_swap_that_it_was() {
    let swap = |call, expect: Option<&str>, value: &str| {
        let kind = Kind::Cas { expect: expect.map(Into::into), value: value.into() };
        Operation::call(0, call, "k", kind).answered(call + 1, Answer::Swapped)
    };
    let mut refused = Operation::call(1, 2, "k", Kind::Incr { by: 1 });
    refused.outcome = Outcome::Refused;
    let (read, left_out) = round_trip(&[incr("k", 0, 5, 5), refused, incr("k", 4, -2, 3)]);
    assert_eq!(left_out, 0);
    assert_eq!([&read[0], &read[2]], [&swap(0, None, "5"), &swap(4, Some("5"), "3")]);
    assert_eq!(read[1].outcome, Outcome::Refused);
    // A sum that can't be stays one.
    let (read, _) = round_trip(&[incr("k", 0, 1, i64::MIN)]);
    assert_eq!(read, [swap(0, Some("-9223372036854775809"), "-9223372036854775808")]);
}

#[test]
fn keys_whose_incrs_have_no_swap_to_stand_for_them_are_left_out() {
    let unknown = Operation::call(2, 10, "unknown", Kind::Incr { by: 1 });
    let zero = Operation::call(3, 0, "zero", Kind::Put { value: "0".into() });
    let operations = [
        incr("unknown", 0, 1, 1),
        unknown,
        zero.answered(5, Answer::Written),
        incr("zero", 10, 3, 3),
        incr("back at zero", 20, -1, -1),
        incr("back at zero", 22, 1, 0),
        incr("back at zero", 24, 1, 1),
        // Whatever it counts from is not 0, so it does not matter what may be.
        incr("never from zero", 30, 0, 7),
        incr("never from zero", 32, -7, 0),
    ];
    let (read, left_out) = round_trip(&operations);
    assert_eq!(left_out, 3);
    assert!(read.iter().all(|each| each.key == "never from zero"), "{read:?}");
    assert_eq!(read.len(), 2);
}

#[test]
fn a_file_keeps_the_order_of_its_lines() {
    let mut operations: Vec<Operation> = examples().into_iter().map(|(each, _)| each).collect();
    for (client, operation) in operations.iter_mut().enumerate() {
        operation.client = client as u64;
    }
    let mut written = Vec::new();
    history::write(&mut written, &operations).unwrap();
    assert_eq!(history::read(&written[..]).unwrap(), operations);
    assert_eq!(history::read(&b""[..]).unwrap(), []);
}

#[test]
fn null_stands_for_a_field_that_does_not_belong() {
    let line = r#"{"client":7,"call_ns":10,"return_ns":20,"op":"put","key":"k","value":"1;",
        "expect":null,"output":null,"current":null,"ok":true,"info":null}"#;
    let line = line.replace('\n', "");
    assert_eq!(history::read(line.as_bytes()).unwrap(), [examples().remove(0).0]);
    let get = r#"{"client":7,"call_ns":10,"return_ns":null,"op":"get","key":"k","output":null,"ok":null}"#;
    assert_eq!(history::read(get.as_bytes()).unwrap(), [Operation::call(7, 10, "k", Kind::Get)]);
}

/// The end of a line whose fields contradict one another, and what is said of it.
const CONTRADICTIONS: &[(&str, &str)] = &[
    (r#""op":"put","ok":true,"return_ns":20"#, "a put needs a `value`"),
    (r#""op":"put","value":null,"ok":true,"return_ns":20"#, "a put needs a `value`"),
    (r#""op":"append","ok":true,"return_ns":20"#, "an append needs a `value`"),
    (r#""op":"cas","expect":null,"ok":null,"return_ns":null"#, "a cas needs a `value`"),
    (r#""op":"cas","value":"1;","ok":null,"return_ns":null"#, "a cas needs an `expect`"),
    (r#""op":"get","value":"1;","ok":null,"return_ns":null"#, "has no `value`"),
    (r#""op":"get","expect":"1;","ok":null,"return_ns":null"#, "only a cas has an `expect`"),
    (r#""op":"get","ok":true,"return_ns":20"#, "`output` of an answered get"),
    (r#""op":"get","output":true,"ok":true,"return_ns":20"#, "`output` of an answered get"),
    (r#""op":"get","output":"","ok":null,"return_ns":null"#, "only an answered operation"),
    (r#""op":"get","output":"","ok":false,"return_ns":null"#, "only an answered operation"),
    (r#""op":"delete","output":true,"ok":true,"return_ns":20"#, "has no `output`"),
    (r#""op":"get","output":null,"ok":true,"return_ns":null"#, "needs a `return_ns`"),
    (r#""op":"get","output":null,"ok":true,"return_ns":9"#, "before `call_ns`"),
    (r#""op":"delete","ok":null,"return_ns":20"#, "has to be null"),
    (r#""op":"delete","ok":false,"return_ns":20"#, "has to be null"),
    (r#""op":"delete","current":"","ok":true,"return_ns":20"#, "did not match has a `current`"),
    (
        r#""op":"cas","value":"","expect":"","output":"","ok":true,"return_ns":20"#,
        "is true or false",
    ),
    (
        r#""op":"cas","value":"","expect":"","output":true,"current":"","ok":true,"return_ns":20"#,
        "did not match has a `current`",
    ),
];

#[test]
fn what_contradicts_itself_is_refused() {
    let good = r#""client":7,"key":"k","call_ns":10"#;
    for (fields, problem) in CONTRADICTIONS {
        let error = history::read(format!("{{{good},{fields}}}").as_bytes()).unwrap_err();
        assert!(matches!(error, HistoryError::Fields { line: 1, .. }), "{fields}: {error}");
        assert!(error.to_string().contains(problem), "{fields}: {error}");
    }
}

#[test]
fn what_is_no_operation_is_refused_with_its_line() {
    let good = examples()[0].1;
    for (wrong, problem) in [
        ("", "EOF"),
        ("[]", "invalid"),
        (&good[..good.len() - 1], "EOF"),
        (&good.replace("\"ok\"", "\"okay\""), "unknown field `okay`"),
        (&good.replace(",\"ok\":true", ""), "missing field `ok`"),
        (&good.replace("\"return_ns\":20,", ""), "missing field `return_ns`"),
        (&good.replace("\"put\"", "\"incr\""), "unknown variant `incr`"),
        (&good.replace("10", "-10"), "-10"),
        (&good.replace("10", "1.5"), "1.5"),
        (&good.replace("\"key\":\"k\"", "\"key\":null"), "null"),
    ] {
        let error = history::read(format!("{good}\n{wrong}\n{good}").as_bytes()).unwrap_err();
        assert!(matches!(error, HistoryError::Json { line: 2, .. }), "{wrong}: {error}");
        assert!(error.to_string().contains(problem), "{wrong}: {error}");
    }
}

#[test]
fn a_client_does_one_thing_at_a_time() {
    let get = |client, call, end| {
        Operation::call(client, call, "k", Kind::Get).answered(end, Answer::Read(None))
    };
    let read = |operations: &[Operation]| {
        let mut written = Vec::new();
        history::write(&mut written, operations).unwrap();
        history::read(&written[..])
    };
    let unknown = Operation::call(1, 12, "k", Kind::Delete);
    read(&[get(1, 20, 30), get(1, 10, 20), get(2, 15, 25), unknown]).unwrap();
    let error = read(&[get(1, 20, 30), get(2, 15, 25), get(1, 10, 21)]).unwrap_err();
    assert!(matches!(error, HistoryError::Overlap { client: 1, first: 3, second: 1 }), "{error}");
}
