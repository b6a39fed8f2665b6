//! The commands: what a client can ask.
//!
//! [`execute`] is the entry. It finds the command in the [`table`], checks the number of arguments
//! and the keys, and calls the function of the command. Each family of commands has a file. A
//! command's function does three things in order: it parses its arguments, asks the store through
//! the [`Context`], and shapes the reply.
//!
//! What one connection sends is carried out strictly in turn. Overlapping two commands of one
//! connection would be faster for pipelines, but can be observed: two reads of one key could answer
//! new, then old.

mod answer;
mod arguments;
mod client;
mod config;
mod connection;
mod context;
mod dispatch;
mod error;
mod generic;
mod info;
mod introspection;
mod list;
mod number;
mod range;
mod scan;
mod scripting;
mod server;
mod string;
pub mod table;
mod transaction;

pub use self::context::Context;
pub use self::dispatch::execute;
pub use self::error::CommandError;
pub use self::list::next_part;
