//! Requests to a running master: to stop, or to reload its files.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A handle to stop or reload a master. A stop request is permanent.
#[derive(Debug, Clone)]
pub struct StopHandle {
    requested: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl StopHandle {
    /// Makes a handle without a request.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn new() -> io::Result<Self> {
        let wake = Arc::new(relais_net::wake_fd()?);
        Ok(Self { requested: Arc::default(), reload: Arc::default(), wake })
    }

    /// Requests a stop; true if one was requested before.
    pub fn request(&self) -> bool {
        let before = self.requested.swap(true, Ordering::SeqCst);
        self.wake();
        before
    }

    /// Requests a reload of accounts and certificates.
    pub fn reload(&self) {
        self.reload.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Takes a reload request; true once for each request.
    pub(crate) fn take_reload(&self) -> bool {
        if !self.reload.swap(false, Ordering::SeqCst) {
            return false;
        }
        let stopping = self.is_requested();
        // Clears the wake-up. A stop request must leave the descriptor readable.
        if !stopping && let Err(error) = rustix::io::read(&*self.wake, &mut [0u8; 8]) {
            log::debug!("the wake-up was cleared already: {error}");
        }
        // A stop request in between must wake the server again.
        if !stopping && self.is_requested() {
            self.wake();
        }
        true
    }

    fn wake(&self) {
        // The write fails only if the counter is full, and then the server is awake.
        if let Err(error) = rustix::io::write(&*self.wake, &1u64.to_ne_bytes()) {
            log::debug!("the server is awake already: {error}");
        }
    }

    /// Whether a stop was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

impl AsFd for StopHandle {
    /// Readable after a stop request, and until a reload request is taken.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
