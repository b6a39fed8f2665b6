//! The patch format: unified diffs that are found by their lines, after a description.

use std::path::{Path, PathBuf};
use thiserror::Error;

/// A deliberate bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The file's name without its extension, which is what the patched lines ask the switch for.
    pub name: String,
    /// Whether elastic clusters are to find it: its description says `--elastic`.
    pub is_elastic: bool,
    pub(super) hunks: Vec<Hunk>,
}

/// One place that a patch changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hunk {
    /// Where the hunk begins in the patch, counted from 1.
    pub(super) line: usize,
    /// The file that it changes, from the root of the repository.
    pub(super) file: PathBuf,
    pub(super) lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Tells where the hunk belongs.
    Kept(String),
    /// Does so as well, and goes.
    Removed(String),
    /// Is new.
    Added(String),
}

/// Why a patch can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{patch}.patch:{line}: {problem}")]
pub struct PatchError {
    /// The patch's name.
    pub patch: String,
    /// The line of the patch, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl Patch {
    /// Reads the text of a patch.
    ///
    /// # Errors
    /// The first line that does not follow the format, or where the patch lacks something.
    pub fn parse(name: &str, text: &str) -> Result<Self, PatchError> {
        let mut parser = Parser { name, file: None, hunk: None, hunks: Vec::new() };
        if text.lines().next().is_none_or(|line| line.trim().is_empty() || is_header(line)) {
            return Err(parser.error(1, "the first line must say what the bug is"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            parser.line(number, line)?;
        }
        parser.finish_hunk()?;
        let Parser { hunks, .. } = parser;
        let description = text.lines().take_while(|line| !is_header(line));
        let is_elastic = description.into_iter().any(|line| line.contains("`--elastic`"));
        let patch = Self { name: name.to_owned(), is_elastic, hunks };
        patch.check_switch()?;
        Ok(patch)
    }

    /// Whether it is a bug of the server, which the simulator finds in stores of keys alone.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        self.hunks.iter().all(|hunk| hunk.file.starts_with("server"))
    }

    /// An error at one of this patch's lines.
    pub(super) fn error(&self, line: usize, problem: impl Into<String>) -> PatchError {
        PatchError { patch: self.name.clone(), line, problem: problem.into() }
    }

    /// Every hunk must be off unless the switch is set to this patch.
    fn check_switch(&self) -> Result<(), PatchError> {
        let own = format!("logboat_raft::mutant!({})", self.name);
        let mut asks = false;
        for hunk in &self.hunks {
            let added = hunk.lines.iter().filter_map(|line| match line {
                Line::Added(text) => Some(text),
                Line::Kept(_) | Line::Removed(_) => None,
            });
            for text in added {
                asks |= text.contains(&own);
                if text.matches("mutant!(").count() != text.matches(&own).count() {
                    return Err(self.error(hunk.line, format!("it may only ask {own}")));
                }
            }
        }
        if asks { Ok(()) } else { Err(self.error(1, format!("nothing in it asks {own}"))) }
    }
}

impl Hunk {
    /// The lines by which it is found.
    pub(super) fn old_lines(&self) -> Vec<&str> {
        let old = self.lines.iter().filter_map(|line| match line {
            Line::Kept(text) | Line::Removed(text) => Some(text.trim()),
            Line::Added(_) => None,
        });
        old.collect()
    }
}

struct Parser<'a> {
    name: &'a str,
    file: Option<PathBuf>,
    hunk: Option<Hunk>,
    hunks: Vec<Hunk>,
}

