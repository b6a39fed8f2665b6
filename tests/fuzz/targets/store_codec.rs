//! Lets libFuzzer drive [`logboat_fuzz::store_codec`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::store_codec(data));
