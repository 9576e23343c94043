//! Writes zip archives: a stream of entries, then the central directory.

mod central;
mod fields;

use std::io::{self, Read, Seek, SeekFrom, Write};

use crc32fast::Hasher;

use crate::entry::{ArchiveEntry, ArchiveWriter, ContentLeft, EntryKind};
use central::{CentralEntry, end_records};
use fields::Fields;

/// Longest stored block (RFC 1951, section 3.2.4).
const BLOCK: usize = 65_535;
/// Most bytes of the central directory, so that no walk fills the disk with it.
const CENTRAL_MAX: u64 = 4 << 30;

/// Writes a zip archive without compression (APPNOTE.TXT, section 4.3).
///
/// Files consist of stored blocks in the format deflate. So a reader of the stream finds their end,
/// and their check sum follows in a data descriptor (section 4.3.9): each file is read once.
/// The central directory goes to `spool`, a file that is empty at first.
#[derive(Debug)]
pub struct ZipWriter<W, S: Write> {
    out: W,
    spool: io::BufWriter<S>,
    spool_len: u64,
    /// Bytes of the archive so far.
    at: u64,
    count: u64,
    file: Option<OpenFileEntry>,
}

/// The file that is being written.
#[derive(Debug)]
struct OpenFileEntry {
    entry: CentralEntry,
    sum: Hasher,
    left: ContentLeft,
    block: Vec<u8>,
}

impl<W: Write, S: Read + Write + Seek> ZipWriter<W, S> {
    /// Begins an archive.
    pub fn new(out: W, spool: S) -> Self {
        let spool = io::BufWriter::new(spool);
        Self { out, spool, spool_len: 0, at: 0, count: 0, file: None }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes the block that was gathered (RFC 1951, section 3.2.4).
    fn write_block(&mut self, file: &mut OpenFileEntry, is_last: bool) -> io::Result<()> {
        let len = u16::try_from(file.block.len()).map_err(io::Error::other)?;
        let mut head = Fields::default();
        head.byte(u8::from(is_last)).short(len).short(!len);
        file.entry.compressed += (head.bytes().len() + file.block.len()) as u64;
        self.write(head.bytes())?;
        self.write(&file.block)?;
        file.block.clear();
        Ok(())
    }

    /// Ends the present file with its data descriptor.
    fn end_entry(&mut self) -> io::Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.left.check_end()?;
        file.entry.sum = file.sum.finalize();
        self.write(&file.entry.descriptor())?;
        self.remember(&file.entry)
    }

    fn remember(&mut self, entry: &CentralEntry) -> io::Result<()> {
        const LONG: &str = "the archive has too many entries";
        let bytes = entry.central_header();
        self.spool_len += bytes.len() as u64;
        if self.spool_len > CENTRAL_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, LONG));
        }
        self.count += 1;
        self.spool.write_all(&bytes)
    }
}

impl<W: Write, S: Read + Write + Seek> ArchiveWriter for ZipWriter<W, S> {
    fn begin_entry(&mut self, entry: &ArchiveEntry<'_>) -> io::Result<()> {
        self.end_entry()?;
        let entry = CentralEntry::new(entry, self.at)?;
        self.write(&entry.local_header())?;
        if !entry.is_streamed() {
            return self.remember(&entry);
        }
        let left = ContentLeft::of(EntryKind::File(entry.size));
        let (sum, block) = (Hasher::new(), Vec::with_capacity(BLOCK));
        self.file = Some(OpenFileEntry { entry, sum, left, block });
        Ok(())
    }

    fn write_content(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(mut file) = self.file.take() else {
            return ContentLeft::default().take(bytes.len()).map(drop);
        };
        let is_end = file.left.take(bytes.len())?;
        file.sum.update(bytes);
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - file.block.len()));
            file.block.extend_from_slice(now);
            bytes = rest;
            let is_last = is_end && bytes.is_empty();
            if is_last || file.block.len() == BLOCK {
                self.write_block(&mut file, is_last)?;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.end_entry()?;
        let begin = self.at;
        self.spool.flush()?;
        self.spool.seek(SeekFrom::Start(0))?;
        self.at += io::copy(self.spool.get_mut(), &mut self.out)?;
        let end = end_records(self.count, begin, self.at - begin);
        self.write(&end)
    }
}

#[cfg(test)]
mod tests;
