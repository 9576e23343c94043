//! Fields in a payload: big-endian numbers, and texts and bytes behind their length.

use byteorder::{BigEndian, ByteOrder};

use crate::{TreePath, WireError, limits};

/// A value that can be read from a payload.
pub trait Decode: Sized {
    /// Reads the value and moves on behind it.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError>;
}

/// Reads fields from the payload of one frame, first to last.
#[derive(Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads from the start of `payload`.
    #[must_use]
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] where fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(WireError::Short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.take(2).map(BigEndian::read_u16)
    }

    /// Four bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.take(4).map(BigEndian::read_u32)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn u64(&mut self) -> Result<u64, WireError> {
        self.take(8).map(BigEndian::read_u64)
    }

    /// Eight bytes, two's complement.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn i64(&mut self) -> Result<i64, WireError> {
        self.take(8).map(BigEndian::read_i64)
    }

    /// One byte, 0 or 1.
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

    /// A flag, and behind it the value where the flag is 1.
    ///
    /// # Errors
    /// Those of flag and value.
    pub fn option<T: Decode>(&mut self) -> Result<Option<T>, WireError> {
        if self.bool()? { T::decode(self).map(Some) } else { Ok(None) }
    }

    /// Two bytes of length, at most `cap`, and as many bytes.
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

    /// As [`Self::short_bytes`], and UTF-8.
    ///
    /// # Errors
    /// [`WireError::OverCap`], [`WireError::Short`] or [`WireError::NotUtf8`].
    pub fn short_text(&mut self, what: &'static str, cap: usize) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.short_bytes(what, cap)?).map_err(|_| WireError::NotUtf8(what))
    }

    /// A checked path.
    ///
    /// # Errors
    /// Those of a short text, or [`WireError::Name`].
    pub fn path(&mut self) -> Result<TreePath, WireError> {
        Ok(TreePath::new(self.short_text("path", limits::PATH)?)?)
    }

    /// A count of at most `cap` in two bytes, and as many values.
    ///
    /// # Errors
    /// [`WireError::OverCap`] or those of a value.
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

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Whether all fields are read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`WireError::Trailing`].
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(self.rest.len())) }
    }
}

/// Appends fields to a payload.
///
/// Texts and lists longer than their length field are cut to what it can
/// hold; callers keep to the caps of [`limits`], which are lower.
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

    /// Appends a text that is cut to [`limits::TEXT`] bytes: one for people.
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
