//! Lets libFuzzer drive [`logboat_fuzz::strangers`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::strangers(data));
