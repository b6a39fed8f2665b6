//! Who may see the admin pages, and who may change something there.

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use logboat_security::{PortTls, Role, SecretFile, Stream, audit};
use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is said where nobody is let in, whatever they show.
const CLOSED: &str = "this is closed, since this port can be reached from elsewhere and speaks no \
    TLS: start the node with --tls-admin, and --admin-token-file or a certificate for admins, or \
    name the page in --admin-open\n";

/// What is said to those who have not shown who they are.
const UNKNOWN: &str = "this takes TLS, and a token or a certificate for admins\n";

/// What the admin port asks for.
#[derive(Clone, Debug, Default)]
pub struct AdminGuard {
    /// TLS, unless it is off. Then a certificate for admins opens everything.
    pub tls: Option<PortTls>,
    /// The token that opens everything.
    pub token: Option<SecretFile>,
    /// The pages that everybody may see who reaches the port.
    pub open: Vec<Page>,
    /// Whether the node guards no port at all, and nobody said which pages are open. Then all may
    /// see all pages, as they may all data, and change nothing.
    pub unguarded: bool,
    /// Whether only this machine reaches the port. Then all may see all pages.
    pub local: bool,
    /// Whether clients have to show who they are. Then nobody gets at keys here who shows nothing,
    /// be it from this machine.
    pub clients_are_known: bool,
    /// How often somebody was turned away.
    pub refusals: Arc<AtomicU64>,
}

/// A page that can be left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Page {
    /// `/healthz`
    Healthz,
    /// `/livez`
    Livez,
    /// `/metrics`
    Metrics,
    /// `/readyz`
    Readyz,
    /// `/status`
    Status,
}

impl Page {
    const ALL: [(&'static str, Self); 5] = [
        ("healthz", Self::Healthz),
        ("livez", Self::Livez),
        ("metrics", Self::Metrics),
        ("readyz", Self::Readyz),
        ("status", Self::Status),
    ];
}

impl FromStr for Page {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let page = Self::ALL.into_iter().find(|(known, _)| *known == name);
        page.map(|(_, page)| page).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            format!("{name:?} is none of {names}")
        })
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    address: SocketAddr,
    is_encrypted: bool,
    has_admin_certificate: bool,
}

impl Caller {
    pub(crate) fn of(stream: &Stream, address: SocketAddr) -> Self {
        let identity = stream.identity();
        Self {
            address,
            is_encrypted: stream.is_encrypted(),
            has_admin_certificate: identity.is_some_and(|it| it.role == Role::Admin),
        }
    }
}

/// What somebody has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Certificate,
    Token,
    WrongToken,
    /// A token that others may have read on the way, right or wrong.
    ExposedToken,
}

impl Shown {
    const fn who(self) -> &'static str {
        match self {
            Self::Certificate => "admin certificate",
            Self::Token => "token",
            Self::Nothing => "nobody known",
            Self::WrongToken | Self::ExposedToken => "refused token",
        }
    }
}

impl AdminGuard {
    /// The guard of a port on this address.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.local = address.is_loopback();
        self
    }

    /// What the pages lack, if nobody can see any of them, or everybody because nothing is guarded.
    #[must_use]
    pub fn warning(&self) -> Option<&'static str> {
        if !self.lacks_tls() || !self.open.is_empty() {
            return None;
        }
        Some(if self.unguarded {
            "the port for admins can be reached from elsewhere, and its pages are open to \
             everybody, as all ports of this node are: use --tls-admin, and --admin-token-file or \
             a certificate for admins, or say with --admin-open which pages are to be open"
        } else {
            "the port for admins can be reached from elsewhere and speaks no TLS, so its pages are \
             closed to everybody: it takes --tls-admin, and --admin-token-file or a certificate \
             for admins, or --admin-open for some pages"
        })
    }

    /// Whether nobody can show anything here that others might not have read.
    const fn lacks_tls(&self) -> bool {
        !self.local && self.tls.is_none()
    }

    fn refusal(&self) -> Response {
        if self.lacks_tls() {
            return (StatusCode::FORBIDDEN, CLOSED).into_response();
        }
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        (StatusCode::UNAUTHORIZED, challenge, UNKNOWN).into_response()
    }

    fn shown(&self, caller: &Caller, request: &Request) -> Shown {
        if caller.has_admin_certificate {
            return Shown::Certificate;
        }
        let header = request.headers().get(header::AUTHORIZATION);
        let Some(header) = header.map(axum::http::HeaderValue::as_bytes) else {
            return Shown::Nothing;
        };
        if !caller.is_encrypted && !self.local {
            return Shown::ExposedToken;
        }
        let token =
            header.split_at_checked(7).filter(|(kind, _)| kind.eq_ignore_ascii_case(b"bearer "));
        match (token, &self.token) {
            (Some((_, token)), Some(tokens)) if tokens.holds(token) => Shown::Token,
            _ => Shown::WrongToken,
        }
    }

    /// Whether who has shown this may ask for that.
    fn permits(&self, shown: Shown, request: &Request) -> bool {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match shown {
            Shown::Certificate | Shown::Token => true,
            Shown::WrongToken | Shown::ExposedToken => false,
            Shown::Nothing if reads => {
                self.local || self.unguarded || self.is_open(request.uri().path())
            }
            Shown::Nothing if is_about_keys(request.uri().path()) => {
                self.local && self.token.is_none() && !self.clients_are_known
            }
            Shown::Nothing => self.local && self.token.is_none(),
        }
    }

    fn is_open(&self, path: &str) -> bool {
        let name = path.strip_prefix('/').unwrap_or_default();
        Page::ALL.iter().any(|(known, page)| *known == name && self.open.contains(page))
    }
}

