//! Lets libFuzzer drive [`logboat_fuzz::wal_batches`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| logboat_fuzz::wal_batches(data));
