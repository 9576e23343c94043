//! Downloads one file into a part file: resumable, verified and with failover.
//!
//! [`download`] requests the missing bytes and returns only after the whole content matches its
//! digest. After a connection failure it resumes at the next byte with another server. It fetches
//! damaged pieces again. The client calls it, and so does a slave that fetches content from another
//! slave.
//!
//! It never opens, renames or removes a file. It allocates no memory or disk space for bytes that
//! have not arrived, because a server's announcement is only a claim.

mod blocks;
mod error;
mod exchange;
mod hashing;
mod intake;
mod redirects;
mod retry_loop;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use relais_net::Connection;
use relais_proto::{Digest, Endpoint, FileTime, Identity, Lsn, Mode, TreePath};

use crate::Ranges;
pub use error::DownloadError;
pub use redirects::Redirects;
use retry_loop::DownloadLoop;
use state::DownloadState;

/// Source of connections with open sessions; a session handles one request after another.
pub trait Sessions {
    /// Returns the open session with the current server, and opens one if necessary.
    ///
    /// A new session avoids servers that failed. Opening takes at most the own retry time.
    ///
    /// # Errors
    /// [`DownloadError::Unreachable`], [`DownloadError::Refused`] by a login, or
    /// [`DownloadError::Interrupted`].
    fn connection(&mut self) -> Result<&mut Connection, DownloadError>;

    /// Drops the connection, because the current server failed.
    ///
    /// The next [`Self::connection`] uses another server if there is one.
    fn failed(&mut self, why: &str);

    /// Drops the connection in the middle of an answer that is no longer needed.
    ///
    /// The server is not at fault.
    fn abandon(&mut self) {
        self.failed("the rest of an answer is not wanted any more");
    }

    /// Handles a server without the content; `holders` have it.
    ///
    /// Returns whether the next [`Self::connection`] is with another server. The current server is
    /// not at fault. If the result is false, the connection may still be usable.
    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        let _ = holders;
        self.failed("it does not have the content yet");
        true
    }

    /// Drops the connection to a server that works but cannot serve the request now.
    ///
    /// The next connection is with another server if there is one. The server is not avoided
    /// afterwards.
    fn leave(&mut self, why: &str) {
        self.failed(why);
    }

    /// Handles a server without space for the upload; returns whether another one may have some.
    ///
    /// If so, the next [`Self::connection`] is with that server if it is in service. If not,
    /// nothing has changed.
    fn full(&mut self, why: &str) -> bool {
        let _ = why;
        false
    }

    /// Returns how long to retry while no server can serve the request.
    fn retry(&self) -> Duration {
        Duration::ZERO
    }
}

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

/// Downloads the content of `path` into `part`, which is open for reading and writing.
///
/// With `resume` it continues from there; without it, the bytes in `part` are dropped. The part
/// file is not synced at the end, and keeps its name.
///
/// # Errors
/// See [`DownloadError`]. If the download can be resumed, [`Progress::checkpoint`] has received the
/// state.
pub fn download(
    sessions: &mut dyn Sessions,
    path: &TreePath,
    part: &File,
    resume: Option<Resume>,
    progress: &mut dyn Progress,
) -> Result<CompletedDownload, DownloadError> {
    let state = DownloadState::new(part, resume, progress)?;
    let table = hashing::PieceTable::default();
    let result =
        std::thread::scope(|scope| DownloadLoop::new(scope, sessions, path, &state, &table).run());
    if result.as_ref().is_err_and(DownloadError::can_resume) {
        state.save();
    }
    result
}
