//! A network namespace for each node, all of them joined by a bridge. The way from one node to
//! another can be closed, at the sender, without a process in between.
//!
//! Nothing of this machine's own network is touched, and nothing stays: interfaces live and die
//! with their namespaces, and those with this process and the nodes.

use crate::link::State;
use logboat_tests::process::NetworkNamespace;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Nodes on a bridge. Whatever else goes on, clients reach all of them.
#[derive(Debug)]
pub(crate) struct Bridge {
    nodes: Vec<Arc<NetworkNamespace>>,
    clients: NetworkNamespace,
    /// The bridge itself lives here.
    _middle: NetworkNamespace,
    /// The ways that are not open: from which node to which, counted from 0 on.
    closed: BTreeMap<(usize, usize), State>,
}

/// The last byte of the hardware address that nobody has.
const NOBODY: usize = 0xff;

impl Bridge {
    /// Joins `count` nodes.
    ///
    /// # Errors
    /// When this machine does not allow it.
    pub(crate) fn build(count: usize) -> io::Result<Self> {
        let new = NetworkNamespace::new;
        let nodes: Vec<_> = (0..count).map(|_| new().map(Arc::new)).collect::<Result<_, _>>()?;
        let (clients, middle) = (new()?, new()?);
        let mut cables = "link add bridge type bridge\nlink set bridge up\n".to_owned();
        let places = || nodes.iter().map(Arc::as_ref).chain([&clients]).enumerate();
        for (place, namespace) in places() {
            let (address, namespace) = (hardware(place), namespace.path());
            cables += &format!(
                "link add port{place} type veth peer name eth0 address {address} netns {}\n\
                 link set port{place} master bridge up\n",
                namespace.display()
            );
        }
        middle.ip(&cables)?;
        for (place, namespace) in places() {
            let mut commands = format!(
                "link set lo up\nlink set eth0 up\naddress add {}/24 dev eth0\n",
                address(place)
            );
            for other in (0..=count).filter(|&other| other != place) {
                commands += &neighbour(other, other);
            }
            namespace.ip(&commands)?;
        }
        Ok(Self { nodes, clients, _middle: middle, closed: BTreeMap::new() })
    }

    /// Moves the calling thread, and those that it starts from now on, to the place of the clients.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn enter_as_client(&self) -> io::Result<()> {
        self.clients.enter()
    }

    /// Where a node is to run, and its address there.
    pub(crate) fn place(&self, node: usize) -> (Arc<NetworkNamespace>, Ipv4Addr) {
        (Arc::clone(&self.nodes[node]), address(node))
    }

    /// Changes how the way from one node to another is.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn set(&mut self, from: usize, to: usize, state: State) -> io::Result<()> {
        let mut commands = String::new();
        let target = address(to);
        match self.closed.remove(&(from, to)) {
            None | Some(State::Open) => {}
            Some(State::Stalled) => commands += &neighbour(to, to),
            Some(State::Cut) => commands += &format!("route delete unreachable {target}\n"),
        }
        match state {
            State::Open => {}
            State::Stalled => commands += &neighbour(to, NOBODY),
            State::Cut => commands += &format!("route add unreachable {target}\n"),
        }
        if commands.is_empty() {
            return Ok(());
        }
        self.nodes[from].ip(&commands)?;
        if state != State::Open {
            self.closed.insert((from, to), state);
        }
        Ok(())
    }

    /// Opens all ways.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub(crate) fn open_all(&mut self) -> io::Result<()> {
        let closed: Vec<_> = self.closed.keys().copied().collect();
        closed.into_iter().try_for_each(|(from, to)| self.set(from, to, State::Open))
    }
}

/// The command that has packets for a place go to the hardware of one.
fn neighbour(place: usize, hardware_of: usize) -> String {
    let (address, hardware) = (address(place), hardware(hardware_of));
    format!("neighbour replace {address} lladdr {hardware} dev eth0 nud permanent\n")
}

fn address(place: usize) -> Ipv4Addr {
    let last = u8::try_from(place + 1).expect("there are few places on a bridge");
    Ipv4Addr::new(10, 0, 0, last)
}

/// An address of those that anyone may give out.
fn hardware(place: usize) -> String {
    format!("02:00:00:00:00:{place:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_tests::process::eventually;
    use std::io::ErrorKind;
    use std::net::UdpSocket;

    /// A byte that says nothing.
    const NOTHING: u8 = 0;

    /// A socket at each place, the clients' last, once all reach each other. A port of a bridge
    /// drops packets until it has noticed that its cable is plugged in.
    fn sockets(bridge: &Bridge) -> Vec<UdpSocket> {
        let nodes = bridge.nodes.iter().map(Arc::as_ref).enumerate();
        let sockets: Vec<_> = nodes
            .chain([(bridge.nodes.len(), &bridge.clients)])
            .map(|(place, namespace)| {
                let bind = || UdpSocket::bind((address(place), 1_000));
                let socket = namespace.within(bind).unwrap().unwrap();
                socket.set_nonblocking(true).unwrap();
                socket
            })
            .collect();
        for from in 0..sockets.len() {
            for to in (0..sockets.len()).filter(|&to| to != from) {
                let reached = eventually("a byte to arrive", || {
                    send(&sockets, from, to, NOTHING)?;
                    Ok(sockets[to].recv(&mut [0]).ok())
                });
                reached.unwrap();
            }
        }
        sockets
    }

    fn send(sockets: &[UdpSocket], from: usize, to: usize, byte: u8) -> io::Result<()> {
        sockets[from].send_to(&[byte], (address(to), 1_000)).map(drop)
    }

    /// The next byte with a meaning that arrives at a place. Bytes of one sender arrive in order,
    /// or not at all.
    fn next(sockets: &[UdpSocket], at: usize) -> u8 {
        let mut byte = [NOTHING];
        let arrived = eventually("a byte", || {
            let arrived = sockets[at].recv(&mut byte);
            Ok(arrived.ok().and_then(|_| (byte != [NOTHING]).then_some(byte[0])))
        });
        arrived.unwrap()
    }

    #[test]
    fn each_way_is_closed_for_itself() {
        let mut bridge = match Bridge::build(3) {
            Ok(bridge) => bridge,
            Err(error) => return println!("not tested: {error}"),
        };
        let sockets = sockets(&bridge);
        bridge.set(0, 1, State::Stalled).unwrap();
        send(&sockets, 0, 1, 1).unwrap();
        bridge.set(0, 1, State::Cut).unwrap();
        let told = send(&sockets, 0, 1, 2).unwrap_err();
        assert!(
            matches!(told.kind(), ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable),
            "{told}"
        );
        for (from, to) in [(1, 0), (0, 2), (2, 1), (3, 1)] {
            send(&sockets, from, to, 3).unwrap();
            assert_eq!(next(&sockets, to), 3, "{from} to {to}");
        }

        bridge.open_all().unwrap();
        send(&sockets, 0, 1, 4).unwrap();
        assert_eq!(next(&sockets, 1), 4, "what was stalled is lost");
        assert!(bridge.closed.is_empty());
    }
}
