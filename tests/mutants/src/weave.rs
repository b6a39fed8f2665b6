//! Applies all patches to one tree.

use super::patch::{Hunk, Line};
use super::{Patch, PatchError, Tree};
use std::collections::BTreeMap;
use std::path::Path;
use std::{iter, str};

/// The file that gets the switch, and what it gets at its end. The other name of the crate lets its
/// own lines ask in the same words as those of others.
const SWITCH_HOST: &str = "raft/src/lib.rs";
const SWITCH_IMPORT: &str = "\nextern crate self as logboat_raft;\npub mod mutants;\n";
const SWITCH_FILE: &str = "raft/src/mutants.rs";
/// How crates that know the core through the engine alone get the switch.
const RELAY: (&str, &str) = ("engine/src/lib.rs", "\npub use logboat_raft::{mutant, mutants};\n");
const RELAYED: [(&str, &str); 2] =
    [("shard-router", "shard-router/src/lib.rs"), ("server", "server/src/lib.rs")];
const RELAYED_IMPORT: &str = "\nextern crate logboat as logboat_raft;\n";
/// The switch without the names.
const SWITCH: &str = include_str!("../switch.rs");

/// Applies all patches to the tree, and adds the switch that they ask.
///
/// Every hunk is looked up in the file as it is without any patch, so that the patches' order says
/// nothing. Where two hunks add lines at one place, both sets of lines stand there; a line that one
/// hunk takes out can't be taken out by another.
///
/// # Errors
/// Every hunk whose lines are not in its file exactly once, and every two that are at odds.
pub fn weave(tree: &mut Tree, patches: &[Patch]) -> Result<(), Vec<PatchError>> {
    let mut edits: BTreeMap<&Path, Vec<Edit<'_>>> = BTreeMap::new();
    let mut errors = Vec::new();
    for patch in patches {
        for hunk in &patch.hunks {
            match find(tree, patch, hunk) {
                Ok(at) => edits.entry(&hunk.file).or_default().extend(edits_at(patch, hunk, at)),
                Err(error) => errors.push(error),
            }
        }
    }
    let mut changed = BTreeMap::new();
    for (file, mut edits) in edits {
        // Lines that are only added come before what takes the place of the line there.
        edits.sort_by_key(|edit| (edit.start, edit.removed > 0));
        errors.extend(contradictions(&edits));
        if errors.is_empty() {
            changed.insert(file.to_owned(), apply(&lines_of(tree, file), &edits).into_bytes());
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    tree.extend(changed);
    add_switch(tree, patches);
    Ok(())
}

/// Lines that a patch puts in the place of others, or before one.
#[derive(Debug)]
struct Edit<'a> {
    patch: &'a Patch,
    hunk: &'a Hunk,
    /// The first line of the file that it concerns.
    start: usize,
    /// How many lines it takes out.
    removed: usize,
    added: Vec<&'a str>,
}

/// The line of the file at which a hunk begins.
fn find(tree: &Tree, patch: &Patch, hunk: &Hunk) -> Result<usize, PatchError> {
    let old = hunk.old_lines();
    let lines = lines_of(tree, &hunk.file);
    let mut places = places(&lines, &old);
    let (first, others) = (places.next(), places.count());
    let what = format!("its lines from `{}` on", old[0]);
    let file = hunk.file.display();
    let problem = match (first, others) {
        (Some(place), 0) => return Ok(place),
        (Some(_), others) => format!("{what} are in {file} {} times", others + 1),
        (None, _) => match elsewhere(tree, &old) {
            Some(found) => format!("{what} are not in {file}, but in {}", found.display()),
            None => format!("{what} are not in {file}, nor in another file"),
        },
    };
    Err(patch.error(hunk.line, problem))
}

/// Where lines stand among others, whatever the indentation.
fn places<'a>(lines: &'a [&'a str], wanted: &'a [&'a str]) -> impl Iterator<Item = usize> + 'a {
    let here =
        move |at: &usize| iter::zip(&lines[*at..], wanted).all(|(line, old)| line.trim() == *old);
    (0..(lines.len() + 1).saturating_sub(wanted.len())).filter(here)
}

/// A source file that has the lines.
fn elsewhere<'a>(tree: &'a Tree, wanted: &[&str]) -> Option<&'a Path> {
    let sources = tree.keys().filter(|file| file.extension().is_some_and(|name| name == "rs"));
    let mut sources = sources.map(|file| file.as_path());
    sources.find(|file| places(&lines_of(tree, file), wanted).next().is_some())
}

/// The lines of a text file; none of one that is missing or binary.
fn lines_of<'a>(tree: &'a Tree, file: &Path) -> Vec<&'a str> {
    let text = tree.get(file).and_then(|bytes| str::from_utf8(bytes).ok());
    text.unwrap_or_default().lines().collect()
}

fn edits_at<'a>(patch: &'a Patch, hunk: &'a Hunk, mut at: usize) -> Vec<Edit<'a>> {
    let mut edits = Vec::new();
    for change in hunk.lines.chunk_by(|one, next| is_kept(one) == is_kept(next)) {
        let added: Vec<&str> = change.iter().filter_map(added).collect();
        let old = change.len() - added.len();
        if !is_kept(&change[0]) {
            edits.push(Edit { patch, hunk, start: at, removed: old, added });
        }
        at += old;
    }
    edits
}

const fn is_kept(line: &Line) -> bool {
    matches!(line, Line::Kept(_))
}

fn added(line: &Line) -> Option<&str> {
    match line {
        Line::Added(text) => Some(text),
        Line::Kept(_) | Line::Removed(_) => None,
    }
}

