//! Writes tar archives: ustar headers, with pax records for what these cannot express.

use std::io::{self, Write};

use relais_proto::FileTime;
use tar::{EntryType, Header};

use crate::entry::{ArchiveEntry, ArchiveWriter, ContentLeft, EntryKind};

/// Headers, contents and the end are padded to blocks of this size.
const BLOCK: usize = 512;
/// Largest size that a ustar header expresses: eleven octal digits.
const USTAR_SIZE: u64 = (1 << 33) - 1;
/// Longest name in a ustar header. Longer paths get a pax record.
const USTAR_NAME: usize = 100;

/// Writes a tar archive in the format pax (POSIX.1-2017, `pax`, section "pax Interchange Format").
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    left: ContentLeft,
    /// Bytes that fill the last block of the present file.
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, left: ContentLeft::default(), padding: 0 }
    }

    fn end_entry(&mut self) -> io::Result<()> {
        self.left.check_end()?;
        self.out.write_all(&[0; BLOCK][..std::mem::take(&mut self.padding)])
    }

    /// Writes an extended header, which holds for the entry that follows.
    fn write_records(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = header(EntryType::XHeader, b"pax", records.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(records)?;
        self.out.write_all(&[0; BLOCK][..padding(records.len() as u64)])
    }
}

impl<W: Write> ArchiveWriter for TarWriter<W> {
    fn begin_entry(&mut self, entry: &ArchiveEntry<'_>) -> io::Result<()> {
        self.end_entry()?;
        let (kind, size, slash) = match entry.kind {
            EntryKind::Folder => (EntryType::Directory, 0, "/"),
            EntryKind::File(size) => (EntryType::Regular, size, ""),
        };
        let path = format!("{}{slash}", entry.path);
        let records = records(&path, size, entry.modified);
        if !records.is_empty() {
            self.write_records(&records)?;
        }
        // Of a longer path the beginning is there for readers that do not know pax.
        let name = &path.as_bytes()[..path.floor_char_boundary(USTAR_NAME)];
        let mut header = header(kind, name, size.min(USTAR_SIZE));
        header.set_mode(entry.mode & 0o777);
        header.set_mtime(seconds(entry.modified).unwrap_or_default());
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.left = ContentLeft::of(entry.kind);
        self.padding = padding(size);
        Ok(())
    }

    fn write_content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.left.take(bytes.len())?;
        self.out.write_all(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end_entry()?;
        self.out.write_all(&[0; 2 * BLOCK])
    }
}

/// Makes a header without the times, permissions and sum. Owner and group are 0, as their names.
fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name[..name.len()].copy_from_slice(name);
    }
    header
}

/// Returns the pax records of an entry; empty if the header expresses everything.
fn records(path: &str, size: u64, modified: FileTime) -> Vec<u8> {
    let mut records = Vec::new();
    // ustar leaves the encoding of names open, pax says UTF-8.
    if path.len() > USTAR_NAME || !path.is_ascii() {
        add_record(&mut records, "path", path);
    }
    if size > USTAR_SIZE {
        add_record(&mut records, "size", &size.to_string());
    }
    if seconds(modified).is_none() {
        add_record(&mut records, "mtime", &modified.seconds.to_string());
    }
    records
}

/// Returns the time as a header expresses it: not before 1970, and eleven octal digits.
fn seconds(time: FileTime) -> Option<u64> {
    u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= USTAR_SIZE)
}

/// Adds `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn add_record(records: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    records.extend_from_slice(format!("{len} {key}={value}\n").as_bytes());
}

fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    (BLOCK - over) % BLOCK
}

#[cfg(test)]
mod tests;
