//! Waits for descriptors.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until a descriptor is ready, at most for a time. Returns whether one is ready.
///
/// A signal ends the wait.
///
/// # Errors
/// Those of the system call.
pub fn wait_for(fds: &mut [PollFd<'_>], time: Option<Duration>) -> io::Result<bool> {
    match poll(fds, time.and_then(|time| Timespec::try_from(time).ok()).as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Waits until a descriptor is readable, or its other end is closed, at most for a time. Returns
/// whether it is.
///
/// # Errors
/// Those of the system call.
pub fn wait_readable(fd: &impl AsFd, time: Duration) -> io::Result<bool> {
    wait_for(&mut [PollFd::new(fd, PollFlags::IN)], Some(time))
}
