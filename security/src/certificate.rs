//! What a certificate says: for whom it is, and until when it holds.

use crate::identity::Identity;
use rustls::pki_types::CertificateDer;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is read off a certificate. It is only believed of one whose chain was verified, or of the
/// node's own.
pub(crate) struct Facts {
    /// What it is for, or why that can't be told.
    pub(crate) identity: Result<Identity, String>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Facts {
    /// # Errors
    /// When it is no certificate.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| format!("no certificate: {error}"))?;
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        let uris = names.filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let validity = certificate.validity();
        Ok(Self {
            identity: Identity::among(uris),
            not_before: time_of(validity.not_before.timestamp()),
            not_after: time_of(validity.not_after.timestamp()),
        })
    }

    /// Whether it holds now.
    ///
    /// # Errors
    /// Says since when it does not.
    pub(crate) fn check_time(&self, now: SystemTime) -> Result<(), String> {
        let seconds = |between: Result<Duration, _>| between.unwrap_or_default().as_secs();
        if now < self.not_before {
            let wait = seconds(self.not_before.duration_since(now));
            return Err(format!("it is not valid before {wait} s from now"));
        } else if now > self.not_after {
            let since = seconds(now.duration_since(self.not_after));
            return Err(format!("it expired {since} s ago"));
        }
        Ok(())
    }
}

fn time_of(unix_secs: i64) -> SystemTime {
    let distance = Duration::from_secs(unix_secs.unsigned_abs());
    if unix_secs < 0 {
        SystemTime::UNIX_EPOCH - distance
    } else {
        SystemTime::UNIX_EPOCH + distance
    }
}