/// Whether a page gives keys and values away, or takes them in.
fn is_about_keys(path: &str) -> bool {
    path.starts_with("/exports/") || path.starts_with("/import/") || path.ends_with("/export")
}

/// Carries out a request that is permitted, and notes what was changed.
pub(crate) async fn authorize(
    State(guard): State<AdminGuard>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let shown = guard.shown(&caller, &request);
    // That a copy was begun is noted, and not each of its parts.
    let is_part = request.uri().path().starts_with("/exports/");
    let changes = !is_part && !matches!(*request.method(), Method::GET | Method::HEAD);
    let what = format!("{} {}", request.method(), request.uri().path());
    if !guard.permits(shown, &request) {
        guard.refusals.fetch_add(1, Ordering::Relaxed);
        let reason = match shown {
            Shown::ExposedToken => "the token came without TLS, so others may know it now",
            Shown::WrongToken => "wrong token",
            _ => "neither a token nor an admin certificate",
        };
        audit::login_failed("admin", caller.address, &what, reason);
        return guard.refusal();
    }
    let response = next.run(request).await;
    if changes {
        let outcome = format!("{what}: {}", response.status());
        audit::change("admin", caller.address, shown.who(), &outcome);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn request(method: &str, path: &str, token: Option<&str>) -> Request {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Body::empty()).unwrap()
    }

    fn caller(is_encrypted: bool, has_admin_certificate: bool) -> Caller {
        let address = ([10, 0, 0, 9], 4_000).into();
        Caller { address, is_encrypted, has_admin_certificate }
    }

    fn with_token(local: bool) -> AdminGuard {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a token of some length\n").unwrap();
        let token = Some(SecretFile::open(file.path(), 16).unwrap());
        AdminGuard { token, local, open: vec![Page::Metrics], ..AdminGuard::default() }
    }

    #[test]
    fn who_may_read_and_change() {
        const TOKEN: Option<&str> = Some("a token of some length");
        let bare = AdminGuard { local: true, ..AdminGuard::default() };
        let (local, remote) = (with_token(true), with_token(false));
        let known = AdminGuard { clients_are_known: true, ..bare.clone() };
        let unguarded = AdminGuard { unguarded: true, ..AdminGuard::default() };
        let (plain, encrypted, admin) =
            (caller(false, false), caller(true, false), caller(true, true));
        for (guard, caller, method, path, token, permitted) in [
            // This machine sees everything, and changes what it likes as long as there is no token.
            (&bare, &plain, "GET", "/status", None, true),
            (&bare, &plain, "POST", "/drain", None, true),
            (&local, &plain, "GET", "/status", None, true),
            (&local, &plain, "POST", "/drain", None, false),
            (&local, &plain, "POST", "/drain", TOKEN, true),
            (&local, &plain, "DELETE", "/status", Some("another token of some"), false),
            // Keys are another matter, if clients have to show who they are.
            (&bare, &plain, "POST", "/groups/7/export", None, true),
            (&known, &plain, "POST", "/drain", None, true),
            (&known, &plain, "POST", "/groups/7/export", None, false),
            (&known, &plain, "POST", "/exports/1/2/3", None, false),
            (&known, &plain, "POST", "/import/slots", None, false),
            (&known, &admin, "POST", "/import/slots", None, true),
            (&unguarded, &plain, "POST", "/groups/7/export", None, false),
            (&unguarded, &plain, "POST", "/exports/1/2/3", None, false),
            (&remote, &encrypted, "POST", "/exports/1/2/3", TOKEN, true),
            // A wrong token is a mistake that somebody should hear of.
            (&local, &plain, "GET", "/status", Some("wrong"), false),
            // Where nothing is guarded, others see everything, and change nothing.
            (&unguarded, &plain, "GET", "/status", None, true),
            (&unguarded, &plain, "POST", "/drain", None, false),
            // Else they see what was left open.
            (&remote, &plain, "GET", "/metrics", None, true),
            (&remote, &plain, "HEAD", "/metrics", None, true),
            (&remote, &plain, "GET", "/metrics/", None, false),
            (&remote, &plain, "GET", "/status", None, false),
            (&remote, &plain, "POST", "/metrics", None, false),
            (&remote, &encrypted, "GET", "/status", None, false),
            (&remote, &encrypted, "GET", "/status", TOKEN, true),
            (&remote, &encrypted, "POST", "/drain", TOKEN, true),
            (&remote, &admin, "POST", "/drain", None, true),
            // A token that others could read is of no use.
            (&remote, &plain, "GET", "/status", TOKEN, false),
            (&remote, &plain, "GET", "/metrics", TOKEN, false),
        ] {
            let request = request(method, path, token);
            let shown = guard.shown(caller, &request);
            let permits = guard.permits(shown, &request);
            assert_eq!(
                permits, permitted,
                "{method} {path} with {token:?} by {caller:?}: {shown:?}"
            );
        }
    }

    #[test]
    fn a_port_that_lets_nobody_in_says_what_it_lacks() {
        let bare = AdminGuard::default();
        assert!(bare.warning().is_some_and(|it| it.contains("--tls-admin")));
        let some_open = AdminGuard { open: vec![Page::Metrics], ..AdminGuard::default() };
        let unguarded = AdminGuard { unguarded: true, ..AdminGuard::default() };
        assert!(unguarded.warning().is_some_and(|it| it.contains("open to everybody")));
        let local = AdminGuard { local: true, ..AdminGuard::default() };
        assert_eq!((some_open.warning(), local.warning()), (None, None));
        for (guard, status, challenged) in
            [(bare, 403, false), (some_open, 403, false), (local, 401, true)]
        {
            let refusal = guard.refusal();
            assert_eq!(refusal.status().as_u16(), status);
            assert_eq!(refusal.headers().contains_key(header::WWW_AUTHENTICATE), challenged);
        }
    }
}
