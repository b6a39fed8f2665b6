//! The certificates of a cluster of processes, made for one run.

use super::{Cluster, ProcessError};
use logboat_security::{CertificateAuthority, Role, TlsFiles};
use redis::{Client, ClientTlsConfig, IntoConnectionInfo, TlsCertificates};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the cluster that the certificates are for.
pub const CLUSTER_NAME: &str = "locked";

/// How long they hold.
const DAY: Duration = Duration::from_secs(86_400);

/// Makes and holds certificates, in a directory of its own.
pub struct Certificates {
    authority: CertificateAuthority,
    dir: PathBuf,
}

impl Certificates {
    /// An authority with its files in `dir`.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self, ProcessError> {
        let (authority, _) = CertificateAuthority::new(CLUSTER_NAME, DAY)?;
        Ok(Self { authority, dir: dir.into() })
    }

    /// Makes a certificate, with its files in a directory of this name.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn issue(
        &self,
        name: &str,
        role: Role,
        hosts: &[String],
    ) -> Result<TlsFiles, ProcessError> {
        Ok(self.authority.issue_files(&self.dir.join(name), "tls", role, hosts, DAY)?)
    }

    /// Gives every node of a cluster a certificate of its own, and the options that name it.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn hand_out(&self, cluster: &mut Cluster) -> Result<(), ProcessError> {
        for node in &mut cluster.nodes {
            let spec = node.spec_mut();
            let hosts = [spec.host.to_string(), "localhost".to_owned()];
            let role = Role::Peer(Some(spec.id));
            let files = self.issue(&format!("certificate-{}", spec.id), role, &hosts)?;
            spec.options.extend(options(&files));
        }
        Ok(())
    }

    /// A client that speaks TLS with a node of the cluster, and shows this certificate.
    ///
    /// # Errors
    /// When files can't be read.
    pub fn client(
        &self,
        address: SocketAddr,
        shown: Option<&TlsFiles>,
    ) -> Result<Client, ProcessError> {
        let client_tls = shown.map(|files| -> Result<_, ProcessError> {
            let (client_cert, client_key) = (fs::read(&files.cert)?, fs::read(&files.key)?);
            Ok(ClientTlsConfig { client_cert, client_key })
        });
        let root_cert = Some(self.authority.cert_pem().as_bytes().to_vec());
        let certificates = TlsCertificates { client_tls: client_tls.transpose()?, root_cert };
        let info = format!("rediss://{address}/").into_connection_info()?;
        Ok(Client::build_with_tls(info, certificates)?)
    }
}

fn options(files: &TlsFiles) -> [String; 8] {
    let path = |path: &Path| path.display().to_string();
    [
        "--cluster-name".to_owned(),
        CLUSTER_NAME.to_owned(),
        "--tls-cert".to_owned(),
        path(&files.cert),
        "--tls-key".to_owned(),
        path(&files.key),
        "--tls-ca".to_owned(),
        path(&files.ca),
    ]
}
