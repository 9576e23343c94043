//! What a zip archive tells of one entry: before its content, behind it, and at the end.

use std::io;

use relais_proto::FileTime;

use super::fields::{Fields, dos_time, extended_time, zip64_sizes};
use crate::entry::{ArchiveEntry, EntryKind};

/// Bit 3: sizes and sum follow the content. Bit 11: the name is UTF-8 (section 4.4.4).
const STREAMED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
/// The method deflate (section 4.4.5), whose blocks may be stored.
const DEFLATED: u16 = 8;
/// The version that knows zip64 (section 4.4.3).
const VERSION_ZIP64: u16 = 45;
const VERSION: u16 = 20;
/// Files from this size on have 64-bit sizes. Their blocks add less than the rest to 4 GiB.
const ZIP64: u64 = 0xf000_0000;
/// Stands for a backslash in a name: its full width form, as rclone has it.
const BACKSLASH: &str = "\u{ff3c}";
/// Made on Unix (section 4.4.2), so that the mode counts.
const MADE_BY: u16 = (3 << 8) | VERSION_ZIP64;

/// An entry as the central directory has it.
#[derive(Debug)]
pub struct CentralEntry {
    /// The name; that of a folder ends with a slash.
    name: String,
    is_folder: bool,
    /// The number of bytes of the file.
    pub size: u64,
    /// The number of bytes in the archive.
    pub compressed: u64,
    /// CRC-32 of the file.
    pub sum: u32,
    modified: FileTime,
    mode: u32,
    /// Where its local header begins.
    at: u64,
}

impl CentralEntry {
    pub fn new(entry: &ArchiveEntry<'_>, at: u64) -> io::Result<Self> {
        const LONG: &str = "a path is too long for a zip archive";
        let (is_folder, size) = match entry.kind {
            EntryKind::Folder => (true, 0),
            EntryKind::File(size) => (false, size),
        };
        // On Windows a backslash would lead to other folders (section 4.4.17.1).
        let path = entry.path.replace('\\', BACKSLASH);
        let name = format!("{path}{}", if is_folder { "/" } else { "" });
        if u16::try_from(name.len()).is_err() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, LONG));
        }
        let (modified, mode) = (entry.modified, entry.mode & 0o777);
        Ok(Self { name, is_folder, size, compressed: 0, sum: 0, modified, mode, at })
    }

    /// Whether the entry has content, whose sum is not known before.
    pub fn is_streamed(&self) -> bool {
        self.size > 0
    }

    fn is_zip64(&self) -> bool {
        self.size >= ZIP64
    }

    /// The fields from the version to the date, which both headers have.
    fn common(&self, fields: &mut Fields, is_zip64: bool) {
        let flags = UTF8 | if self.is_streamed() { STREAMED } else { 0 };
        let (time, date) = dos_time(self.modified);
        fields.short(if is_zip64 { VERSION_ZIP64 } else { VERSION }).short(flags);
        fields.short(if self.is_streamed() { DEFLATED } else { 0 }).short(time).short(date);
    }

    /// Returns the header before the content (section 4.3.7).
    pub fn local_header(&self) -> Vec<u8> {
        let mut extra = extended_time(self.modified);
        if self.is_zip64() {
            extra.extend(zip64_sizes(&[0, 0]));
        }
        let sizes = if self.is_zip64() { u32::MAX } else { 0 };
        let mut fields = Fields::default();
        fields.long(0x0403_4b50);
        self.common(&mut fields, self.is_zip64());
        fields.long(0).long(sizes).long(sizes);
        fields.capped_short(self.name.len() as u64).capped_short(extra.len() as u64);
        fields.bytes_of(self.name.as_bytes()).bytes_of(&extra);
        fields.into_bytes()
    }

    /// Returns the data descriptor behind the content (section 4.3.9).
    pub fn descriptor(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.long(0x0807_4b50).long(self.sum);
        if self.is_zip64() {
            fields.long_long(self.compressed).long_long(self.size);
        } else {
            fields.capped_long(self.compressed).capped_long(self.size);
        }
        fields.into_bytes()
    }

    /// Returns the header in the central directory (section 4.3.12).
    pub fn central_header(&self) -> Vec<u8> {
        let numbers = [self.size, self.compressed, self.at];
        // Only numbers that do not fit into their field are in the extra field.
        let large: Vec<u64> =
            numbers.into_iter().filter(|number| *number >= u64::from(u32::MAX)).collect();
        let mut extra = extended_time(self.modified);
        extra.extend(zip64_sizes(&large));
        let is_zip64 = self.is_zip64() || !large.is_empty();
        let kind = if self.is_folder { 0o040_000 } else { 0o100_000 };
        let dos_attributes = if self.is_folder { 0x10 } else { 0 };
        let mut fields = Fields::default();
        fields.long(0x0201_4b50).short(MADE_BY);
        self.common(&mut fields, is_zip64);
        fields.long(self.sum).capped_long(self.compressed).capped_long(self.size);
        fields.capped_short(self.name.len() as u64).capped_short(extra.len() as u64);
        // No comment, the first disk, no internal attributes.
        fields.short(0).short(0).short(0);
        fields.long(((kind | self.mode) << 16) | dos_attributes).capped_long(self.at);
        fields.bytes_of(self.name.as_bytes()).bytes_of(&extra);
        fields.into_bytes()
    }
}

/// Returns what follows the central directory (sections 4.3.14 to 4.3.16).
///
/// `at` is where the directory of `len` bytes begins.
pub fn end_records(count: u64, at: u64, len: u64) -> Vec<u8> {
    let mut fields = Fields::default();
    let limit = u64::from(u32::MAX);
    if count >= u64::from(u16::MAX) || at >= limit || len >= limit {
        fields.long(0x0606_4b50).long_long(44).short(MADE_BY).short(VERSION_ZIP64);
        fields.long(0).long(0).long_long(count).long_long(count).long_long(len).long_long(at);
        fields.long(0x0706_4b50).long(0).long_long(at + len).long(1);
    }
    fields.long(0x0605_4b50).short(0).short(0).capped_short(count).capped_short(count);
    fields.capped_long(len).capped_long(at).short(0);
    fields.into_bytes()
}
