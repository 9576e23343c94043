//! Waits until one descriptor is ready.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

/// Waits for `flags`, an error or a hang-up, at most `timeout`; returns what has come.
///
/// A signal ends the wait as the timeout does.
pub(crate) fn poll(
    fd: impl AsFd,
    flags: PollFlags,
    timeout: Option<Duration>,
) -> io::Result<PollFlags> {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), flags)];
    let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) => Ok(fds[0].revents()),
        Err(rustix::io::Errno::INTR) => Ok(PollFlags::empty()),
        Err(e) => Err(e.into()),
    }
}
