//! A thread that ends with the value that owns it.

use std::io;
use std::thread::{Builder, JoinHandle};

use log::warn;

/// A thread that is joined when this is dropped.
///
/// The owner has to end it first. A struct drops its fields in order, so a channel that ends the
/// thread stands before the thread.
#[derive(Debug)]
pub struct OwnedThread {
    name: &'static str,
    handle: Option<JoinHandle<()>>,
}

impl OwnedThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// That of the system call.
    pub fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        Ok(Self { name, handle: Some(Builder::new().name(name.to_owned()).spawn(work)?) })
    }

    /// Wakes the thread if it is parked.
    pub fn unpark(&self) {
        self.handle.iter().for_each(|handle| handle.thread().unpark());
    }

    /// Returns whether the thread has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for OwnedThread {
    fn drop(&mut self) {
        if self.handle.take().is_some_and(|handle| handle.join().is_err()) {
            warn!("the thread {} panicked", self.name);
        }
    }
}
