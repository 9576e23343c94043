//! A queue between the processes of one program, made before the first fork.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zeroize::Zeroizing;

use crate::message_socket::{MessageSocket, Received};

/// A value that passes between processes: bytes, and at most one descriptor.
pub trait ProcessMessage: Sized {
    /// Most bytes of an encoded value.
    const MAX_LEN: usize;

    /// Encodes the value. The result is not empty.
    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>);

    /// Decodes a value; none if it is malformed.
    fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Option<Self>;
}

/// A mailbox that every process of the program has: any may send, and one receives.
///
/// What is on its way to a process that dies goes to its replacement. The encoded bytes may be
/// secrets and are overwritten after their use.
#[derive(Debug)]
pub struct ProcessMailbox<T> {
    send: MessageSocket,
    receive: MessageSocket,
    kind: PhantomData<fn(T) -> T>,
}

impl<T: ProcessMessage> ProcessMailbox<T> {
    /// Makes an empty mailbox.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn new() -> io::Result<Self> {
        let (send, receive) = MessageSocket::pair()?;
        Ok(Self { send, receive, kind: PhantomData })
    }

    /// Sends a value without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the mailbox is full; other errors of the system call.
    pub fn send(&self, value: &T) -> io::Result<()> {
        let (bytes, fd) = value.encode();
        let bytes = Zeroizing::new(bytes);
        self.send.send(&bytes, fd)
    }

    /// Receives the values that have come, up to the first error, which is logged.
    pub fn take(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| {
            let mut buffer = Zeroizing::new(vec![0; T::MAX_LEN]);
            match self.receive.receive(&mut buffer) {
                Ok(Received::Message((bytes, fd))) => {
                    let value = T::decode(bytes, fd);
                    if value.is_none() {
                        // Any process of the program can send this, so it is no reason for a
                        // warning.
                        log::debug!("a malformed message to this process is dropped");
                    }
                    value
                }
                // This process has the other end too.
                Ok(Received::Nothing | Received::Gone) => None,
                Err(error) => {
                    log::error!("cannot receive a message to this process: {error}");
                    None
                }
            }
        })
    }
}

impl<T> AsFd for ProcessMailbox<T> {
    /// The descriptor that is readable while there are values.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Even(u8);

    impl ProcessMessage for Even {
        const MAX_LEN: usize = 1;

        fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
            (vec![self.0], None)
        }

        fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Option<Self> {
            (fd.is_none() && bytes[0].is_multiple_of(2)).then_some(Self(bytes[0]))
        }
    }

    #[test]
    fn values_arrive_in_order_without_malformed_ones() {
        let mailbox = ProcessMailbox::new().unwrap();
        for n in [2, 3, 4] {
            mailbox.send(&Even(n)).unwrap();
        }
        assert_eq!(mailbox.take().collect::<Vec<_>>(), [Even(2)], "up to the malformed one");
        assert_eq!(mailbox.take().collect::<Vec<_>>(), [Even(4)]);
        assert_eq!(mailbox.take().next(), None);
    }
}
