//! Lets libFuzzer drive [`logboat_fuzz::range_map`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::range_map(data));
