//! What the load generator and the criterion benches share.

pub mod trio;
