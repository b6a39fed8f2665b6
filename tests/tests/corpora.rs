//! Replays the inputs that once found something, and tries some more.
//!
//! Each target of `fuzz` gets the files in `corpora/<target>/`, then inputs that a seeded generator
//! makes: of noise, and of the kept ones by small changes. A failure prints the input, which is to
//! be kept; `LOGBOAT_FUZZ_INPUTS` sets the number of made inputs a target.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use logboat_fuzz::{TARGETS, Target};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::{env, fs};

/// Made inputs a target; those that ask the operating system for something get fewer.
const INPUTS: usize = 1500;
const SLOW_INPUTS: usize = 60;
const SLOW: [&str; 4] = ["handshakes", "dialers", "strangers", "snapshots"];

/// The longest input of noise.
const MOST_BYTES: u64 = 600;

#[test]
fn kept_inputs_and_their_like_find_nothing() {
    for target in TARGETS {
        run(target);
    }
}

#[test]
fn every_kept_input_has_a_target() {
    for directory in fs::read_dir(corpora()).unwrap() {
        let name = directory.unwrap().file_name();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{}", name.display());
    }
}

fn run((name, target): Target) {
    let kept = kept(name);
    for input in &kept {
        check(name, target, input);
    }
    let inputs = match env::var("LOGBOAT_FUZZ_INPUTS") {
        Ok(count) => count.parse().expect("a number of inputs"),
        Err(_) if SLOW.contains(&name) => SLOW_INPUTS,
        Err(_) => INPUTS,
    };
    let mut random = Random(name.bytes().fold(1, |seed, byte| seed * 31 + u64::from(byte)));
    for _ in 0..inputs {
        let input = random.input(&kept);
        check(name, target, &input);
    }
}

/// The target panics when it finds something, after which the input is printed.
fn check(name: &str, target: fn(&[u8]), input: &[u8]) {
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("{name} does not stand \"{}\"", input.escape_ascii());
        std::panic::resume_unwind(cause);
    }
}

fn corpora() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpora")
}

fn kept(name: &str) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(corpora().join(name)) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A generator of numbers (xorshift, Marsaglia 2003) and of inputs.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound) as usize
    }

    fn input(&mut self, kept: &[Vec<u8>]) -> Vec<u8> {
        if kept.is_empty() || self.below(4) == 0 {
            let length = self.below(MOST_BYTES);
            return (0..length).map(|_| self.below(256) as u8).collect();
        }
        let mut input = kept[self.below(kept.len() as u64)].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() as u64 + 1);
        let byte = self.below(256) as u8;
        match (self.below(4), input.get_mut(at)) {
            (0, Some(changed)) => *changed = byte,
            (1, Some(changed)) => *changed ^= 1 << (byte % 8),
            (2, Some(_)) => input.truncate(at),
            _ => input.insert(at, byte),
        }
    }
}
