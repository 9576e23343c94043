//! Hints from workers to the replicator: a file differs from the catalogue, or may be damaged.
//!
//! The folder watcher misses changes through another hard link of a file. They change the ctime,
//! and perhaps the content, without an event in the folder. A worker notices when a client reads
//! the file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relais_proto::{TreePath, limits};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A hint about a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The file differs from the catalogue.
    Different(TreePath),
    /// The content may not match its digest.
    Suspect(TreePath),
}

/// First byte of each message.
const DIFFERENT: u8 = 0;
const SUSPECT: u8 = 1;

/// A pair of sockets that exists before the first fork. Workers write to it, and the replicator
/// reads it.
#[derive(Debug)]
pub struct Hints {
    send: OwnedFd,
    receive: OwnedFd,
}

impl Hints {
    /// Creates an empty socket pair.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (send, receive) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { send, receive })
    }

    /// Reports that `path` differs from the catalogue. If too many hints are unread, the hint is
    /// lost; the next reader of the file sends it again.
    pub fn report_different(&self, path: &TreePath) {
        self.send(DIFFERENT, path);
    }

    /// Reports that the content at `path` may be damaged. May be lost as in
    /// [`Self::report_different`].
    pub fn report_damaged(&self, path: &TreePath) {
        self.send(SUSPECT, path);
    }

    fn send(&self, kind: u8, path: &TreePath) {
        let mut message = vec![kind];
        message.extend(path.as_str().as_bytes());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        if let Err(e) = rustix::net::send(&self.send, &message, flags) {
            log::trace!("a hint was lost: {e}");
        }
    }

    /// Returns the next hint; `None` if there is none.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn take(&self) -> io::Result<Option<Hint>> {
        let mut message = [0; limits::PATH + 1];
        match rustix::net::recv(&self.receive, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((_, got)) => Ok(message.get(..got).and_then(parse)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns a descriptor that is readable when there are hints.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }
}

fn parse(message: &[u8]) -> Option<Hint> {
    let (kind, path) = message.split_first()?;
    let path = TreePath::from_bytes(path).ok()?;
    match *kind {
        DIFFERENT => Some(Hint::Different(path)),
        SUSPECT => Some(Hint::Suspect(path)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_carry_kind_and_path() {
        let hints = Hints::new().unwrap();
        let path = TreePath::new("d/f").unwrap();
        hints.report_different(&path);
        hints.report_damaged(&path);
        assert_eq!(hints.take().unwrap(), Some(Hint::Different(path.clone())));
        assert_eq!(hints.take().unwrap(), Some(Hint::Suspect(path)));
        assert_eq!(hints.take().unwrap(), None);
    }
}
