//! Makes certificates: an authority for a cluster, and what it signs.

use crate::identity::{Identity, Role};
use crate::material::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

/// How long before it is made a certificate holds, since clocks differ.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// Why a certificate can't be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A name, or a key, of no use.
    #[error(transparent)]
    Certificate(#[from] rcgen::Error),
    /// The authority's certificate names no cluster.
    #[error("the authority's certificate names no cluster: say which one")]
    NoCluster,
    /// A file can't be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// A time that no calendar has.
    #[error("no certificate can hold for so long")]
    Time,
}

/// Signs the certificates of a cluster.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    cluster: String,
}

/// A certificate and its key, in PEM.
pub struct Issued {
    /// The certificate.
    pub cert_pem: String,
    /// The key, which is nobody else's business.
    pub key_pem: String,
}

impl Issued {
    /// Writes the certificate as `NAME.crt`, and the key as `NAME.key` with mode 0600. Each takes
    /// its place in one step, and replaces what is there.
    ///
    /// # Errors
    /// Those of the file system, with the path.
    pub fn write(&self, dir: &Path, name: &str) -> io::Result<()> {
        place(&dir.join(format!("{name}.key")), &self.key_pem, 0o600)?;
        place(&dir.join(format!("{name}.crt")), &self.cert_pem, 0o644)
    }
}

/// Writes a file beside its place and moves it there, so that nobody reads half of it.
fn place(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let new = path.with_added_extension("new");
    let written = write_new(&new, content, mode).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    // A file that was left over could be readable by others.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

impl CertificateAuthority {
    /// Makes a new authority for the cluster of this name, which holds for `valid`.
    ///
    /// # Errors
    /// When the name or the time is of no use.
    pub fn new(cluster: &str, valid: Duration) -> Result<(Self, Issued), AuthorityError> {
        let mut params = params(&format!("{cluster} CA"), cluster, valid)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert_pem = params.self_signed(&key)?.pem();
        let issued = Issued { cert_pem, key_pem: key.serialize_pem() };
        let authority = Self::read(&issued.cert_pem, &issued.key_pem, Some(cluster))?;
        Ok((authority, issued))
    }

    /// An authority of which there are files. `cluster` counts if its certificate names none.
    ///
    /// # Errors
    /// When the texts are no certificate and its key, or no cluster is named.
    pub fn read(
        cert_pem: &str,
        key_pem: &str,
        cluster: Option<&str>,
    ) -> Result<Self, AuthorityError> {
        let issuer = Issuer::from_ca_cert_pem(cert_pem, KeyPair::from_pem(key_pem)?)?;
        let named = cluster_of(cert_pem);
        let cluster = cluster.map(str::to_owned).or(named).ok_or(AuthorityError::NoCluster)?;
        Ok(Self { issuer, cert_pem: cert_pem.to_owned(), cluster })
    }

    /// The name of its cluster.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Makes a certificate for `role`. That of a node is for these hosts: names and addresses that
    /// clients and admins reach it by. It holds for `valid`.
    ///
    /// # Errors
    /// When a host or the time is of no use.
    pub fn issue(
        &self,
        role: Role,
        hosts: &[String],
        valid: Duration,
    ) -> Result<Issued, AuthorityError> {
        let now = OffsetDateTime::now_utc();
        self.issue_between(role, hosts, now - BACKDATED, now + valid)
    }

    /// Makes a certificate for `role` and writes what its holder needs: `NAME.crt`, `NAME.key` and
    /// `ca.crt`.
    ///
    /// # Errors
    /// When a host or the time is of no use, and those of the file system.
    pub fn issue_files(
        &self,
        dir: &Path,
        name: &str,
        role: Role,
        hosts: &[String],
        valid: Duration,
    ) -> Result<TlsFiles, AuthorityError> {
        let issued = self.issue(role, hosts, valid)?;
        fs::create_dir_all(dir)?;
        let ca = dir.join("ca.crt");
        place(&ca, &self.cert_pem, 0o644)?;
        issued.write(dir, name)?;
        let [cert, key] = ["crt", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
        Ok(TlsFiles { cert, key, ca })
    }

    /// As [`issue`](Self::issue), for any time: also one that has passed, or is to come.
    ///
    /// # Errors
    /// When a host is of no use.
    pub fn issue_between(
        &self,
        role: Role,
        hosts: &[String],
        begin: OffsetDateTime,
        end: OffsetDateTime,
    ) -> Result<Issued, AuthorityError> {
        let (name, usages) = match &role {
            Role::Peer(id) => {
                let id = id.map_or_else(String::new, |id| format!(" {id}"));
                let both =
                    vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
                (format!("{} node{id}", self.cluster), both)
            }
            Role::Client(name) => (name.clone(), vec![ExtendedKeyUsagePurpose::ClientAuth]),
            Role::Admin => ("admin".to_owned(), vec![ExtendedKeyUsagePurpose::ClientAuth]),
        };
        let mut params = CertificateParams::new(hosts)?;
        let uri = Identity::new(&self.cluster, role).to_string();
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.distinguished_name = subject(&name, &self.cluster);
        (params.not_before, params.not_after) = (begin, end);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert_pem = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { cert_pem, key_pem: key.serialize_pem() })
    }
}

fn params(name: &str, cluster: &str, valid: Duration) -> Result<CertificateParams, AuthorityError> {
    let now = OffsetDateTime::now_utc();
    let valid = time::Duration::try_from(valid).map_err(|_| AuthorityError::Time)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name, cluster);
    params.not_before = now - BACKDATED;
    params.not_after = now.checked_add(valid).ok_or(AuthorityError::Time)?;
    Ok(params)
}

/// The name of a certificate. The cluster's stands in it as that of the organization.
fn subject(name: &str, cluster: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, cluster);
    subject.push(DnType::CommonName, name);
    subject
}

fn cluster_of(cert_pem: &str) -> Option<String> {
    let (_, pem) = parse_x509_pem(cert_pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let organization = certificate.subject().iter_organization().next()?;
    organization.as_str().ok().map(str::to_owned)
}
