//! The primitives of the binary encoding: varints, byte strings, and a reader that never trusts a
//! length.

use bytes::Bytes;
use logboat_varint::VarintError;

/// Why bytes did not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end in the middle of a field, or a length points beyond their end.
    #[error("truncated")]
    Truncated,
    /// A version, tag or flag that this program does not know.
    #[error("unknown version or tag {0}")]
    UnknownTag(u8),
    /// A varint that does not fit 64 bits.
    #[error("a number that does not fit 64 bits")]
    Overlong,
    /// Bytes are left over behind the last field.
    #[error("trailing bytes")]
    TrailingBytes,
}

impl From<VarintError> for WireError {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::Overflow => Self::Overlong,
        }
    }
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes) }
    }

    pub(crate) fn byte(&mut self, value: u8) {
        self.buffer.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    /// A number of variable length.
    pub(crate) fn varint(&mut self, value: u64) {
        logboat_varint::put(&mut self.buffer, value);
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// Fields that are encoded.
    pub(crate) fn raw(&mut self, fields: &[u8]) {
        self.buffer.extend_from_slice(fields);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.buffer.extend_from_slice(value);
    }

    pub(crate) fn optional(&mut self, value: Option<&Bytes>) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.bytes(value);
        }
    }

    pub(crate) fn optional_number(&mut self, value: Option<u64>) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.varint(value);
        }
    }

    pub(crate) fn list(&mut self, values: &[Bytes]) {
        self.varint(values.len() as u64);
        for value in values {
            self.bytes(value);
        }
    }

    pub(crate) fn pairs(&mut self, pairs: &[(Bytes, Bytes)]) {
        self.varint(pairs.len() as u64);
        pairs.iter().for_each(|(key, value)| self.pair(key, value));
    }

    pub(crate) fn pair(&mut self, first: &[u8], second: &[u8]) {
        self.bytes(first);
        self.bytes(second);
    }

    pub(crate) fn finish(self) -> Bytes {
        Bytes::from(self.buffer)
    }
}

/// Takes fields from the front of a slice.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The buffer that `rest` is a part of, if the fields may share it.
    shared: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// A reader whose fields are copies, so that what is kept of them never pins the buffer.
    pub(crate) const fn copying(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, shared: None }
    }

    /// A reader whose fields share the buffer.
    pub(crate) fn sharing(bytes: &'a Bytes) -> Self {
        Self { rest: bytes, shared: Some(bytes) }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        let (&first, rest) = self.rest.split_first().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(first)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, WireError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(WireError::UnknownTag(tag)),
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let (number, bytes) = logboat_varint::decode(self.rest)?;
        self.rest = &self.rest[bytes..];
        Ok(number)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, WireError> {
        let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(i64::from_le_bytes(*head))
    }

    /// A byte string.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        let (value, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(match self.shared {
            Some(buffer) => buffer.slice_ref(value),
            None => Bytes::copy_from_slice(value),
        })
    }

    pub(crate) fn optional(&mut self) -> Result<Option<Bytes>, WireError> {
        if self.flag()? { self.bytes().map(Some) } else { Ok(None) }
    }

    pub(crate) fn optional_number(&mut self) -> Result<Option<u64>, WireError> {
        if self.flag()? { self.varint().map(Some) } else { Ok(None) }
    }

    pub(crate) fn list(&mut self) -> Result<Vec<Bytes>, WireError> {
        self.repeated(1, Self::bytes)
    }

    pub(crate) fn pairs(&mut self) -> Result<Vec<(Bytes, Bytes)>, WireError> {
        self.repeated(2, |reader| Ok((reader.bytes()?, reader.bytes()?)))
    }

    /// A count and that many items. An item takes at least `least_bytes` of the input, so the
    /// allocation is bounded by the length of the input rather than by the count in it.
    pub(crate) fn repeated<T>(
        &mut self,
        least_bytes: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = usize::try_from(self.varint()?).map_err(|_| WireError::Truncated)?;
        if count > self.rest.len() / least_bytes {
            return Err(WireError::Truncated);
        }
        (0..count).map(|_| item(self)).collect()
    }

    /// What no field was taken from.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes) }
    }
}
