//! Lets libFuzzer drive [`logboat_fuzz::dialers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::dialers(data));
