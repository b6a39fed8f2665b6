//! `logboat status`: a node's `/status` page as a table.

use crate::admin::{PeerPage, StatusPage};
use crate::output::{Failure, print};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// Which node to ask, and what to show it.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusOptions {
    /// The node's admin address. Its certificate must be for this host, if it speaks TLS.
    #[arg(long, value_name = "HOST:PORT")]
    admin: String,
    /// The certificates of the authorities to trust, in PEM. With it, the node is spoken to in TLS.
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// A certificate for admins, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key", requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A file whose first line is the token for the admin pages.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Asks a node for its status and prints it.
pub(crate) fn run(options: &StatusOptions) -> Result<(), Failure> {
    let address = options.admin.split_once("://").map_or(&*options.admin, |(_, rest)| rest);
    let address = address.trim_end_matches('/');
    let page = options.fetch(address);
    print(&table(&page.map_err(|error| format!("no status from {address}: {error}"))?))
}

impl StatusOptions {
    fn fetch(&self, address: &str) -> Result<StatusPage, Failure> {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false);
        let mut scheme = "http";
        if let Some(tls) = self.tls()? {
            config = config.tls_config(tls);
            scheme = "https";
        }
        let agent = ureq::Agent::new_with_config(config.build());
        let mut request = agent.get(format!("{scheme}://{address}/status"));
        if let Some(path) = &self.token_file {
            let tokens = read(path)?;
            let token = tokens.lines().next().unwrap_or_default();
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call()?;
        let text = response.body_mut().read_to_string()?;
        match response.status().as_u16() {
            200 => Ok(serde_json::from_str(&text)?),
            status => Err(format!("status {status}: {}", text.trim_end()).into()),
        }
    }

    fn tls(&self) -> Result<Option<TlsConfig>, Failure> {
        let Some(ca) = &self.tls_ca else { return Ok(None) };
        let client = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                let text = read(key)?;
                let key = PrivateKey::from_pem(text.as_bytes())
                    .map_err(|error| format!("{}: {error}", key.display()))?;
                Some(ClientCert::new_with_certs(&certificates(cert)?, key))
            }
            _ => None,
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&certificates(ca)?))
            .client_cert(client)
            .unversioned_rustls_crypto_provider(Arc::new(logboat_security::crypto()));
        Ok(Some(tls.build()))
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let text = read(path)?;
    let items = parse_pem(text.as_bytes()).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(format!("{}: {error}", path.display()).into())),
    });
    items.collect()
}

fn table(page: &StatusPage) -> String {
    let state = match (&page.failure, page.ready) {
        (Some(failure), _) => format!("failed: {failure}"),
        (None, true) => "ready".to_owned(),
        (None, false) if !page.waiting_for.is_empty() => {
            let waiting: Vec<_> = page.waiting_for.iter().map(ToString::to_string).collect();
            format!("new: waits to be recorded by {}", waiting.join(", "))
        }
        (None, false) => "waiting for a majority of the nodes".to_owned(),
    };
    let wal = &page.wal;
    let stalled = wal.stall_reason.as_ref().map(|reason| format!("yes: {reason}"));
    let stalled = stalled.unwrap_or_else(|| "no".to_owned());
    let rows = [
        ("node", page.node_id.to_string()),
        ("cluster", page.cluster_id.clone()),
        ("state", state),
        ("groups", page.groups.to_string()),
        ("leaders", page.leaders.to_string()),
        ("without leader", page.groups_without_leader.to_string()),
        ("pending bytes", page.pending_bytes.to_string()),
        ("apply lag", page.apply_lag.to_string()),
        ("log segments", wal.segments.to_string()),
        ("log syncs", wal.syncs.to_string()),
        ("entries a sync", format!("{:.1}", wal.entries_per_sync)),
        ("log bytes written", wal.written_bytes.to_string()),
        ("log stalled", stalled),
    ];
    let rows = rows.into_iter().map(|(name, value)| format!("{name:<18} {value}\n"));
    rows.chain(page.peers.iter().map(peer_row)).chain(trouble(page)).collect()
}

/// What is wrong with replicas, and what peers have set otherwise.
fn trouble(page: &StatusPage) -> impl Iterator<Item = String> + '_ {
    let failed = page.failed.iter();
    let failed = failed.map(|it| (format!("failed group {}", it.group), it.reason.clone()));
    let stuck = page.stuck.iter().map(|it| {
        let since = format!("{} has not returned for {} ms", it.code, it.elapsed_ms);
        (format!("stuck group {}", it.group), since)
    });
    let voters = page.other_voters.iter().map(|it| {
        let other = format!("started with other replicas on node {}", it.node_id);
        (format!("group {}", it.group), other)
    });
    let settings = page.differing_settings.iter().map(|it| {
        let leases = if it.leases { "on" } else { "off" };
        let other = format!("election timeout {} ms, leases {leases}", it.election_timeout_ms);
        (format!("settings of {}", it.node_id), other)
    });
    let warnings = page.security_warnings.iter().map(|it| ("warning".to_owned(), it.clone()));
    let rows = warnings.chain(failed).chain(stuck).chain(voters).chain(settings);
    rows.map(|(name, value)| format!("{name:<18} {value}\n"))
}

fn peer_row(peer: &PeerPage) -> String {
    let state = match (&peer.last_error, peer.connected) {
        (_, true) => "connected".to_owned(),
        (Some(error), false) => format!("not connected: {error}"),
        (None, false) => "not connected".to_owned(),
    };
    let name = format!("peer {}", peer.node_id);
    format!("{name:<18} {} {state}, {} bytes queued\n", peer.address, peer.queued_bytes)
}