/// The edits, in order, that concern lines which one before them takes out.
fn contradictions<'a>(edits: &'a [Edit<'a>]) -> impl Iterator<Item = PatchError> + 'a {
    iter::zip(edits, edits.iter().skip(1)).filter_map(|(edit, next)| {
        let clash = next.start < edit.start + edit.removed;
        let (other, file) = (&edit.patch.name, edit.hunk.file.display());
        let problem = format!("it changes lines of {file} that {other}.patch takes out");
        clash.then(|| next.patch.error(next.hunk.line, problem))
    })
}

fn apply(lines: &[&str], edits: &[Edit<'_>]) -> String {
    let mut text = String::new();
    let mut push = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    let mut at = 0;
    for edit in edits {
        lines[at..edit.start].iter().for_each(|line| push(line));
        edit.added.iter().for_each(|line| push(line));
        at = edit.start + edit.removed;
    }
    lines[at..].iter().for_each(|line| push(line));
    text
}

fn add_switch(tree: &mut Tree, patches: &[Patch]) {
    let names: Vec<_> = patches.iter().map(|patch| patch.name.as_str()).collect();
    let switch = format!("{SWITCH}\nmutants! {{ {} }}\n", names.join(" "));
    tree.insert(SWITCH_FILE.into(), switch.into_bytes());
    let host = tree.entry(SWITCH_HOST.into()).or_default();
    host.extend_from_slice(SWITCH_IMPORT.as_bytes());
    let is_patched = |folder: &str| {
        let mut hunks = patches.iter().flat_map(|patch| &patch.hunks);
        hunks.any(|hunk| hunk.file.starts_with(folder))
    };
    let mut relays = Vec::new();
    for (_, file) in RELAYED.iter().filter(|(folder, _)| is_patched(folder)) {
        relays.push((*file, RELAYED_IMPORT));
    }
    if !relays.is_empty() {
        relays.push(RELAY);
    }
    for (file, text) in relays {
        tree.entry(file.into()).or_default().extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{Patch, SWITCH_FILE, SWITCH_HOST, Tree, weave};
    use std::path::Path;

    const FILE: &str = "engine/src/lib.rs";

    fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| (path.into(), text.as_bytes().to_vec());
        files.iter().map(file).collect()
    }

    fn patch(name: &str, hunk: &str) -> Patch {
        let hunk = hunk.replace('?', &format!("logboat_raft::mutant!({name})"));
        Patch::parse(name, &format!("A bug.\n\n--- a/{FILE}\n+++ b/{FILE}\n@@\n{hunk}")).unwrap()
    }

    fn woven(text: &str, patches: &[Patch]) -> Result<String, Vec<String>> {
        let mut tree = tree(&[(FILE, text), ("engine/src/other.rs", "elsewhere\n")]);
        let result = weave(&mut tree, patches);
        result.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        Ok(String::from_utf8(tree.remove(Path::new(FILE)).unwrap()).unwrap())
    }

    #[test]
    fn hunks_are_found_by_their_lines_whatever_the_indentation() {
        let text = "one\n    two\nthree\n";
        let after = woven(text, &[patch("Bug", " two\n-three\n+four?\n")]).unwrap();
        assert_eq!(after, "one\n    two\nfour?\n".replace('?', "logboat_raft::mutant!(Bug)"));
    }

    #[test]
    fn patches_combine_at_one_place() {
        let patches = [
            patch("A", " one\n+a?\n two\n"),
            patch("B", " one\n-two\n+b?\n"),
            patch("C", " one\n+c?\n"),
        ];
        let after = woven("one\ntwo\n", &patches).unwrap();
        let [a, b, c] = ["A", "B", "C"].map(|name| format!("logboat_raft::mutant!({name})"));
        assert_eq!(after, format!("one\na{a}\nc{c}\nb{b}\n"));
    }

    #[test]
    fn two_patches_that_take_out_one_line_are_both_named() {
        let patches = [patch("A", "-one\n+a?\n"), patch("B", "-one\n+b?\n")];
        let errors = woven("one\n", &patches).unwrap_err();
        let expected = "B.patch:5: it changes lines of engine/src/lib.rs that A.patch takes out";
        assert_eq!(errors, [expected]);
    }

    #[test]
    fn lines_that_are_missing_or_ambiguous_are_named_all_at_once() {
        let patches = [
            patch("A", " gone\n+a?\n"),
            patch("B", " one\n+b?\n"),
            patch("C", " elsewhere\n+c?\n"),
        ];
        let errors = woven("one\none\n", &patches).unwrap_err();
        let [a, b, c] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(a.starts_with("A.patch:5: its lines from `gone` on are not in engine/src/lib.rs"));
        assert!(b.starts_with("B.patch:5: ") && b.ends_with(" are in engine/src/lib.rs 2 times"));
        assert!(c.starts_with("C.patch:5: ") && c.ends_with(" but in engine/src/other.rs"));
    }

    #[test]
    fn the_switch_knows_every_patch() {
        let mut tree = tree(&[(FILE, "one\n"), (SWITCH_HOST, "#![no_std]\n")]);
        weave(&mut tree, &[patch("A", " one\n+a?\n"), patch("B", " one\n+b?\n")]).unwrap();
        let text = |path: &str| String::from_utf8(tree[Path::new(path)].clone()).unwrap();
        assert!(text(SWITCH_FILE).ends_with("mutants! { A B }\n"));
        assert!(text(SWITCH_HOST).starts_with("#![no_std]\n"));
        assert!(text(SWITCH_HOST).contains("mod mutants;"));
    }
}
