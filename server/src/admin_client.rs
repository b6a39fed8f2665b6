//! How the command line reaches a node's admin pages.

use crate::admin_session::AdminSession;
use crate::output::Failure;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Which node to ask, and what to show it.
#[derive(Clone, Debug, Args)]
pub(crate) struct AdminClient {
    /// A node's admin address. Its certificate must be for this host, if it speaks TLS.
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

impl AdminClient {
    /// The address that is asked.
    pub(crate) fn address(&self) -> &str {
        let address = self.admin.split_once("://").map_or(&*self.admin, |(_, rest)| rest);
        address.trim_end_matches('/')
    }

    /// Fetches a page.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let (agent, url) = self.agent(path)?;
        let mut request = agent.get(url);
        if let Some(token) = self.token()? {
            request = request.header("Authorization", token);
        }
        Ok(serde_json::from_str(&text_of(request.call()?)?)?)
    }

    /// Has something changed.
    pub(crate) fn post(&self, path: &str, order: &impl Serialize) -> Result<(), Failure> {
        let (agent, url) = self.agent(path)?;
        let mut request = agent.post(url).header("Content-Type", "application/json");
        if let Some(token) = self.token()? {
            request = request.header("Authorization", token);
        }
        text_of(request.send(serde_json::to_string(order)?)?).map(drop)
    }

    /// What it takes to ask many things, with all files read once.
    pub(crate) fn session(&self) -> Result<AdminSession, Failure> {
        let (agent, base) = self.agent("")?;
        Ok(AdminSession::new(agent, base, self.token()?))
    }

    fn agent(&self, path: &str) -> Result<(ureq::Agent, String), Failure> {
        let mut config =
            ureq::Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false);
        let mut scheme = "http";
        if let Some(tls) = self.tls()? {
            config = config.tls_config(tls);
            scheme = "https";
        }
        let url = format!("{scheme}://{}{path}", self.address());
        Ok((ureq::Agent::new_with_config(config.build()), url))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else { return Ok(None) };
        let tokens = read(path)?;
        Ok(Some(format!("Bearer {}", tokens.lines().next().unwrap_or_default())))
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

/// The text of an answer that is no refusal.
fn text_of(mut response: ureq::http::Response<ureq::Body>) -> Result<String, Failure> {
    let text = response.body_mut().read_to_string()?;
    match response.status().as_u16() {
        200 => Ok(text),
        status => Err(format!("status {status}: {}", text.trim_end()).into()),
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
