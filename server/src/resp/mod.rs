//! The Redis protocol: requests are parsed by [`RequestParser`], replies are written by
//! [`Reply::encode`].
//!
//! Both sides are our own. A server must tell inline commands from arrays, answer malformed
//! requests with Redis's own texts, take requests in pieces, and refuse what is too large without
//! buffering it. Its replies must be right to the byte, or every client of the connection is lost.

mod inline;
mod reply;
mod request;

pub use inline::split_arguments;
pub use reply::{Protocol, Reply};
pub use request::{ProtocolError, Refusal, Request, RequestParser};
