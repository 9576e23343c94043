//! Requests to a running master: to stop, or to reload its files.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relais_os::Waker;

/// A handle to stop or reload a master. A stop request is permanent.
#[derive(Debug, Clone)]
pub struct StopHandle {
    requested: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl StopHandle {
    /// Makes a handle without a request.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn new() -> io::Result<Self> {
        let waker = Arc::new(Waker::new()?);
        Ok(Self { requested: Arc::default(), reload: Arc::default(), waker })
    }

    /// Requests a stop; true if one was requested before.
    pub fn request(&self) -> bool {
        let before = self.requested.swap(true, Ordering::SeqCst);
        self.waker.wake();
        before
    }

    /// Requests a reload of accounts and certificates.
    pub fn reload(&self) {
        self.reload.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Takes a reload request; true once for each request.
    pub(crate) fn take_reload(&self) -> bool {
        if !self.reload.swap(false, Ordering::SeqCst) {
            return false;
        }
        let stopping = self.is_requested();
        // Clears the wake-up. A stop request must leave the descriptor readable.
        if !stopping {
            self.waker.clear();
            // A stop request in between must wake the server again.
            if self.is_requested() {
                self.waker.wake();
            }
        }
        true
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
        self.waker.as_fd()
    }
}
