//! Wakes a thread that polls descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// A descriptor that is readable from [`Self::wake`] to [`Self::clear`].
///
#[derive(Debug)]
pub struct Waker(OwnedFd);

impl Waker {
    /// Makes a descriptor that is not readable.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes the descriptor readable.
    pub fn wake(&self) {
        match rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            // The counter is full only after 2^64 - 2 wake-ups, and is readable then.
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => log::error!("cannot wake a thread: {error}"),
        }
    }

    /// Makes the descriptor unreadable. Look for work afterwards, so that no wake-up is lost.
    pub fn clear(&self) {
        match rustix::io::read(&self.0, &mut [0_u8; 8]) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(error) => log::error!("cannot clear a wake-up: {error}"),
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
