//! Hints: a worker that finds a file different from what the catalogue says, or is told of damage, tells the replicator.
//!
//! The folder's watch misses what happens to a file through another name of it: a hard link elsewhere changes
//! its ctime, and may change its content, without an event in the folder. Who asks for the file notices.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relais_proto::{TreePath, limits};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// What a hint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// The path is other on the disk than in the catalogue.
    Different(TreePath),
    /// Content was read that may not have its digest.
    Suspect(TreePath),
}

/// First byte of each message.
const DIFFERENT: u8 = 0;
const SUSPECT: u8 = 1;

/// A pair of sockets made before the first fork: workers write, the replicator reads.
#[derive(Debug)]
pub struct Hints {
    send: OwnedFd,
    receive: OwnedFd,
}

impl Hints {
    /// No hints yet.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (send, receive) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { send, receive })
    }

    /// `path` is worth a look. Lost where too many hints lie unread: the next one who asks for the file gives it again.
    pub fn report_different(&self, path: &TreePath) {
        self.send(DIFFERENT, path);
    }

    /// The content at `path` may be damaged. Lost as in [`Self::report_different`].
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

    /// The next hint; none where there is none.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn take(&self) -> io::Result<Option<Hint>> {
        let mut message = [0; limits::PATH + 1];
        match rustix::net::recv(&self.receive, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((_, got)) => Ok(message.get(..got).and_then(parse)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Can be read when there are hints.
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
    fn hints_say_what_they_are_about() {
        let hints = Hints::new().unwrap();
        let path = TreePath::new("d/f").unwrap();
        hints.report_different(&path);
        hints.report_damaged(&path);
        assert_eq!(hints.take().unwrap(), Some(Hint::Different(path.clone())));
        assert_eq!(hints.take().unwrap(), Some(Hint::Suspect(path)));
        assert_eq!(hints.take().unwrap(), None);
    }
}
