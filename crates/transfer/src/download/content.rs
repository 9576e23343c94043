//! The result of a download.

use std::net::SocketAddr;

use relais_proto::{Digest, FileTime, Lsn, Mode};

/// A completed download: the part file contains exactly the content.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedDownload {
    /// Size of the content in bytes.
    pub size: u64,
    pub mtime: FileTime,
    pub mode: Mode,
    /// Put that stored the content.
    pub version: Option<Lsn>,
    /// Digest of the content; the part file was verified against it.
    pub digest: Digest,
    /// Content bytes that were received by this download.
    pub bytes_moved: u64,
    /// Bytes that were kept from before; 0 after a restart.
    pub resumed_from: u64,
    /// Servers that sent content, in the order of their first byte.
    ///
    /// If no byte was missing, the server that reported the digest.
    pub servers: Vec<SocketAddr>,
    /// Whether the download restarted because the content was replaced.
    pub restarted: bool,
}
