//! What a certificate is for: a URI among its names.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::str::FromStr;

/// What the URI of every certificate begins with.
const SCHEME: &str = "logboat://";

/// What stands in a URI as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a certificate says that it is for, as the URI `logboat://CLUSTER/peer`, `…/peer/3`,
/// `…/client/NAME` or `…/admin`.
///
/// ```
/// use logboat_security::{Identity, Role};
///
/// let identity: Identity = "logboat://orders/peer/3".parse()?;
/// assert_eq!(identity, Identity::new("orders", Role::Peer(Some(3))));
/// assert_eq!(identity.to_string(), "logboat://orders/peer/3");
/// # Ok::<(), logboat_security::IdentityError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name of the cluster.
    pub cluster: String,
    /// What it may be in that cluster.
    pub role: Role,
}

/// What the holder of a certificate is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A node. With an id, no other node may show the certificate.
    Peer(Option<u64>),
    /// A client, by its name.
    Client(String),
    /// An operator.
    Admin,
}

/// A text that is no [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not logboat://CLUSTER/peer, …/peer/ID, …/client/NAME or …/admin")]
pub struct IdentityError(String);

impl Identity {
    /// The identity with this role in the cluster of this name.
    #[must_use]
    pub fn new(cluster: impl Into<String>, role: Role) -> Self {
        Self { cluster: cluster.into(), role }
    }

    /// The one identity among the URIs of a certificate.
    ///
    /// # Errors
    /// Says what is wrong when there is none, or more than one.
    pub(crate) fn among<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut own = uris.filter(|uri| uri.starts_with(SCHEME));
        let Some(uri) = own.next() else {
            return Err("it has no URI that begins with logboat://".to_owned());
        };
        if own.next().is_some() {
            return Err("it has several URIs that begin with logboat://".to_owned());
        }
        uri.parse().map_err(|error: IdentityError| error.to_string())
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError(uri.to_owned());
        let path = uri.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let parts: Vec<_> = path.split('/').collect();
        let role = match parts[1..] {
            ["peer"] => Role::Peer(None),
            ["peer", id] => Role::Peer(Some(node_id(id).ok_or_else(wrong)?)),
            ["client", name] => Role::Client(decode(name).ok_or_else(wrong)?),
            ["admin"] => Role::Admin,
            _ => return Err(wrong()),
        };
        Ok(Self { cluster: decode(parts[0]).ok_or_else(wrong)?, role })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/", utf8_percent_encode(&self.cluster, ESCAPED))?;
        match &self.role {
            Role::Peer(None) => f.write_str("peer"),
            Role::Peer(Some(id)) => write!(f, "peer/{id}"),
            Role::Client(name) => write!(f, "client/{}", utf8_percent_encode(name, ESCAPED)),
            Role::Admin => f.write_str("admin"),
        }
    }
}

/// A node's id in its only spelling.
fn node_id(text: &str) -> Option<u64> {
    text.parse().ok().filter(|id: &u64| *id > 0 && id.to_string() == text)
}

fn decode(text: &str) -> Option<String> {
    let text = percent_decode_str(text).decode_utf8().ok()?;
    (!text.is_empty()).then(|| text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_read_back() {
        for role in [
            Role::Peer(None),
            Role::Peer(Some(u64::MAX)),
            Role::Client("billing".to_owned()),
            Role::Client("a/b c%2Fä".to_owned()),
            Role::Admin,
        ] {
            let identity = Identity::new("my cluster/1", role);
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
    }

    #[test]
    fn what_says_nothing_clear_is_no_identity() {
        for uri in [
            "",
            "logboat://",
            "logboat://c",
            "logboat:///peer",
            "logboat://c/peer/",
            "logboat://c/peer/0",
            "logboat://c/peer/03",
            "logboat://c/peer/+3",
            "logboat://c/peer/3/4",
            "logboat://c/peers",
            "logboat://c/client",
            "logboat://c/client/",
            "logboat://c/admin/x",
            "LOGBOAT://c/peer",
            "https://c/peer",
        ] {
            assert!(uri.parse::<Identity>().is_err(), "{uri}");
        }
    }

    #[test]
    fn a_certificate_has_one_identity() {
        let other = "https://example.org/";
        let peer = "logboat://c/peer";
        assert!(Identity::among([other, peer].into_iter()).is_ok());
        assert!(Identity::among([other].into_iter()).is_err());
        assert!(Identity::among([peer, "logboat://c/admin"].into_iter()).is_err());
    }
}
