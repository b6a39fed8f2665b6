//! Lets libFuzzer drive [`logboat_fuzz::parser`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::parser(data));
