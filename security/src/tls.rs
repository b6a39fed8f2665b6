//! A node's TLS, which follows its files.

use crate::material::{Material, TlsError, TlsFiles};
use parking_lot::{Mutex, RwLock};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How often the files are looked at, and for how long they must have stood still when they are
/// read. A certificate and its key are written one after the other.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait before files that were of no use are read again though they have not changed. A
/// certificate may become valid.
const RETRY: Duration = Duration::from_secs(60);

/// How long before a certificate expires the log begins to warn, once a day.
const WARN_AHEAD: Duration = Duration::from_secs(7 * 86_400);

/// What the node's own certificate must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Nothing: it is shown to clients and admins only, who go by the host.
    Any,
    /// That it is of the node with this id, or of any node of the cluster.
    Peer(u64),
}

/// The certificate of a node, its key and those that it trusts. Clones are the same. Connections
/// that are made after a change of the files use what stands there then.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

/// TLS on a port.
#[derive(Clone, Debug)]
pub struct PortTls {
    /// What the port shows, and whom it trusts.
    pub tls: Tls,
    /// Whether the port takes nothing else. A port that does not require it tells TLS by the first
    /// byte, and a peer that speaks no TLS is dialled without.
    pub required: bool,
}

/// How long certificates still hold, in seconds; negative once they don't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The node's certificate.
    pub cert_secs: i64,
    /// The trusted certificate that holds longest.
    pub ca_secs: i64,
}

struct Inner {
    files: TlsFiles,
    cluster: String,
    own: Own,
    material: RwLock<Arc<Material>>,
    watch: Mutex<Watch>,
    failures: AtomicU64,
}

/// What is known of the files.
struct Watch {
    /// How they were when they were last read.
    read: Stamp,
    read_at: Instant,
    /// How they are since, if they have changed.
    changed: Option<(Stamp, Instant)>,
    /// Why the last reading was of no use.
    failure: Option<String>,
    warned_at: Option<Instant>,
}

/// By which a change of the files is noticed.
type Stamp = [Option<(SystemTime, u64, u64)>; 3];

impl Tls {
    /// Reads the files for a node of the cluster of this name.
    ///
    /// # Errors
    /// When a file is missing, damaged or expired, or the files don't belong together.
    pub fn open(files: TlsFiles, cluster: impl Into<String>, own: Own) -> Result<Self, TlsError> {
        let cluster = cluster.into();
        let read = stamp(&files);
        let material = Material::load(&files, &cluster, own)?;
        let watch =
            Watch { read, read_at: Instant::now(), changed: None, failure: None, warned_at: None };
        Ok(Self(Arc::new(Inner {
            files,
            cluster,
            own,
            material: RwLock::new(Arc::new(material)),
            watch: Mutex::new(watch),
            failures: AtomicU64::new(0),
        })))
    }

    /// Reads the files again. What stands there counts for connections that are made from now on.
    /// If it is of no use, the log says so, and what was read before goes on counting. It may touch
    /// the disk.
    ///
    /// # Errors
    /// When the files are of no use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.reload_locked(&mut self.0.watch.lock())
    }

    /// Reads the files again if they have changed. It may touch the disk.
    pub fn poll(&self) {
        let mut watch = self.0.watch.lock();
        let now = Instant::now();
        let found = stamp(&self.0.files);
        let stands_still = match watch.changed {
            Some((stamp, since)) if stamp == found => now.duration_since(since) >= LOOK,
            _ => {
                watch.changed = Some((found, now));
                false
            }
        };
        let retries = watch.failure.is_some() && now.duration_since(watch.read_at) >= RETRY;
        if (found != watch.read && stands_still) || retries {
            // The log has what is wrong.
            let _ = self.reload_locked(&mut watch);
        }
        self.warn_of_expiry(&mut watch, now);
    }

    /// Reads the files whenever they change. Never ends by itself.
    pub async fn follow(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let tls = self.clone();
            // A panic has been printed where it happened.
            let _ = tokio::task::spawn_blocking(move || tls.poll()).await;
        }
    }

    /// The name of the cluster that it is for.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.0.cluster
    }

    /// What the node's own certificate says at least.
    #[must_use]
    pub fn own(&self) -> Own {
        self.0.own
    }

    /// The only node that may show its certificate to peers. None if any node of the cluster may,
    /// or if it is none for peers.
    #[must_use]
    pub fn bound_to(&self) -> Option<u64> {
        self.material().bound_to
    }

    /// How long the certificates hold that are in use.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        let material = self.material();
        Expiry {
            cert_secs: secs_until(material.cert_not_after),
            ca_secs: secs_until(material.ca_not_after),
        }
    }

    /// How often files were read again that were of no use.
    #[must_use]
    pub fn reload_failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Why the files that stand there now are of no use, if so.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.0.watch.lock().failure.clone()
    }

    pub(crate) fn material(&self) -> Arc<Material> {
        Arc::clone(&self.0.material.read())
    }

    fn reload_locked(&self, watch: &mut Watch) -> Result<(), TlsError> {
        let Inner { files, cluster, own, .. } = &*self.0;
        watch.read = stamp(files);
        watch.read_at = Instant::now();
        match Material::load(files, cluster, *own) {
            Ok(material) => {
                *self.0.material.write() = Arc::new(material);
                watch.failure = None;
                watch.warned_at = None;
                tracing::info!("the files for TLS have been read again");
                Ok(())
            }
            Err(error) => {
                self.0.failures.fetch_add(1, Ordering::Relaxed);
                watch.failure = Some(error.to_string());
                tracing::error!(
                    "the files for TLS are of no use, the old ones still count: {error}"
                );
                Err(error)
            }
        }
    }

    fn warn_of_expiry(&self, watch: &mut Watch, now: Instant) {
        let a_day = Duration::from_secs(86_400);
        if watch.warned_at.is_some_and(|warned| now.duration_since(warned) < a_day) {
            return;
        }
        let secs = self.expiry().cert_secs;
        if secs > WARN_AHEAD.as_secs().cast_signed() {
            return;
        }
        watch.warned_at = Some(now);
        let path = self.0.files.cert.display();
        if secs < 0 {
            tracing::error!("the certificate in {path} has expired: nobody accepts it any more");
        } else {
            tracing::warn!("the certificate in {path} expires in {} h", secs / 3_600);
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { files, cluster, own, .. } = &*self.0;
        let mut tls = f.debug_struct("Tls");
        tls.field("files", files).field("cluster", cluster).field("own", own);
        tls.finish_non_exhaustive()
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    [&files.cert, &files.key, &files.ca].map(|path| of(path))
}

fn secs_until(end: SystemTime) -> i64 {
    let secs = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match end.duration_since(SystemTime::now()) {
        Ok(left) => secs(left),
        Err(past) => -secs(past.duration()).max(1),
    }
}
