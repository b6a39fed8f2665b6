//! The Redis protocol: requests are parsed by [`RequestParser`], replies are written by
//! [`Reply::encode`].
//!
//! Both sides are our own. A server must tell inline commands from arrays, and take requests in
//! pieces. It must answer malformed requests with Redis's own texts, and refuse what is too large
//! without buffering it. Its replies must be right to the byte, or the client can't read those
//! behind them.

mod inline;
mod reply;
mod request;

pub use inline::split_arguments;
pub use reply::{Protocol, Reply};
pub use request::{ProtocolError, Refusal, Request, RequestParser};
