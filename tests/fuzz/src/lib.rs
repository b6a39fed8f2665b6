//! Fuzz targets: Logboat takes bytes that nobody should send or store. Each target is a function
//! that panics when something is wrong. libFuzzer drives the targets (see `README.md`). So does the
//! test `corpora`, with the inputs that found something and with some that it makes.

mod dialers;
mod frames;
mod handshakes;
mod kv;
mod messages;
mod ranges;
mod replica;
mod requests;
mod snapshots;
mod strangers;
mod wal;

pub use dialers::dialers;
pub use frames::frames;
pub use handshakes::handshakes;
pub use kv::store_codec;
pub use ranges::range_map;
pub use replica::replica;
pub use requests::{commands, parser};
pub use snapshots::snapshots;
pub use strangers::strangers;
pub use wal::{wal_batches, wal_bytes};

/// A target: its name, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("frames", frames),
    ("handshakes", handshakes),
    ("dialers", dialers),
    ("strangers", strangers),
    ("parser", parser),
    ("commands", commands),
    ("wal_bytes", wal_bytes),
    ("wal_batches", wal_batches),
    ("store_codec", store_codec),
    ("snapshots", snapshots),
    ("range_map", range_map),
    ("replica", replica),
];
