//! The lines of the log about who was refused, and who changed something. Their target is
//! `logboat_audit`. None holds a secret or a value.

use parking_lot::Mutex;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// So many lines of a kind are written within [`WINDOW`].
const MAX_LINES: u32 = 20;
/// How long lines are counted before more of them are written.
const WINDOW: Duration = Duration::from_secs(10);

/// The target of all lines.
const TARGET: &str = "logboat_audit";

static LOGINS: Limit = Limit::new();
static CERTIFICATES: Limit = Limit::new();
static PEERS: Limit = Limit::new();
static CHANGES: Limit = Limit::new();

/// A login that failed, as `who` (a name, a path) on the named port.
pub fn login_failed(port: &str, from: SocketAddr, who: &str, reason: &str) {
    if let Some(left_out) = LOGINS.admit(Instant::now()) {
        let (left_out, who) = (LeftOut(left_out), Shown(who));
        tracing::warn!(target: TARGET, port, %from, %who, "login failed: {reason}{left_out}");
    }
}

/// A certificate that did not open the named port.
pub fn certificate_refused(port: &str, from: SocketAddr, reason: &dyn fmt::Display) {
    if let Some(left_out) = CERTIFICATES.admit(Instant::now()) {
        let left_out = LeftOut(left_out);
        tracing::warn!(target: TARGET, port, %from, "certificate refused: {reason}{left_out}");
    }
}

/// A peer that was turned away.
pub fn peer_refused(from: SocketAddr, reason: &dyn fmt::Display) {
    if let Some(left_out) = PEERS.admit(Instant::now()) {
        let left_out = LeftOut(left_out);
        tracing::warn!(target: TARGET, port = "peers", %from, "peer refused: {reason}{left_out}");
    }
}

/// Something that an operator, or a client, changed or tried to.
pub fn change(port: &str, from: SocketAddr, who: &str, what: &str) {
    if let Some(left_out) = CHANGES.admit(Instant::now()) {
        let (left_out, who, what) = (LeftOut(left_out), Shown(who), Shown(what));
        tracing::info!(target: TARGET, port, %from, %who, "change: {what}{left_out}");
    }
}

/// Bounds how often a kind of line is written.
struct Limit(Mutex<Window>);

struct Window {
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Limit {
    const fn new() -> Self {
        Self(Mutex::new(Window { began: None, lines: 0, left_out: 0 }))
    }

    /// Whether a line may be written; if so, how many were left out before it.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock();
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.lines = 0;
        }
        if window.lines == MAX_LINES {
            window.left_out += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

struct LeftOut(u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} lines like this were left out)"),
        }
    }
}

/// What a stranger chose, on one line and not too long.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 128;
        self.0
            .chars()
            .take(MOST)
            .flat_map(char::escape_debug)
            .try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_short_and_what_was_left_out_is_told() {
        let limit = Limit::new();
        let begin = Instant::now();
        let admitted = (0..MAX_LINES + 7).filter_map(|_| limit.admit(begin)).count();
        assert_eq!(admitted, MAX_LINES as usize);
        assert_eq!(limit.admit(begin + WINDOW), Some(7));
        assert_eq!(limit.admit(begin + WINDOW), Some(0));
    }

    #[test]
    fn what_a_stranger_chose_begins_no_line() {
        let shown = Shown("a\nERROR\u{1b}[1m").to_string();
        assert!(!shown.contains('\n') && !shown.contains('\u{1b}'), "{shown}");
        assert!(Shown(&"x".repeat(1000)).to_string().len() < 200);
    }
}
