//! Many requests of a command to a node's admin pages, which tell what failed from what may be
//! tried again.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;

/// The longest answer, in bytes.
const MOST_BYTES: u64 = 64 << 20;

/// A node's admin pages, and what it takes to be let in. Each request has a connection of its own.
#[derive(Debug)]
pub(crate) struct AdminSession {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

/// Why a request was not answered as it should be.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The node refuses, with this status and in these words.
    Refused { status: u16, text: String },
    /// There was no answer, or none that makes sense.
    Silent(String),
}

impl CallError {
    /// Whether the same may be answered later.
    pub(crate) const fn is_transient(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::Refused { status: 409 | 429 | 503, .. })
    }

    /// Whether the node asks for a token or a certificate, or has no such page.
    pub(crate) const fn is_about_the_node(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403 | 404 | 405, .. })
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status: 404 | 405, text } if text.trim_end().is_empty() => {
                f.write_str("the node's version knows nothing of backups")
            }
            Self::Refused { status: 400 | 503, text } => f.write_str(text.trim_end()),
            Self::Refused { status, text } => write!(f, "status {status}: {}", text.trim_end()),
            Self::Silent(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for CallError {}

/// An answer.
pub(crate) struct CallAnswer {
    /// Whether it is JSON.
    pub(crate) is_json: bool,
    pub(crate) body: Vec<u8>,
}

impl CallAnswer {
    pub(crate) fn parsed<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let garbled = |error| CallError::Silent(format!("the answer makes no sense: {error}"));
        serde_json::from_slice(&self.body).map_err(garbled)
    }
}

impl AdminSession {
    /// The pages below `base`.
    pub(crate) const fn new(agent: ureq::Agent, base: String, token: Option<String>) -> Self {
        Self { agent, base, token }
    }

    /// Fetches a page.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        self.answer(request.call())?.parsed()
    }

    /// Has something done for which a page in JSON is answered.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &impl Serialize,
    ) -> Result<T, CallError> {
        let order = serde_json::to_vec(order).map_err(|it| CallError::Silent(it.to_string()))?;
        self.post_bytes(path, "application/json", &order)?.parsed()
    }

    /// Has something done.
    pub(crate) fn post_bytes(
        &self,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<CallAnswer, CallError> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let mut request = request.header("Content-Type", kind);
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        self.answer(request.send(body))
    }

    fn answer(
        &self,
        answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<CallAnswer, CallError> {
        let silent = |error| CallError::Silent(format!("{}: {}", self.base, told(&error)));
        let mut response = answered.map_err(silent)?;
        let status = response.status().as_u16();
        let kind = response.headers().get("content-type");
        let is_json = kind.is_some_and(|kind| kind.as_bytes() == b"application/json");
        let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec();
        let body = body.map_err(silent)?;
        match status {
            200 => Ok(CallAnswer { is_json, body }),
            status => {
                let text = String::from_utf8_lossy(&body).into_owned();
                Err(CallError::Refused { status, text })
            }
        }
    }
}

/// What went wrong, in the words of the system where it has some.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nobody listens there".to_owned()
        }
        error => error.to_string(),
    }
}
