//! Lets libFuzzer drive [`logboat_fuzz::wal_bytes`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::wal_bytes(data));
