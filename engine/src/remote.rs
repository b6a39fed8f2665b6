//! Traffic between nodes besides the messages of groups: requests to other nodes, and where all
//! that arrives goes.

pub(crate) mod calls;
pub(crate) mod inbound;
pub(crate) mod relays;
