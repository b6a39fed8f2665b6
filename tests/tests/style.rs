//! What rustfmt and clippy don't look at: the width of comments, the length of files, how imports
//! are written, and paths that only one machine has.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_COLUMNS: usize = 100;

const MAX_FILE_LINES: usize = 700;

/// The beginnings of paths in somebody's home. In two pieces, so that this file may hold them.
const HOMES: [(&str, &str); 4] = [("/ho", "me/"), ("/Us", "ers/"), ("/ro", "ot/"), ("/wo", "rk/")];

/// A line of some file, for a message about it.
struct Line<'a> {
    file: &'a Path,
    number: usize,
    text: &'a str,
}

#[test]
fn sources_and_documents_keep_to_the_style() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace");
    let mut files = Vec::new();
    collect(root, &mut files);
    assert!(files.len() > 300, "only {} files below {}", files.len(), root.display());
    let mut flaws = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("a text");
        let name = file.strip_prefix(root).expect("below the root");
        let lines: Vec<_> =
            text.lines().zip(1..).map(|(text, number)| Line { file: name, number, text }).collect();
        check(name, &lines, &mut flaws);
    }
    assert!(flaws.is_empty(), "{} flaws:\n{}", flaws.len(), flaws.join("\n"));
}

/// Adds the sources and documents below a folder, but for those that tools made.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).expect("a folder");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "corpus", "artifacts"].contains(&name) {
                collect(&path, files);
            }
        } else if is_source(&path) || is_document(&path) {
            files.push(path);
        }
    }
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn check(file: &Path, lines: &[Line<'_>], flaws: &mut Vec<String>) {
    if is_source(file) {
        if lines.len() > MAX_FILE_LINES {
            flaws.push(format!("{}: {} lines", file.display(), lines.len()));
        }
        check_imports(lines, flaws);
    }
    for line in lines {
        if is_prose(line) && line.text.chars().count() > MAX_COLUMNS {
            flaws.push(line.flaw("wider than 100 columns"));
        }
        if HOMES.iter().any(|(begin, end)| line.text.contains(&[*begin, *end].concat())) {
            flaws.push(line.flaw("names a path of one machine"));
        }
    }
}

/// Whether a person wrote the line's end: tables and links can't be broken.
fn is_prose(line: &Line<'_>) -> bool {
    let text = line.text.trim_start();
    if is_source(line.file) {
        let comment = text.starts_with("//");
        return comment && !text.trim_start_matches(['/', '!', ' ']).starts_with('|');
    }
    !text.starts_with('|') && !text.contains("](") && !text.contains("://")
}

/// Imports stand in one group, each names one module, and none stands in the braces of another.
fn check_imports(lines: &[Line<'_>], flaws: &mut Vec<String>) {
    let mut in_braces = false;
    for (at, line) in lines.iter().enumerate() {
        let begins = line.text.trim_start_matches("pub ").starts_with("use ");
        if begins && at >= 2 && lines[at - 1].text.is_empty() && ends_import(lines[at - 2].text) {
            flaws.push(line.flaw("a second group of imports"));
        }
        let inside = if in_braces { line.text } else { braces_of_import(begins, line.text) };
        if inside.contains("::") {
            flaws.push(line.flaw("more than one module in an import"));
        }
        in_braces = (in_braces || begins && line.text.contains('{')) && !line.text.contains('}');
    }
}

fn ends_import(text: &str) -> bool {
    text.starts_with("use ") && text.ends_with(';') || text == "};"
}

fn braces_of_import(begins: bool, text: &str) -> &str {
    text.split_once('{').filter(|_| begins).map_or("", |(_, inside)| inside)
}

impl Line<'_> {
    fn flaw(&self, what: &str) -> String {
        format!("{}:{}: {what}", self.file.display(), self.number)
    }
}
