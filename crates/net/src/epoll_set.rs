//! The epoll set of the pre-authentication pool: which sockets it watches, and their events.
//!
//! It knows ids, not connections.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

/// Most events that are taken at once.
const EVENTS: usize = 256;
/// Events that end a connection.
const HANG_UP: epoll::EventFlags =
    epoll::EventFlags::RDHUP.union(epoll::EventFlags::HUP).union(epoll::EventFlags::ERR);

/// A socket of the set with something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketEvent {
    pub id: u64,
    /// Whether its peer has ended the connection.
    pub hung_up: bool,
}

/// Sockets that are watched, each with an id.
#[derive(Debug)]
pub(crate) struct EpollSet {
    epoll: OwnedFd,
}

impl EpollSet {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a listener, for which several processes may wait.
    pub fn add_listener(&self, socket: impl AsFd, id: u64) -> io::Result<()> {
        // A new connection must not wake all processes.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags)?)
    }

    /// Watches a connection.
    pub fn add_connection(&self, socket: impl AsFd, id: u64) -> io::Result<()> {
        // Edge-triggered: each event is followed by reads and sends until the socket would block.
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET | HANG_UP;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags)?)
    }

    /// Watches a socket no longer. A socket that is closed needs no call.
    pub fn delete(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits for an event or until one of `wake` is readable, at most `timeout`.
    pub fn wait(&self, wake: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.epoll.as_fd())
            .chain(wake.iter().copied())
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns the events that have come, without waiting.
    pub fn events(&self) -> io::Result<Vec<SocketEvent>> {
        let empty =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut events = [empty; EVENTS];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&at_once)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(e) => return Err(e.into()),
        };
        let event = |event: &epoll::Event| SocketEvent {
            id: event.data.u64(),
            hung_up: { event.flags }.intersects(HANG_UP),
        };
        Ok(events[..ready].iter().map(event).collect())
    }
}
