//! Tests of `logboat serve` as real processes, with the `redis` crate as the client.

mod backup;
mod bad_input;
mod cluster_clients;
mod crashes;
mod expiry;
mod full_disk;
mod lost_majority;
mod membership;
mod mending;
mod on_disk;
mod protocol;
mod redis_itself;
mod rust_cluster;
mod security;
mod support;
mod tools;
