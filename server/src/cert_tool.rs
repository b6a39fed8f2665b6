//! `logboat cert`: makes the certificates of a cluster.

use crate::output::{Failure, print};
use clap::{Args, Subcommand};
use logboat_security::{CertificateAuthority, Role};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of a cluster that gets no other.
const CLUSTER: &str = "logboat";

/// The longest that a certificate may hold, in days.
const MOST_DAYS: i64 = 36_500;

/// What `logboat cert` makes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Make an authority for a cluster: ca.crt, which everybody may have, and ca.key, which belongs
    /// on no node.
    Ca {
        /// Where the files go.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The cluster: what its nodes are given as --cluster-name.
        #[arg(long, value_name = "NAME", default_value = CLUSTER)]
        cluster_name: String,
        /// How long the authority holds.
        #[arg(long, value_name = "DAYS", default_value_t = 3_650)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_DAYS))]
        days: u32,
    },
    /// Make the certificate of a node: node.crt and node.key, with ca.crt beside them.
    Node {
        #[command(flatten)]
        issue: IssueOptions,
        /// The node. Without it, the certificate is for any node of the cluster. With it, no other
        /// node may show it, nor this one once it has come back under another id.
        #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
        node_id: Option<u64>,
        /// A name or an address by which clients and admins reach the node. May be repeated.
        #[arg(long, value_name = "HOST", required = true)]
        host: Vec<String>,
    },
    /// Make the certificate of a client: client.crt and client.key, with ca.crt beside them.
    Client {
        #[command(flatten)]
        issue: IssueOptions,
        /// Who the client is.
        #[arg(long)]
        name: String,
    },
    /// Make a certificate for admins: admin.crt and admin.key, with ca.crt beside them.
    Admin {
        #[command(flatten)]
        issue: IssueOptions,
    },
}

/// What all certificates that an authority signs have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct IssueOptions {
    /// Where ca.crt and ca.key are.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Where the files go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The cluster, if the authority's certificate does not name it.
    #[arg(long, value_name = "NAME")]
    cluster_name: Option<String>,
    /// How long the certificate holds.
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_DAYS))]
    days: u32,
    /// Replace the certificate and the key that are there.
    #[arg(long)]
    replace: bool,
}

/// Makes what the command asks for.
pub(crate) fn run(command: CertCommand) -> Result<(), Failure> {
    match command {
        CertCommand::Ca { out, cluster_name, days } => {
            let (_, issued) = CertificateAuthority::new(&cluster_name, valid(days))?;
            keep(&out, "ca")?;
            fs::create_dir_all(&out).map_err(|error| failed(&out, &error))?;
            issued.write(&out, "ca")?;
            print(&format!("{}: the authority of cluster {cluster_name:?}\n", out.display()))
        }
        CertCommand::Node { issue, node_id, host } => {
            make(&issue, "node", Role::Peer(node_id), &host)
        }
        CertCommand::Client { issue, name } => make(&issue, "client", Role::Client(name), &[]),
        CertCommand::Admin { issue } => make(&issue, "admin", Role::Admin, &[]),
    }
}

fn make(options: &IssueOptions, name: &str, role: Role, hosts: &[String]) -> Result<(), Failure> {
    let IssueOptions { ca, out, cluster_name, days, replace } = options;
    let authority = read_authority(ca, cluster_name.as_deref())?;
    if !replace {
        keep(out, name)?;
    }
    authority.issue_files(out, name, role, hosts, valid(*days))?;
    let cluster = authority.cluster();
    print(&format!("{}: {name}.crt and {name}.key for cluster {cluster:?}\n", out.display()))
}

fn read_authority(dir: &Path, cluster: Option<&str>) -> Result<CertificateAuthority, Failure> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).map_err(|error| failed(&path, &error))
    };
    CertificateAuthority::read(&read("ca.crt")?, &read("ca.key")?, cluster)
        .map_err(|error| format!("{}: {error}", dir.display()).into())
}

/// Fails if one of these files is there.
fn keep(dir: &Path, name: &str) -> Result<(), Failure> {
    let files = ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    match files.iter().find(|path| path.exists()) {
        Some(present) => Err(format!("{} is there already", present.display()).into()),
        None => Ok(()),
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    format!("{}: {error}", path.display()).into()
}

fn valid(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;
    use logboat_security::{Own, Tls, TlsFiles};
    use std::os::unix::fs::PermissionsExt;

    fn node(ca: &Path, out: &Path, replace: bool) -> CertCommand {
        CertCommand::Node {
            issue: IssueOptions {
                ca: ca.to_owned(),
                out: out.to_owned(),
                cluster_name: None,
                days: 1,
                replace,
            },
            node_id: Some(3),
            host: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        }
    }

    #[test]
    fn three_commands_make_a_node_s_files_and_keep_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, out) = (dir.path().join("ca"), dir.path().join("node"));
        let authority =
            || CertCommand::Ca { out: ca.clone(), cluster_name: "orders".to_owned(), days: 2 };
        run(authority()).unwrap();
        run(node(&ca, &out, false)).unwrap();
        let files = TlsFiles {
            cert: out.join("node.crt"),
            key: out.join("node.key"),
            ca: out.join("ca.crt"),
        };
        Tls::open(files.clone(), "orders", Own::Peer(3)).unwrap();
        for (cluster, id) in [("others", 3), ("orders", 4)] {
            assert!(Tls::open(files.clone(), cluster, Own::Peer(id)).is_err(), "{cluster} {id}");
        }
        for key in [ca.join("ca.key"), files.key.clone()] {
            let mode = fs::metadata(key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let before = fs::read(&files.cert).unwrap();
        assert!(run(authority()).unwrap_err().to_string().contains("there already"));
        assert!(run(node(&ca, &out, false)).is_err());
        assert_eq!(fs::read(&files.cert).unwrap(), before);
        run(node(&ca, &out, true)).unwrap();
        assert_ne!(fs::read(&files.cert).unwrap(), before);
        Tls::open(files, "orders", Own::Peer(3)).unwrap();
    }
}
