//! Encoding of fields: big-endian numbers, and texts and bytes after their length.

use byteorder::{BigEndian, ByteOrder};

use crate::{TreePath, WireError, limits};

/// A value that can be decoded from a payload.
pub trait Decode: Sized {
    /// Decodes the value and advances the decoder.
    ///
    /// # Errors
    /// The defect of the bytes.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError>;
}

/// Decodes the fields of one frame's payload in order.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Starts at the beginning of `payload`.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// Takes the next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] if fewer remain.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes the next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Reads two bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.take(2).map(BigEndian::read_u16)
    }

    /// Reads four bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.take(4).map(BigEndian::read_u32)
    }

    /// Reads eight bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.take(8).map(BigEndian::read_u64)
    }

    /// Reads eight bytes as two's complement.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.take(8).map(BigEndian::read_i64)
    }

    /// Reads one byte that is 0 or 1.
    ///
    /// # Errors
    /// [`WireError::Short`], or [`WireError::BadValue`] for another byte.
    pub fn bool(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::BadValue { what: "flag", value: other.into() }),
        }
    }

    /// Reads a flag, and the value if the flag is 1.
    ///
    /// # Errors
    /// Errors of the flag and of the value.
    pub fn option<T: Decode>(&mut self) -> Result<Option<T>, WireError> {
        if self.bool()? { T::decode(self).map(Some) } else { Ok(None) }
    }

    /// Reads a length of two bytes, at most `cap`, and as many bytes.
    ///
    /// # Errors
    /// [`WireError::OverCap`] or [`WireError::Short`].
    pub fn short_bytes(&mut self, what: &'static str, cap: usize) -> Result<&'a [u8], WireError> {
        let len = usize::from(self.u16()?);
        if len > cap {
            return Err(WireError::OverCap { what, len: len as u64, cap: cap as u64 });
        }
        self.take(len)
    }

    /// Reads bytes like [`Self::short_bytes`] that must be UTF-8.
    ///
    /// # Errors
    /// [`WireError::OverCap`], [`WireError::Short`] or [`WireError::NotUtf8`].
    pub fn short_text(&mut self, what: &'static str, cap: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.short_bytes(what, cap)?).map_err(|_| WireError::NotUtf8(what))
    }

    /// Reads and checks a path.
    ///
    /// # Errors
    /// Errors of a short text, or [`WireError::Name`].
    pub fn path(&mut self) -> Result<TreePath, WireError> {
        Ok(TreePath::new(self.short_text("path", limits::PATH)?)?)
    }

    /// Reads a count of at most `cap` in two bytes, and as many values.
    ///
    /// # Errors
    /// [`WireError::OverCap`], or the errors of a value.
    pub fn list<T: Decode>(&mut self, what: &'static str, cap: usize) -> Result<Vec<T>, WireError> {
        let count = usize::from(self.u16()?);
        if count > cap {
            return Err(WireError::OverCap { what, len: count as u64, cap: cap as u64 });
        }
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(T::decode(self)?);
        }
        Ok(values)
    }

    /// Takes all remaining bytes.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Returns whether all fields are read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that no bytes remain.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}

/// Appends fields to a payload.
///
/// Texts and lists that exceed their length field are truncated. Callers keep to the lower caps of
/// [`limits`].
#[derive(Debug)]
pub struct Encoder<'a> {
    to: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `to`.
    pub fn new(to: &'a mut Vec<u8>) -> Self {
        Self { to }
    }

    /// Appends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.to.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, n: u8) -> &mut Self {
        self.bytes(&[n])
    }

    /// Appends two bytes.
    pub fn u16(&mut self, n: u16) -> &mut Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Appends four bytes.
    pub fn u32(&mut self, n: u32) -> &mut Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, n: u64) -> &mut Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Appends eight bytes, two's complement.
    pub fn i64(&mut self, n: i64) -> &mut Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Appends 0 or 1.
    pub fn bool(&mut self, yes: bool) -> &mut Self {
        self.u8(u8::from(yes))
    }

    /// Appends a flag and, where there is a value, the value.
    pub fn option<T>(
        &mut self,
        value: Option<T>,
        encode: impl FnOnce(T, &mut Encoder<'_>),
    ) -> &mut Self {
        self.bool(value.is_some());
        if let Some(value) = value {
            encode(value, self);
        }
        self
    }

    /// Appends two bytes of length and the bytes.
    pub fn short_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(len).bytes(&bytes[..usize::from(len)])
    }

    /// Appends two bytes of length and the text.
    pub fn short_text(&mut self, text: &str) -> &mut Self {
        self.short_bytes(&text.as_bytes()[..text.floor_char_boundary(usize::from(u16::MAX))])
    }

    /// Appends a text for people, truncated to [`limits::TEXT`] bytes.
    pub fn message(&mut self, text: &str) -> &mut Self {
        self.short_text(&text[..text.floor_char_boundary(limits::TEXT)])
    }

    /// Appends a path.
    pub fn path(&mut self, path: &TreePath) -> &mut Self {
        self.short_text(path.as_str())
    }

    /// Appends a count in two bytes and the values.
    pub fn list<T>(
        &mut self,
        values: &[T],
        mut encode: impl FnMut(&T, &mut Encoder<'_>),
    ) -> &mut Self {
        let count = u16::try_from(values.len()).unwrap_or(u16::MAX);
        self.u16(count);
        for value in &values[..usize::from(count)] {
            encode(value, self);
        }
        self
    }
}
