//! Framing of a recording: each record has its length, and a checksum over it and all before it.
//!
//! A changed, missing or moved record is detected. A truncated end is detected because its last
//! record is shorter than its length. The length is stored twice, the second time inverted, so a
//! damaged length does not look like a truncated end.

use std::io::{self, Write};

use relais_proto::{Decoder, Encoder};

use super::error::RecordError;

/// First bytes of a recording. The last of them is the version of the layout.
pub(super) const MAGIC: [u8; 8] = *b"\xffrelrec\x01";
/// Highest length of a record: the start record contains the whole tree.
const LONGEST: u32 = 1 << 30;
/// Bytes of the length, which is stored twice.
const HEAD: usize = 8;
/// Stored bytes of the checksum.
const SUM: usize = 8;

/// Writer of records.
#[derive(Debug, Clone)]
pub(super) struct Frames {
    sum: [u8; 32],
    bytes: Vec<u8>,
}

impl Frames {
    /// Begins a recording.
    pub fn begin(to: &mut dyn Write) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        Ok(Self { sum: [0; 32], bytes: Vec::new() })
    }

    /// Writes a record. The writer must not be used after an error.
    pub fn add(
        &mut self,
        to: &mut dyn Write,
        fill: impl FnOnce(&mut Encoder<'_>),
    ) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.resize(HEAD, 0);
        fill(&mut Encoder::new(&mut self.bytes));
        let len = u32::try_from(self.bytes.len() - HEAD).ok().filter(|len| *len <= LONGEST);
        let len = len.ok_or_else(|| io::Error::other("a record would be too long"))?;
        self.bytes[..4].copy_from_slice(&len.to_be_bytes());
        self.bytes[4..HEAD].copy_from_slice(&(!len).to_be_bytes());
        self.sum = sum(&self.sum, &self.bytes);
        self.bytes.extend_from_slice(&self.sum[..SUM]);
        to.write_all(&self.bytes)
    }
}

fn sum(before: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(before).update(bytes).finalize().as_bytes()
}

/// Reader of records.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of the next record.
    pub at: usize,
    sum: [u8; 32],
    /// Whether the end is truncated.
    pub torn: bool,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of a recording.
    ///
    /// # Errors
    /// The bytes are not a recording.
    pub fn new(bytes: &'a [u8]) -> Result<Self, RecordError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(RecordError::Foreign);
        }
        Ok(Self { bytes, at: MAGIC.len(), sum: [0; 32], torn: false })
    }

    /// Returns the next record; `None` at the end.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let damaged = |why| RecordError::Damaged { offset: self.at, why };
        let mut from = Decoder::new(rest);
        let (Ok(len), Ok(turned)) = (from.u32(), from.u32()) else {
            self.torn = !rest.is_empty();
            return Ok(None);
        };
        if len != !turned || len > LONGEST {
            return Err(damaged("no record has this length"));
        }
        let len = usize::try_from(len).map_err(|_| damaged("no record has this length"))?;
        let (Ok(payload), Ok(found)) = (from.take(len), from.array::<SUM>()) else {
            self.torn = true;
            return Ok(None);
        };
        self.sum = sum(&self.sum, rest.get(..HEAD + len).unwrap_or_default());
        if self.sum[..SUM] != found {
            return Err(damaged("a record is altered or missing"));
        }
        self.at += HEAD + len + SUM;
        Ok(Some(payload))
    }
}