impl Parser<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), PatchError> {
        if let Some(path) = line.strip_prefix("--- ") {
            self.finish_hunk()?;
            self.file = Some(path_of(path, "a/"));
            return Ok(());
        }
        if line.starts_with("diff ") || line.starts_with("index ") {
            return self.finish_hunk();
        }
        // All before the first file describes the patch.
        let Some(file) = &self.file else { return Ok(()) };
        if let Some(path) = line.strip_prefix("+++ ") {
            let same = path_of(path, "b/") == *file;
            return if same {
                Ok(())
            } else {
                Err(self.error(number, "a patch can't move a file"))
            };
        }
        if line.starts_with("@@") {
            let hunk = Hunk { line: number, file: file.clone(), lines: Vec::new() };
            self.finish_hunk()?;
            self.hunk = Some(hunk);
            return Ok(());
        }
        let text = line.get(1..).unwrap_or_default().to_owned();
        let parsed = match line.chars().next() {
            None | Some(' ') => Line::Kept(text),
            Some('-') => Line::Removed(text),
            Some('+') => Line::Added(text),
            Some(_) => {
                return Err(self.error(number, "a line must begin with a space, a minus or a plus"));
            }
        };
        match &mut self.hunk {
            Some(hunk) => hunk.lines.push(parsed),
            None if line.is_empty() => {}
            None => return Err(self.error(number, "a line of `@@` must come before")),
        }
        Ok(())
    }

    fn finish_hunk(&mut self) -> Result<(), PatchError> {
        let Some(mut hunk) = self.hunk.take() else { return Ok(()) };
        // An empty line before the next file, or at the end, is none of the hunk's.
        while hunk.lines.pop_if(|line| *line == Line::Kept(String::new())).is_some() {}
        if hunk.old_lines().is_empty() {
            return Err(self.error(hunk.line, "the hunk has no line by which to find its place"));
        }
        self.hunks.push(hunk);
        Ok(())
    }

    fn error(&self, line: usize, problem: &str) -> PatchError {
        PatchError { patch: self.name.to_owned(), line, problem: problem.to_owned() }
    }
}

fn is_header(line: &str) -> bool {
    ["--- ", "+++ ", "diff ", "index ", "@@"].iter().any(|prefix| line.starts_with(prefix))
}

fn path_of(path: &str, prefix: &str) -> PathBuf {
    Path::new(path.strip_prefix(prefix).unwrap_or(path)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Line, Patch};

    const HEAD: &str = "What it is.\n\nWhy.\n\n--- a/raft/src/lib.rs\n+++ b/raft/src/lib.rs\n";
    const ADDED: &str = "+    if logboat_raft::mutant!(Bug) { return; }\n";

    fn problem(text: &str) -> (usize, String) {
        let error = Patch::parse("Bug", text).unwrap_err();
        (error.line, error.problem)
    }

    #[test]
    fn a_diff_of_git_is_a_patch() {
        let diff = "What it is.\n\n\
                    diff --git a/raft/src/lib.rs b/raft/src/lib.rs\nindex 1..2 100644\n\
                    --- a/raft/src/lib.rs\n+++ b/raft/src/lib.rs\n\
                    @@ -1,2 +1,2 @@ fn run() {\n     kept\n-    gone\n\
                    +    if logboat_raft::mutant!(Bug) { gone }\n\n";
        let patch = Patch::parse("Bug", diff).unwrap();
        let [hunk] = patch.hunks.as_slice() else { panic!("{patch:?}") };
        assert_eq!((hunk.line, hunk.file.to_str()), (7, Some("raft/src/lib.rs")));
        assert_eq!(hunk.lines[1], Line::Removed("    gone".to_owned()));
        assert_eq!(hunk.old_lines(), ["kept", "gone"]);
        assert!(!patch.is_elastic);
        let elastic = format!("It is found with `--elastic`.\n{diff}");
        assert!(Patch::parse("Bug", &elastic).unwrap().is_elastic);
    }

    #[test]
    fn a_patch_without_description_is_refused() {
        let text = format!("--- a/raft/src/lib.rs\n@@\n kept\n{ADDED}");
        assert_eq!(problem(&text), (1, "the first line must say what the bug is".to_owned()));
    }

    #[test]
    fn a_hunk_without_old_lines_is_refused() {
        let (line, what) = problem(&format!("{HEAD}@@\n{ADDED}"));
        assert_eq!((line, what.as_str()), (7, "the hunk has no line by which to find its place"));
    }

    #[test]
    fn a_patch_must_ask_its_own_switch_and_no_other() {
        let (line, _) = problem(&format!("{HEAD}@@\n kept\n+    return;\n"));
        assert_eq!(line, 1);
        let other = ADDED.replace("(Bug)", "(Other)");
        let (line, _) = problem(&format!("{HEAD}@@\n kept\n{ADDED}{other}"));
        assert_eq!(line, 7);
    }

    #[test]
    fn what_is_no_line_of_a_diff_is_named() {
        let (line, _) = problem(&format!("{HEAD}@@\n kept\n{ADDED}kept\n"));
        assert_eq!(line, 10);
    }
}
