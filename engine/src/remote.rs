//! What passes between nodes besides the groups' messages: requests, and where all that arrives
//! goes.

pub(crate) mod calls;
pub(crate) mod inbound;
pub(crate) mod relays;
