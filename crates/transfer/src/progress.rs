//! What a caller learns of a transfer, and the state for a resume of a download.

use std::fs::File;
use std::io;
use std::net::SocketAddr;

use relais_proto::{Digest, Expect, FileTime, Identity, Lsn};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::ranges::Ranges;

/// Receiver of progress events. Several threads call it, one at a time.
pub trait Progress: Send {
    /// Content of `size` bytes is moved, and the receiver already has `resumed_from` of them.
    ///
    /// Called again after [`Self::restarted`]. For the upload of a stream of 1 MiB or more, `size`
    /// is 0.
    fn started(&mut self, size: u64, resumed_from: u64) {
        let _ = (size, resumed_from);
    }

    /// The receiver has `done` bytes. In an upload the value decreases if another server takes
    /// over.
    fn advanced(&mut self, done: u64) {
        let _ = done;
    }

    /// The connection to `from` was lost, and `to` continues at byte `at`.
    ///
    /// Both are the same if the same server was reached again.
    fn moved(&mut self, from: SocketAddr, to: SocketAddr, at: u64) {
        let _ = (from, to, at);
    }

    /// First answer of a server to an upload: the current entry at the path, and the server.
    ///
    /// Called once, before the first byte. Not called if the upload was already complete, nor for a
    /// stream of 1 MiB or more.
    fn opened(&mut self, current: Expect, server: SocketAddr) {
        let _ = (current, server);
    }

    /// The moved bytes are worthless, and the transfer restarts with the first byte.
    fn restarted(&mut self, why: &str) {
        let _ = why;
    }

    /// All bytes of `state.good` of a download are on disk: a later download can resume from
    /// `state`.
    ///
    /// Called at most once a second, and once more if the download fails.
    fn checkpoint(&mut self, state: &Resume) {
        let _ = state;
    }

    /// A server has sent `pieces` damaged pieces of 1 MiB, which are fetched again.
    fn damaged(&mut self, from: SocketAddr, pieces: u64) {
        let _ = (from, pieces);
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

impl Resume {
    /// Counts the bytes that the part file has.
    ///
    /// A killed process has written more than it had recorded. Those bytes count until the
    /// verification at the end. Recorded bytes that the file does not have do not count. Several
    /// streams leave holes in the file, which do not count, if the file system has holes.
    ///
    /// # Errors
    /// Those of looking at the file.
    pub fn with_part_of(mut self, part: &File) -> io::Result<Self> {
        let there = part.metadata()?.len().min(self.size);
        self.good.clip(there);
        let mut at = self.good.end();
        while at < there {
            let Some(data) = seek(part, SeekFrom::Data(at))?.filter(|data| *data < there) else {
                break;
            };
            at = seek(part, SeekFrom::Hole(data))?.unwrap_or(there).min(there);
            self.good.insert(data..at);
        }
        Ok(self)
    }
}

/// Looks for data or a hole; `None` behind the last one.
fn seek(part: &File, from: SeekFrom) -> io::Result<Option<u64>> {
    match rustix::fs::seek(part, from) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
