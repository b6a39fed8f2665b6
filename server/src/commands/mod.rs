//! The commands: what a client can ask.
//!
//! A [`Pipeline`] is the entry. It takes the commands of a connection in their order. For each of
//! them it finds the command in the [`table`], checks the number of arguments and the keys, and
//! calls the function of the command. Each family of commands has a file.
//!
//! Most commands ask one range of the store. Their function parses the arguments and makes a plan:
//! the request, and how its answer becomes the reply. The pipeline carries out as many of them
//! together as do not depend on each other.
//!
//! The others change the connection, or ask several ranges. They run alone, by [`execute_alone`]:
//! their function does all of it through the [`Context`].

mod answer;
mod arguments;
mod client;
mod cluster;
mod config;
mod connection;
mod context;
mod debug;
mod dispatch;
mod error;
mod expiry;
mod generic;
mod info;
mod introspection;
mod latency;
mod lcs;
mod list;
mod number;
mod object;
mod pages;
mod pipeline;
mod plan;
mod range;
mod scan;
mod scripting;
mod server;
mod slow_log;
mod string;
pub mod table;
mod touched;
mod transaction;

pub use self::context::Context;
pub use self::dispatch::execute_alone;
pub use self::error::CommandError;
pub use self::list::next_part;
pub use self::pipeline::{Added, Pipeline};
