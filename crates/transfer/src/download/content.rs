//! A content that is downloaded: its state for a resume, its progress and its result.

use std::net::SocketAddr;

use relais_proto::{Digest, FileTime, Identity, Lsn, Mode};

use crate::ranges::Ranges;

/// Receiver of progress events. Several threads call it, one at a time.
pub trait Progress: Send {
    /// A server sends content of `size` bytes, and `resumed_from` of them are already here.
    ///
    /// Called again after [`Self::restarted`].
    fn started(&mut self, size: u64, resumed_from: u64) {
        let _ = (size, resumed_from);
    }

    /// The part file contains `good` bytes of the content.
    fn advanced(&mut self, good: u64) {
        let _ = good;
    }

    /// The connection to `from` was lost, and `to` continues at byte `at`.
    ///
    /// Both are the same if the same server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let _ = (from, to, at);
    }

    /// The downloaded bytes are discarded, because the content was replaced.
    fn restarted(&mut self, why: &str) {
        let _ = why;
    }

    /// All bytes of `state.good` are on disk: a later download can resume from `state`.
    ///
    /// Called at most once a second, and once more if the download fails.
    fn checkpoint(&mut self, state: &Resume) {
        let _ = state;
    }

    /// Returns whether the user has interrupted. The interrupter also shuts the socket down.
    fn interrupted(&self) -> bool {
        false
    }
}

/// State that is necessary to resume a part file.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Size of the whole content in bytes.
    pub size: u64,
    pub mtime: FileTime,
    /// Digest of the whole content, if a server has reported it.
    pub digest: Option<Digest>,
    /// Identity of the content on one server's disk while its digest is not known.
    pub identity: Option<Identity>,
    /// Put that stored the content.
    pub version: Option<Lsn>,
    /// Bytes that are in the part file.
    pub good: Ranges,
}

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
