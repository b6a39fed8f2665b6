//! Lets libFuzzer drive [`logboat_fuzz::snapshots`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::snapshots(data));
