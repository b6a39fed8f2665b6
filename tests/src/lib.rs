//! What tests Logboat as a whole.

pub mod sim;
