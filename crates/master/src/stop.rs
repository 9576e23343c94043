//! How a signal handler, or a test, tells the master to stop or to read its files again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to stop, shared by whoever may have it and the server. Once asked, it stays asked.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Stop {
    /// Nobody has asked yet.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<Self> {
        let wake = Arc::new(relais_net::wake_fd()?);
        Ok(Self { asked: Arc::default(), reload: Arc::default(), wake })
    }

    /// Asks the server to stop; true where somebody had asked before.
    pub fn ask(&self) -> bool {
        let before = self.asked.swap(true, Ordering::SeqCst);
        self.wake();
        before
    }

    /// Asks the server to read accounts and certificates again.
    pub fn reload(&self) {
        self.reload.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether they are to be read again; true once for each time that it was asked.
    pub(crate) fn takes_reload(&self) -> bool {
        if !self.reload.swap(false, Ordering::SeqCst) {
            return false;
        }
        let stopping = self.is_asked();
        // Without this the descriptor stays readable, as it must once the server is to stop.
        if !stopping && let Err(error) = rustix::io::read(&*self.wake, &mut [0u8; 8]) {
            log::debug!("nothing to take from the wake-up: {error}");
        }
        // A wish to stop that came in between keeps the server awake.
        if !stopping && self.is_asked() {
            self.wake();
        }
        true
    }

    fn wake(&self) {
        // Adding 1 fails only where the count is full, and then the server is awake.
        if let Err(error) = rustix::io::write(&*self.wake, &1u64.to_ne_bytes()) {
            log::debug!("the server is awake already: {error}");
        }
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

impl AsFd for Stop {
    /// Readable from the first asking on, and while something is to be read again.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
