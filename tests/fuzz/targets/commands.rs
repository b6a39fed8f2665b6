//! Lets libFuzzer drive [`logboat_fuzz::commands`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::commands(data));
