//! The front of the server: however a client's bytes are cut into pieces, they are the same
//! requests, and get the same replies, together or one by one.

use bytes::{Bytes, BytesMut};
use logboat_server::backend::{Backend, StoreAnswers};
use logboat_server::commands::{Added, Context, Pipeline, execute_alone};
use logboat_server::kv::DataMemory;
use logboat_server::layout::Partition;
use logboat_server::limits::Limits;
use logboat_server::memory::MemoryBackend;
use logboat_server::resp::{ProtocolError, Reply, Request, RequestParser};
use logboat_server::server_state::{Facts, ServerState};
use logboat_server::session::{Session, Socket};
use logboat_server::settings::Settings;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
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

/// Carries out what a client sends, whole and together, and in pieces and one by one.
pub fn commands(data: &[u8]) {
    let Some((seed, data)) = data.split_first() else {
        return;
    };
    let partition = if seed & 1 == 0 { Partition::Hash } else { Partition::Range };
    let runtime = runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers needs nothing of the system");
    let whole = runtime.block_on(serve(partition, [data].into_iter(), true));
    let cut = runtime.block_on(serve(partition, pieces(*seed, data), false));
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

/// What a new server answers, refusals and errors included. It carries commands out together, or
/// one by one.
async fn serve<'a>(
    partition: Partition,
    pieces: impl Iterator<Item = &'a [u8]>,
    together: bool,
) -> Vec<String> {
    let (requests, error) = parse(pieces);
    let backend = MemoryBackend::even(partition, 4, LIMITS);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let (data, settings) = (DataMemory::default(), Settings::default());
    let facts = Box::new(Facts::default);
    let server = ServerState::new(address, usize::MAX, data, settings, facts);
    let socket = Socket { address, local_address: address, descriptor: 0 };
    let registration = server.clients.register(socket);
    let session = Session::new(registration.client.clone());
    let mut served = Served { backend, server, session, replies: Vec::new() };
    let mut pipeline = Pipeline::default();
    for request in requests {
        match request {
            Request::Refused(refusal) => pipeline.add_refused(refusal.to_string()),
            Request::Command(arguments) => served.take(&mut pipeline, arguments).await,
        }
        if !together {
            served.finish(&mut pipeline).await;
        }
        if served.session.closing {
            break;
        }
    }
    served.finish(&mut pipeline).await;
    if !served.session.closing {
        served.replies.extend(error.map(|error| error.to_string()));
    }
    served.replies
}

/// A server and one of its connections.
struct Served {
    backend: MemoryBackend,
    server: ServerState,
    session: Session,
    replies: Vec<String>,
}

impl Served {
    /// Adds a command to the pipeline, or carries it out behind that.
    async fn take(&mut self, pipeline: &mut Pipeline, arguments: Vec<Bytes>) {
        let mut added = pipeline.add(&mut self.context(), arguments);
        if let Added::Later(arguments) = added {
            self.finish(pipeline).await;
            added = pipeline.add(&mut self.context(), arguments);
        }
        match added {
            Added::Here => {}
            Added::Later(_) => panic!("nothing holds it up"),
            Added::Paused(arguments) => {
                self.server.pause.end();
                Box::pin(self.take(pipeline, arguments)).await;
            }
            Added::Alone(arguments) => {
                self.finish(pipeline).await;
                let reply = execute_alone(&mut self.context(), &arguments).await;
                if !VOLATILE.iter().any(|name| arguments[0].eq_ignore_ascii_case(name)) {
                    self.note(&reply);
                }
            }
        }
    }

    /// Carries out the pipeline.
    async fn finish(&mut self, pipeline: &mut Pipeline) {
        while !pipeline.is_empty() {
            while let Some(reply) = self.next_reply(pipeline) {
                self.note(&reply);
            }
            if let Some(requests) = pipeline.next_round(&self.server) {
                let answers = self.backend.request_all(requests).next().await;
                pipeline.answered(answers.expect("each request has an answer"));
            }
        }
        *pipeline = Pipeline::default();
    }

    fn next_reply(&self, pipeline: &mut Pipeline) -> Option<Reply> {
        let took = Duration::from_millis(1);
        let reply = pipeline.next_reply(&self.server, &self.session.client, took);
        pipeline.count(&self.server, took);
        reply
    }

    fn note(&mut self, reply: &Reply) {
        let mut encoded = BytesMut::new();
        reply.encode(self.session.protocol, &mut encoded);
        self.replies.push(encoded.escape_ascii().to_string());
    }

    const fn context(&mut self) -> Context<'_, MemoryBackend> {
        Context { backend: &self.backend, server: &self.server, session: &mut self.session }
    }
}
