//! Sending one file: resumed where a server has its beginning, moved between servers, never made twice.
//!
//! [`put`] asks each server that it meets how much it has, sends the rest, and returns only once a
//! server has stored the whole. Where a connection fails it goes on elsewhere under the same id, so
//! an answer that was lost is asked for again and the change is made once. [`put_stream`] does the
//! same for content whose length is not known, as far as that goes.
//!
//! It never opens a file or a connection, and never ends an upload with a digest of bytes that
//! changed while they were read.

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

/// One file to be put. It is open already, and read at explicit offsets.
#[derive(Debug, Clone, Copy)]
pub struct UploadSource<'a> {
    /// Where the content is.
    pub file: &'a File,
    /// Its bytes.
    pub size: u64,
    /// Last modification that the server is told.
    pub mtime: FileTime,
    /// Permission bits.
    pub mode: Mode,
}

/// Where it goes.
#[derive(Debug, Clone, Copy)]
pub struct UploadTarget<'a> {
    /// Chosen by the caller. Asked again with the same id, path and size it is the same upload.
    pub id: ChangeId,
    /// Whether an earlier call may have used the id: then what it put counts only while it is still at the path.
    pub is_old: bool,
    /// Which file it becomes.
    pub path: &'a TreePath,
    /// What must be there when the put is made.
    pub expect: Expect,
    /// How many disks must hold it before it counts as stored; 0: as many as the cluster asks for.
    pub copies: u16,
}

/// An upload that a server has stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedUpload {
    /// Number of the change.
    pub version: Lsn,
    /// How many slaves' disks hold it.
    pub copies: u16,
    /// Digest of the content.
    pub digest: Digest,
    /// Bytes of the content.
    pub size: u64,
    /// Bytes that the server which stored it had before this call.
    pub resumed_from: u64,
    /// The servers that bytes went to, in order of their first byte, and the one that said that it is stored.
    pub servers: Vec<SocketAddr>,
    /// Bytes of content that went out, also those that were lost on the way.
    pub bytes_moved: u64,
}

/// Told what happens.
pub trait Progress {
    /// Content of `size` bytes goes out, of which a server has `resumed_from` already. Called again after
    /// [`Self::restarted`]. For a stream of 1 MiB or more, `size` is 0.
    fn started(&mut self, size: u64, resumed_from: u64) {
        let _ = (size, resumed_from);
    }

    /// The content went out up to byte `sent`. Less than before where another server took over.
    fn advanced(&mut self, sent: u64) {
        let _ = sent;
    }

    /// The connection to `from` was lost, and `to` goes on at byte `at`. Both are the same where
    /// the same server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let _ = (from, to, at);
    }

    /// First answer of a server: what is at the path now, and which server gets the bytes. Called once, before the
    /// first byte goes out. Not called where the upload was made already, nor for a stream of 1 MiB or more.
    fn opened(&mut self, current: Expect, server: SocketAddr) {
        let _ = (current, server);
    }

    /// What was sent is worth nothing, and it begins again with the first byte.
    fn restarted(&mut self, why: &str) {
        let _ = why;
    }

    /// Whether the user wants it to end. Whoever makes this true also shuts the socket down.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Sends a file: asks each server that it meets how much it has, goes on from there, begins
/// again at another one, and asks again by the id where the answer was lost.
///
/// # Errors
/// See [`UploadError`]; [`UploadError::can_resume`] says whether a later call with the same id may go on.
pub fn put(
    sessions: &mut dyn Sessions,
    source: &UploadSource<'_>,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, UploadError> {
    let body = Body::of_file(source)?;
    retry_loop::run(sessions, &body, target, progress)
}

/// Sends content of unknown length. Up to 1 MiB is read before a server is asked: content that
/// ends there is sent again as often as [`put`] would. Longer content is lost with its connection.
///
/// # Errors
/// See [`UploadError`]. Nothing of it can be resumed.
pub fn put_stream(
    sessions: &mut dyn Sessions,
    from: &mut dyn Read,
    target: &UploadTarget<'_>,
    progress: &mut dyn Progress,
) -> Result<CompletedUpload, UploadError> {
    stream::run(sessions, from, target, progress)
}
