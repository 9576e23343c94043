//! Fetching one file into a part file: resumable, checked by its digest, moving between servers.
//!
//! [`fetch`] asks for what is missing, writes it where it belongs, and returns only once the whole
//! content matches its digest. Where a connection fails it goes on with the next byte at another
//! server; where single pieces are damaged it fetches those again. The client calls it, and so can
//! a slave that takes content from another.
//!
//! It never opens, renames or removes a file, and never makes room for bytes that have not come:
//! what a server announces is a claim.

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

/// Where connections come from. They carry open sessions, one request after another.
pub trait Sessions {
    /// The open session with the current server. Where there is none it opens one, if it can not
    /// with a server that failed, and takes at most its own retry time.
    ///
    /// # Errors
    /// [`DownloadError::Unreachable`], [`DownloadError::Refused`] by a login, or [`DownloadError::Interrupted`].
    fn connection(&mut self) -> Result<&mut Connection, DownloadError>;

    /// The current server failed. The connection is dropped, and the next [`Self::connection`] goes to
    /// another server, or to the same one where there is only one.
    fn failed(&mut self, why: &str);

    /// The connection is in the middle of an answer that nobody wants any more. It is dropped;
    /// nothing is wrong with the server.
    fn abandon(&mut self) {
        self.failed("the rest of an answer is not wanted any more");
    }

    /// The current server does not have the content yet, and `holders` have it. Whether the next [`Self::connection`] is with
    /// another server than before; nothing is held against the current one. Where it is not, the connection may still be good.
    fn elsewhere(&mut self, holders: &[Endpoint]) -> bool {
        let _ = holders;
        self.failed("it does not have the content yet");
        true
    }

    /// The current server is well and cannot do what is asked for the moment. The connection is dropped, and the next one is
    /// with another server where there is one; a moment later this one is as good as any.
    fn leave(&mut self, why: &str) {
        self.failed(why);
    }

    /// The current server has no room for what is to be put. Whether another one may have: then the next [`Self::connection`] is
    /// with that, where it is in service. Where not, nothing has changed.
    fn full(&mut self, why: &str) -> bool {
        let _ = why;
        false
    }

    /// How long to go on trying where no server can do what is asked.
    fn retry(&self) -> Duration {
        Duration::ZERO
    }
}

/// Told what happens. Called by several threads, one at a time.
pub trait Progress: Send {
    /// A server sends content of `size` bytes, of which `resumed_from` are here already.
    /// Called again after [`Self::restarted`].
    fn started(&mut self, size: u64, resumed_from: u64) {
        let _ = (size, resumed_from);
    }

    /// `good` bytes of the content are in the part file.
    fn advanced(&mut self, good: u64) {
        let _ = good;
    }

    /// The connection to `from` was lost, and `to` goes on at byte `at`. Both are the same where
    /// the same server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let _ = (from, to, at);
    }

    /// What was fetched is thrown away, because the content is another one now.
    fn restarted(&mut self, why: &str) {
        let _ = why;
    }

    /// All bytes of `state.good` are on the disk: a later fetch can go on from `state`.
    /// Called at most once a second, and once more where the fetch fails.
    fn checkpoint(&mut self, state: &Resume) {
        let _ = state;
    }

    /// Whether the user wants it to end. Whoever makes this true also shuts the socket down.
    fn interrupted(&self) -> bool {
        false
    }
}

/// What is needed to go on with a part file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// Bytes of the whole content.
    pub size: u64,
    /// The content's last modification.
    pub mtime: FileTime,
    /// Digest of the whole content, once a server has told it.
    pub digest: Option<Digest>,
    /// Names the content on one server's disk while its digest is not known.
    pub identity: Option<Identity>,
    /// The put that made the content.
    pub version: Option<Lsn>,
    /// The bytes that are in the part file.
    pub good: Ranges,
}

/// A fetch that ended well: the part file holds exactly the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedDownload {
    /// Bytes of the content.
    pub size: u64,
    /// Its last modification.
    pub mtime: FileTime,
    /// Permission bits.
    pub mode: Mode,
    /// The put that made it.
    pub version: Option<Lsn>,
    /// Its digest; the part file was checked against it.
    pub digest: Digest,
    /// Bytes of content that came in during this fetch.
    pub bytes_moved: u64,
    /// Bytes that were there before and were kept; 0 after a restart.
    pub resumed_from: u64,
    /// The servers that sent content, in order of their first byte; where no byte had to come, the
    /// one that told the digest.
    pub servers: Vec<SocketAddr>,
    /// Whether it began again because the content was replaced.
    pub restarted: bool,
}

/// Fetches the content of `path` into `part`, which is open for reading and writing.
///
/// With `resume` it goes on from there; without, what `part` holds is dropped. The part file is
/// not synced at the end, and has the name that the caller gave it.
///
/// # Errors
/// See [`DownloadError`]; where it can be resumed, [`Progress::checkpoint`] was called with how.
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
