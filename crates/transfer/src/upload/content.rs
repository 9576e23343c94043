//! A content that is uploaded: its source, its target, its progress and its result.

use std::fs::File;
use std::net::SocketAddr;

use relais_proto::{ChangeId, Digest, Expect, FileTime, Lsn, Mode, TreePath};

/// File to upload. It is open already, and read at explicit offsets.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy)]
pub struct UploadSource<'a> {
    pub file: &'a File,
    /// Size in bytes.
    pub size: u64,
    /// Modification time for the server.
    pub mtime: FileTime,
    pub mode: Mode,
}

/// Target of an upload.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy)]
pub struct UploadTarget<'a> {
    /// Id of the change; the same id, path and size mean the same upload.
    pub id: ChangeId,
    /// Whether an earlier call may have used the id.
    ///
    /// Its content then counts only while it is still at the path.
    pub is_old: bool,
    pub path: &'a TreePath,
    /// Precondition of the put.
    pub expect: Expect,
    /// Disks that must hold the content; 0 for the cluster's default.
    pub copies: u16,
}

/// A completed upload.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedUpload {
    /// Number of the change.
    pub version: Lsn,
    /// Number of disks that hold the content.
    pub copies: u16,
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Bytes that the storing server already had before this call.
    pub resumed_from: u64,
    /// Servers that received bytes, in the order of their first byte, and the one that confirmed.
    pub servers: Vec<SocketAddr>,
    /// Sent content bytes, including lost ones.
    pub bytes_moved: u64,
}

/// Receiver of progress events.
pub trait Progress {
    /// Content of `size` bytes is sent, and a server already has `resumed_from` of them.
    ///
    /// Called again after [`Self::restarted`]. For a stream of 1 MiB or more, `size` is 0.
    fn started(&mut self, size: u64, resumed_from: u64) {
        let _ = (size, resumed_from);
    }

    /// The content is sent up to byte `sent`. The value decreases if another server takes over.
    fn advanced(&mut self, sent: u64) {
        let _ = sent;
    }

    /// The connection to `from` was lost, and `to` continues at byte `at`.
    ///
    /// Both are the same if the same server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let _ = (from, to, at);
    }

    /// First answer of a server: the current entry at the path, and the receiving server.
    ///
    /// Called once, before the first byte. Not called if the upload was already complete, nor for a
    /// stream of 1 MiB or more.
    fn opened(&mut self, current: Expect, server: SocketAddr) {
        let _ = (current, server);
    }

    /// The sent bytes are worthless, and the upload restarts with the first byte.
    fn restarted(&mut self, why: &str) {
        let _ = why;
    }

    /// Returns whether the user has interrupted. The interrupter also shuts the socket down.
    fn interrupted(&self) -> bool {
        false
    }
}
