//! Uploads one file: resumable, with failover, and applied at most once.
//!
//! [`put`] asks each server how much it has, sends the rest, and returns only after a server has
//! stored the whole. After a connection failure it continues elsewhere under the same id. So it can
//! repeat a request whose answer was lost, and the change is applied once. [`put_stream`] does the
//! same for content of unknown length, as far as possible.
//!
//! The module never opens a file or a connection. It never ends an upload with the digest of bytes
//! that changed while they were read.

mod body;
mod digest;
mod error;
mod exchange;
mod outgoing;
mod retry_loop;
mod send;
mod stats;
mod stream;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;

use relais_proto::{ChangeId, Digest, Expect, FileTime, Lsn, Mode, TreePath};

use crate::download::Sessions;
use body::Body;
pub use error::UploadError;

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

/// Uploads a file with resume and failover.
///
/// It asks each server how much it has and continues from there, restarts at another server if
/// necessary, and repeats the request by its id if the answer was lost.
///
/// # Errors
/// See [`UploadError`]; [`UploadError::can_resume`] returns whether a later call with the same id
/// can resume.
pub fn put(
    sessions: &mut dyn Sessions,
    source: &UploadSource<'_>,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, UploadError> {
    let body = Body::of_file(source)?;
    retry_loop::run(sessions, &body, target, progress)
}

/// Uploads content of unknown length.
///
/// Up to 1 MiB is read before the first request: content that ends there is sent again as often as
/// by [`put`]. Longer content is lost with its connection.
///
/// # Errors
/// See [`UploadError`]. The upload cannot be resumed.
pub fn put_stream(
    sessions: &mut dyn Sessions,
    from: &mut dyn Read,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, UploadError> {
    stream::run(sessions, from, target, progress)
}
