//! Runs the simulator on every deliberate bug, and fails if one is not found.

use clap::Parser;
use logboat_mutants::{
    Patch, SWITCH_VARIABLE, read_patches, read_tree, repository, weave, write_copy,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, mpsc};
use std::{env, io, iter, thread};

/// Applies the patches in `tests/mutants/patches` to a copy of the tree and builds the simulator
/// there. Runs it on each of the bugs until it finds the bug.
#[derive(Debug, Parser)]
struct Arguments {
    /// The names of the mutants to run; all by default.
    names: Vec<String>,
    /// How many seeds a mutant may need.
    #[arg(long, default_value_t = 3_000)]
    seeds: u64,
    /// How many mutants run at a time; by default as many as there are processors.
    #[arg(long)]
    jobs: Option<usize>,
}

/// So many seeds should do; who needs more is named.
const FEW_SEEDS: u64 = 500;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    let patches = read_patches(repository())?;
    let mut tree = read_tree(repository())?;
    if let Err(errors) = weave(&mut tree, &patches) {
        errors.iter().for_each(|error| eprintln!("{error}"));
        return Ok(ExitCode::FAILURE);
    }
    let is_known = |name: &&String| patches.iter().any(|patch| patch.name == **name);
    if let Some(unknown) = arguments.names.iter().find(|name| !is_known(name)) {
        return Err(format!("there is no tests/mutants/patches/{unknown}.patch").into());
    }
    let is_wanted = |name: &String| arguments.names.is_empty() || arguments.names.contains(name);
    let wanted: Vec<Patch> = patches.into_iter().filter(|it| is_wanted(&it.name)).collect();
    let folder = repository().join("target/mutants");
    write_copy(&tree, &folder.join("tree"))?;
    let simulator = build(&folder)?;
    let verdicts = hunt_all(&arguments, &simulator, &wanted)?;
    Ok(sum_up(&verdicts))
}

/// Builds the simulator of the copy: optimised, with the checks of a debug build. The crates from
/// elsewhere are those that the workspace's tests need, and are built once for both.
fn build(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target = repository().join("target");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Who this package is: build scripts that ask would run once for each answer.
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&variable);
        }
    }
    let status = cargo
        // The tool's own test has cargo take the features that the tests turn on.
        .args(["build", "--workspace", "--locked", "--bin", "simulate", "--test", "patches"])
        .current_dir(folder.join("tree"))
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "3")
        .status()?;
    if !status.success() {
        return Err("the copy with all mutants does not build".into());
    }
    let simulator = folder.join("simulate");
    // The next build of the workspace puts its own in this place.
    std::fs::copy(target.join("debug/simulate"), &simulator)?;
    Ok(simulator)
}

/// What became of the hunt for a mutant: the seeds it took and what failed, unless nothing did.
#[derive(Debug)]
struct Verdict {
    name: String,
    found: Option<(u64, String)>,
}

/// Hunts some mutants at a time, and prints their verdicts in their order, as they come.
fn hunt_all(
    arguments: &Arguments,
    simulator: &Path,
    patches: &[Patch],
) -> io::Result<Vec<Verdict>> {
    println!("| deliberate bug | seeds needed | what noticed it |\n| --- | --- | --- |");
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or_else(processors).max(1);
    let left = Mutex::new(patches.iter().enumerate());
    let (results, verdicts) = mpsc::channel();
    thread::scope(|scope| {
        for results in iter::repeat_n(results, jobs) {
            let left = &left;
            scope.spawn(move || {
                let next = || left.lock().expect("no thread panics while it holds this").next();
                while let Some((place, patch)) = next() {
                    let _ = results.send((place, hunt(simulator, patch, arguments.seeds)));
                }
            });
        }
        let mut early = BTreeMap::new();
        let mut printed = Vec::new();
        for (place, verdict) in verdicts {
            early.insert(place, verdict?);
            while let Some(verdict) = early.remove(&printed.len()) {
                println!("{}", row(&verdict));
                printed.push(verdict);
            }
        }
        Ok(printed)
    })
}

/// Runs the simulator on a mutant until a seed fails.
fn hunt(simulator: &Path, patch: &Patch, seeds: u64) -> io::Result<Verdict> {
    let name = &patch.name;
    let kind = match patch.is_elastic {
        true => "--elastic",
        false if patch.is_of_server() => "--keys",
        false => "--mixed",
    };
    let output = Command::new(simulator)
        .args([kind, "--seeds", &format!("0..{seeds}")])
        .env(SWITCH_VARIABLE, name)
        .stderr(Stdio::null())
        .output()?;
    let (status, output) = (output.status, String::from_utf8_lossy(&output.stdout));
    let failure = |line: &str| {
        let (seed, failure) = line.strip_prefix("seed ")?.split_once(" FAILED: ")?;
        Some((seed.parse::<u64>().ok()? + 1, failure.to_owned()))
    };
    let found = output.lines().find_map(failure);
    if found.is_none() && !status.success() {
        return Err(io::Error::other(format!("the simulator of {name} ended with {status}")));
    }
    Ok(Verdict { name: name.clone(), found })
}

fn row(Verdict { name, found }: &Verdict) -> String {
    match found {
        Some((seeds, failure)) => {
            let failure = failure.trim_start_matches("assertion `left == right` failed: ");
            let failure: String = failure.chars().take(100).collect();
            format!("| {name} | {seeds} | {failure} |")
        }
        None => format!("| {name} | **not found** | |"),
    }
}

fn sum_up(verdicts: &[Verdict]) -> ExitCode {
    let names = |wanted: fn(&Verdict) -> bool| {
        let wanted = verdicts.iter().filter(|verdict| wanted(verdict));
        wanted.map(|verdict| verdict.name.as_str()).collect::<Vec<_>>()
    };
    let late = names(|verdict| verdict.found.as_ref().is_some_and(|(seeds, _)| *seeds > FEW_SEEDS));
    let missed = names(|verdict| verdict.found.is_none());
    if !late.is_empty() {
        println!("\nmore than {FEW_SEEDS} seeds: {}", late.join(", "));
    }
    if !missed.is_empty() {
        println!("\nnot found: {}", missed.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
