//! Proxies in front of the peers' ports: a link from one node to another that can be cut.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How soon a connection notices that its link was cut.
const NOTICE: Duration = Duration::from_millis(20);

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Bytes pass.
    Open,
    /// Nothing passes, and nobody is told. What was sent arrives when the link opens again, however
    /// late.
    Stalled,
    /// Nothing passes, and the sender is told: a proxy closes connections, and a network calls the
    /// target unreachable.
    Cut,
}

/// The way of one node's connections to another. It works until the process ends.
#[derive(Debug)]
pub(crate) struct Link(Arc<Switch>);

#[derive(Debug)]
struct Switch {
    state: Mutex<State>,
    changed: Condvar,
}

impl Link {
    /// Passes connections to `port` of this machine on to `target`.
    pub(crate) fn open(port: u16, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let switch = Arc::new(Switch { state: Mutex::new(State::Open), changed: Condvar::new() });
        let link = Self(Arc::clone(&switch));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A node that is down is met by a closed connection, as without a proxy.
                let _ = connect(&switch, stream, target);
            }
        });
        Ok(link)
    }

    /// Changes how the link is.
    pub(crate) fn set(&self, state: State) {
        *self.0.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.0.changed.notify_all();
    }
}

impl Switch {
    /// Waits while nothing passes. Whether bytes may pass then.
    fn pass(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.changed.wait_while(state, |state| *state == State::Stalled);
        *state.unwrap_or_else(PoisonError::into_inner) == State::Open
    }
}

/// Starts to pass bytes both ways: messages one way, the answer of the handshake the other.
fn connect(switch: &Arc<Switch>, from: TcpStream, target: SocketAddr) -> io::Result<()> {
    if *switch.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Cut {
        return Ok(());
    }
    let to = TcpStream::connect(target)?;
    for stream in [&from, &to] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(NOTICE))?;
    }
    for (source, sink) in [(from.try_clone()?, to.try_clone()?), (to, from)] {
        let switch = Arc::clone(switch);
        thread::spawn(move || {
            // However it ends, both sides are to notice.
            let _ = pump(&switch, &source, &sink);
            let _ = source.shutdown(Shutdown::Both);
            let _ = sink.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn pump(switch: &Switch, mut source: &TcpStream, mut sink: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = source.read(&mut buffer);
        if !switch.pass() {
            return Ok(());
        }
        match read {
            Ok(0) => return Ok(()),
            Ok(count) => sink.write_all(&buffer[..count])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_tests::process::{PATIENCE, free_ports};

    #[test]
    fn bytes_pass_wait_or_end_as_the_link_is() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free_ports(1).unwrap();
        let link = Link::open(port, listener.local_addr().unwrap()).unwrap();
        let mut near = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let mut byte = [0];
        near.write_all(b"a").unwrap();
        far.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"a");

        link.set(State::Stalled);
        near.write_all(b"b").unwrap();
        far.set_nonblocking(true).unwrap();
        assert_eq!(far.read(&mut byte).unwrap_err().kind(), ErrorKind::WouldBlock);
        far.set_nonblocking(false).unwrap();
        link.set(State::Open);
        far.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"b");

        link.set(State::Cut);
        assert_eq!(near.read(&mut byte).unwrap(), 0);
        let mut refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        refused.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(refused.read(&mut byte).unwrap(), 0);
    }
}
