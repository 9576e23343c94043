//! A queue from any number of threads to one that polls descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::waker::Waker;

/// The receiving side: its descriptor is readable when there are values.
#[derive(Debug)]
pub struct Mailbox<T> {
    values: Receiver<T>,
    waker: Arc<Waker>,
}

impl<T> Mailbox<T> {
    /// Makes an empty mailbox, and its first sender.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn new() -> io::Result<(MailboxSender<T>, Self)> {
        let (sender, values) = channel();
        let waker = Arc::new(Waker::new()?);
        Ok((MailboxSender { sender, waker: WakeOnDrop(waker.clone()) }, Self { values, waker }))
    }

    /// Takes all values that have come.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        self.waker.clear();
        self.values.try_iter().collect()
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

/// A sending side. Its drop wakes the receiver too, so that it notices the end of a thread.
#[derive(Debug)]
pub struct MailboxSender<T> {
    sender: Sender<T>,
    /// Dropped after the sender, so that the receiver finds it gone.
    waker: WakeOnDrop,
}

#[derive(Debug, Clone)]
struct WakeOnDrop(Arc<Waker>);

impl Drop for WakeOnDrop {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl<T> MailboxSender<T> {
    /// Sends a value and wakes the receiver; false if the receiver has gone.
    pub fn send(&self, value: T) -> bool {
        let sent = self.sender.send(value).is_ok();
        self.waker.0.wake();
        sent
    }

    /// Sends values and wakes the receiver once; false if the receiver has gone.
    pub fn send_all(&self, values: impl IntoIterator<Item = T>) -> bool {
        let sent = values.into_iter().all(|value| self.sender.send(value).is_ok());
        self.waker.0.wake();
        sent
    }
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), waker: self.waker.clone() }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn is_readable(mailbox: &impl AsFd) -> bool {
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(mailbox, PollFlags::IN)], Some(&now)).unwrap() == 1
    }

    #[test]
    fn is_readable_while_values_wait_and_after_a_sender_ends() {
        let (sender, mailbox) = Mailbox::new().unwrap();
        assert!(!is_readable(&mailbox));
        let other = sender.clone();
        std::thread::spawn(move || (other.send(1), other.send(2))).join().unwrap();
        assert!(is_readable(&mailbox));
        assert_eq!(mailbox.take(), [1, 2]);
        assert!(!is_readable(&mailbox));
        drop(sender);
        assert!(is_readable(&mailbox));
        assert_eq!(mailbox.take(), []);
    }

    #[test]
    fn a_sender_learns_that_the_receiver_has_gone() {
        let (sender, mailbox) = Mailbox::new().unwrap();
        assert!(sender.send(1));
        drop(mailbox);
        assert!(!sender.send(2));
    }
}
