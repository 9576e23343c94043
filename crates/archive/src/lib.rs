//! Archives of folders as streams: tar and zip, in bounded memory.
//!
//! A writer gets one entry after the other, each with its size and then its content, and writes the
//! archive to any [`Write`](std::io::Write). It opens no file and reads no clock. What it has to
//! remember until the end of a zip archive goes to a file of the caller.
//!
//! Sources: POSIX.1-2017 `pax` (the formats ustar and pax), APPNOTE.TXT 6.3.10 of PKWARE (zip),
//! RFC 1951 (the blocks that a zip entry consists of).

mod entry;
mod tar_writer;
mod zip;

pub use entry::{ArchiveEntry, ArchiveWriter, EntryKind};
pub use tar_writer::TarWriter;
pub use zip::ZipWriter;
