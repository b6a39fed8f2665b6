//! Lets libFuzzer drive [`logboat_fuzz::replica`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::replica(data));
