//! How ids and keys stand in what nodes tell each other and store, which is JSON.

use bytes::Bytes;
use logboat::{Index, LogId, NodeId, Term};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A node's number.
pub(crate) mod node {
    use super::{Deserialize, Deserializer, NodeId, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(node: &NodeId, to: S) -> Result<S::Ok, S::Error> {
        node.0.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<NodeId, D::Error> {
        u64::deserialize(from).map(NodeId)
    }
}

/// A list of nodes' numbers.
pub(crate) mod nodes {
    use super::{Deserialize, Deserializer, NodeId, Serializer};

    pub(crate) fn serialize<S: Serializer>(nodes: &[NodeId], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(nodes.iter().map(|node| node.0))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<NodeId>, D::Error> {
        Ok(Vec::<u64>::deserialize(from)?.into_iter().map(NodeId).collect())
    }
}

/// A group's number.
pub(crate) mod group {
    use super::{Deserialize, Deserializer, Serialize, Serializer};
    use logboat::GroupId;

    pub(crate) fn serialize<S: Serializer>(group: &GroupId, to: S) -> Result<S::Ok, S::Error> {
        group.0.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GroupId, D::Error> {
        u64::deserialize(from).map(GroupId)
    }
}

/// An entry: its term and its index.
pub(crate) mod entry {
    use super::{Deserialize, Deserializer, Index, LogId, Serialize, Serializer, Term};

    pub(crate) fn serialize<S: Serializer>(entry: &LogId, to: S) -> Result<S::Ok, S::Error> {
        (entry.term.0, entry.index.0).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<LogId, D::Error> {
        let (term, index) = <(u64, u64)>::deserialize(from)?;
        Ok(LogId::new(Term(term), Index(index)))
    }
}

/// A key, in hexadecimal digits.
pub(crate) mod key {
    use super::{Bytes, Deserialize, Deserializer, Error, Serializer, from_hex, to_hex};

    pub(crate) fn serialize<S: Serializer>(key: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&to_hex(key))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        from_hex(&text).ok_or_else(|| D::Error::custom("a key that is not hexadecimal"))
    }
}

/// Keys, each in hexadecimal digits, or none at all.
pub(crate) mod keys {
    use super::{Bytes, Deserialize, Deserializer, Error, Serialize, Serializer, from_hex, to_hex};

    pub(crate) fn serialize<S: Serializer>(
        keys: &Option<Vec<Bytes>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = keys.as_ref().map(|keys| keys.iter().map(|key| to_hex(key)));
        texts.map(Iterator::collect::<Vec<_>>).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<Bytes>>, D::Error> {
        let Some(texts) = Option::<Vec<String>>::deserialize(from)? else { return Ok(None) };
        let keys = texts.iter().map(|text| from_hex(text)).collect::<Option<_>>();
        keys.map(Some).ok_or_else(|| D::Error::custom("a key that is not hexadecimal"))
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}
