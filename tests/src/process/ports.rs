//! Ports that nobody uses.
//!
//! They lie below the range that Linux gives to outgoing connections, so no connection made between
//! the choice and the use can take one. Each process of this crate begins somewhere else and never
//! gives out a port twice.

use super::ProcessError;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 12_000;
const PAST_LAST: u32 = 32_000;

/// How many ports this process has tried.
static TRIED: AtomicU32 = AtomicU32::new(0);

/// The first of `count` consecutive ports of 127.0.0.1 that are free.
///
/// # Errors
/// When there are none.
pub fn free_ports(count: u16) -> Result<u16, ProcessError> {
    let ports = PAST_LAST - FIRST - u32::from(count);
    // Neighbouring process ids begin far from each other.
    let begin = std::process::id().wrapping_mul(2_654_435_761) % ports;
    for _ in 0..ports / u32::from(count.max(1)) {
        let tried = TRIED.fetch_add(count.into(), Ordering::Relaxed);
        let first = FIRST + (begin + tried) % ports;
        let first = u16::try_from(first).expect("the range of ports ends below 65536");
        if (first..first + count).all(is_free) {
            return Ok(first);
        }
    }
    Err(ProcessError::NoPorts(count))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_out_once_and_not_while_it_is_used() {
        let first = free_ports(3).unwrap();
        let _used = TcpListener::bind((Ipv4Addr::LOCALHOST, first + 3)).ok();
        let next = free_ports(3).unwrap();
        assert!(!(first..first + 4).contains(&next), "{first}, then {next}");
    }
}
