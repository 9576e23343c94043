//! What both formats have in common: entries, and the order of calls.

use std::io;

use relais_proto::FileTime;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder.
    Folder,
    /// A file with this many bytes.
    File(u64),
}

/// What an archive tells of an entry before its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveEntry<'a> {
    /// The path, relative and without a slash at its end.
    pub path: &'a str,
    /// A folder, or a file with its size.
    pub kind: EntryKind,
    /// The time of the last modification.
    pub modified: FileTime,
    /// The permissions: the lowest nine bits.
    pub mode: u32,
}

/// Writes an archive entry by entry.
pub trait ArchiveWriter {
    /// Begins an entry, after the end of the one before it.
    ///
    /// # Errors
    /// Those of the output; [`io::ErrorKind::InvalidInput`] if the format cannot express the entry,
    /// or the one before it is incomplete.
    fn begin_entry(&mut self, entry: &ArchiveEntry<'_>) -> io::Result<()>;

    /// Writes content of a file.
    ///
    /// # Errors
    /// Those of the output; [`io::ErrorKind::InvalidInput`] for more than the size of the file.
    fn write_content(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Ends the archive. Without it the archive does not look complete.
    ///
    /// # Errors
    /// As [`Self::begin_entry`].
    fn finish(&mut self) -> io::Result<()>;
}

/// The bytes of the present file that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct ContentLeft(u64);

impl ContentLeft {
    pub fn of(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Folder => Self(0),
            EntryKind::File(size) => Self(size),
        }
    }

    /// Counts bytes; true if they are the last ones.
    pub fn take(&mut self, len: usize) -> io::Result<bool> {
        const LONG: &str = "a file of the archive is longer than its size";
        let left = self.0.checked_sub(len as u64);
        self.0 = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, LONG))?;
        Ok(self.0 == 0)
    }

    pub fn check_end(&self) -> io::Result<()> {
        const SHORT: &str = "a file of the archive is shorter than its size";
        match self.0 {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, SHORT)),
        }
    }
}
