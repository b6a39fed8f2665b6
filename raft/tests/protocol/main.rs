//! Tests of the protocol on whole clusters: [`scripts`] are transcripts of single behaviours,
//! [`properties`] random runs.

mod cluster;
mod properties;
mod scripts;
