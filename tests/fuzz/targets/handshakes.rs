//! Lets libFuzzer drive [`logboat_fuzz::handshakes`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::handshakes(data));
