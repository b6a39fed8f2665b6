//! The program `check-history`: what it prints, and its exit codes.

use logboat_tests::history::{self, Answer, Kind, Operation};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Runs the program on the files; its exit code, and what it printed on both streams.
fn check_history(files: &[&PathBuf]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_check-history"))
        .args(files)
        .output()
        .expect("the program runs");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(printed).expect("it prints text"))
}

/// A history with one read after one write.
fn file(dir: &TempDir, name: &str, found: &str) -> PathBuf {
    let put = Operation::call(1, 0, "k", Kind::Put { value: "1;".into() });
    let get = Operation::call(1, 20, "k", Kind::Get);
    let operations =
        [put.answered(10, Answer::Written), get.answered(30, Answer::Read(Some(found.to_owned())))];
    let path = dir.path().join(name);
    let file = fs::File::create(&path).expect("the directory is there");
    history::write(file, &operations).expect("a small file can be written");
    path
}

#[test]
fn the_exit_code_tells_the_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (file(&dir, "right", "1;"), file(&dir, "wrong", "2;"));
    let (garbled, missing) = (dir.path().join("garbled"), dir.path().join("missing"));
    fs::write(&garbled, "{}\n").unwrap();

    let (code, printed) = check_history(&[&right]);
    assert_eq!(code, Some(0));
    assert!(printed.contains("2 operations, linearizable"), "{printed}");

    let (code, printed) = check_history(&[&wrong, &right, &garbled]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("not linearizable"), "{printed}");
    assert!(printed.contains("get (found \"2;\")"), "{printed}");

    let (code, printed) = check_history(&[&garbled, &right]);
    assert_eq!(code, Some(2));
    assert!(printed.contains("line 1 is not an operation"), "{printed}");

    assert_eq!(check_history(&[&missing]).0, Some(2));
    assert_eq!(check_history(&[]).0, Some(2));
}
