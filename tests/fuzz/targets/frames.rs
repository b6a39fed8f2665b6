//! Lets libFuzzer drive [`logboat_fuzz::frames`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::frames(data));
