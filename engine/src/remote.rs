//! Traffic between nodes: requests to other nodes, requests that are forwarded, and the inbound
//! side of everything.

pub(crate) mod calls;
pub(crate) mod inbound;
pub(crate) mod relays;
