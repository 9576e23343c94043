//! Hints: a worker that finds a file different from what the catalogue says tells the replicator.
//!
//! The folder's watch misses what happens to a file through another name of it: a hard link elsewhere changes
//! its ctime, and may change its content, without an event in the folder. Who asks for the file notices.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relais_proto::{TreePath, limits};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

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
    pub fn tell(&self, path: &TreePath) {
        if let Err(e) = rustix::net::send(
            &self.send,
            path.as_str().as_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        ) {
            log::trace!("a hint was lost: {e}");
        }
    }

    /// The next path that is worth a look; none where there is none.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn take(&self) -> io::Result<Option<TreePath>> {
        let mut message = [0; limits::PATH];
        match rustix::net::recv(&self.receive, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((_, got)) => Ok(message.get(..got).and_then(|path| TreePath::from_bytes(path).ok())),
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
