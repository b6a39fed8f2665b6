//! The front of the server: however a client's bytes are cut into pieces, they are the same
//! requests, and get the same replies.

use bytes::{Bytes, BytesMut};
use logboat_server::commands::{Context, execute};
use logboat_server::kv::DataMemory;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use logboat_server::resp::{ProtocolError, Request, RequestParser};
use logboat_server::server_state::{Facts, ServerState};
use logboat_server::session::{Session, Socket};
use logboat_server::settings::Settings;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::runtime;

/// So small that they are met.
const LIMITS: Limits = Limits {
    max_key_bytes: 64,
    max_value_bytes: 1 << 10,
    max_request_bytes: 4 << 10,
    max_reply_bytes: 8 << 10,
};

/// Commands whose replies tell the time or what other tests do.
const VOLATILE: [&[u8]; 2] = [b"INFO", b"CLIENT"];

/// Cuts bytes into requests, whole and in pieces.
pub fn parser(data: &[u8]) {
    let Some((seed, data)) = data.split_first() else {
        return;
    };
    let whole = parse([data].into_iter());
    assert_eq!(parse(pieces(*seed, data)), whole);
    for request in &whole.0 {
        if let Request::Command(arguments) = request {
            assert!(!arguments.is_empty());
            let bytes: usize = arguments.iter().map(Bytes::len).sum();
            assert!(bytes <= data.len(), "nothing is there that was not sent");
        }
    }
}

/// Carries out what a client sends, whole and in pieces.
pub fn commands(data: &[u8]) {
    let Some((seed, data)) = data.split_first() else {
        return;
    };
    let partition = if seed & 1 == 0 { Partition::Hash } else { Partition::Range };
    let runtime = runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing of the system");
    let whole = runtime.block_on(serve(partition, [data].into_iter()));
    let cut = runtime.block_on(serve(partition, pieces(*seed, data)));
    assert_eq!(whole, cut);
}

/// The pieces that `seed` cuts the bytes into.
fn pieces(seed: u8, data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    let mut state = u64::from(seed);
    std::iter::from_fn(move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let most = 1 + (state >> 61) as usize * (1 + usize::from(seed) * usize::from(seed));
        let (piece, left) = rest.split_at(rest.len().min(most));
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Request>, Option<ProtocolError>) {
    let mut parser = RequestParser::new(LIMITS);
    let mut input = BytesMut::new();
    let mut requests = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.next(&mut input) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

/// What a new server answers, refusals and errors included.
async fn serve<'a>(partition: Partition, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (requests, error) = parse(pieces);
    let backend = MemoryBackend::even(partition, 4, LIMITS);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let (data, settings) = (DataMemory::default(), Settings::default());
    let facts = Box::new(Facts::default);
    let server = ServerState::new(address, usize::MAX, data, settings, facts);
    let socket = Socket { address, local_address: address, descriptor: 0 };
    let registration = server.clients.register(socket);
    let mut session = Session::new(registration.client.clone());
    let mut replies = Vec::new();
    for request in requests {
        let mut context = Context { backend: &backend, server: &server, session: &mut session };
        match request {
            Request::Refused(refusal) => {
                replies.push(refusal.to_string());
            }
            Request::Command(arguments) => {
                let reply = execute(&mut context, &arguments).await;
                let mut encoded = BytesMut::new();
                reply.encode(session.protocol, &mut encoded);
                if !VOLATILE.iter().any(|name| arguments[0].eq_ignore_ascii_case(name)) {
                    replies.push(encoded.escape_ascii().to_string());
                }
            }
        }
        if session.closing {
            return replies;
        }
    }
    replies.extend(error.map(|error| error.to_string()));
    replies
}
