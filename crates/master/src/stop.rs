//! How a signal handler, or a test, tells the master to stop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wish to stop, shared by whoever may have it and the server. Once asked, it stays asked.
#[derive(Debug, Clone)]
pub struct Stop {
    asked: Arc<AtomicBool>,
    wake: Arc<OwnedFd>,
}

impl Stop {
    /// Nobody has asked yet.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asked: Arc::default(), wake: Arc::new(relais_net::wake_fd()?) })
    }

    /// Asks the server to stop; true where somebody had asked before.
    pub fn ask(&self) -> bool {
        let before = self.asked.swap(true, Ordering::SeqCst);
        // Adding 1 fails only where the count is full, and then the server is awake.
        if let Err(error) = rustix::io::write(&*self.wake, &1u64.to_ne_bytes()) {
            log::debug!("the server is awake already: {error}");
        }
        before
    }

    /// Whether somebody has asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

impl AsFd for Stop {
    /// Readable from the first asking on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
