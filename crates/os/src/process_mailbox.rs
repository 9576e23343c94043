//! A queue between the processes of one program, made before the first fork.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

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

/// One end of a connection passes as a descriptor.
impl ProcessMessage for MessageSocket {
    const MAX_LEN: usize = 1;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        (vec![0], Some(self.as_fd()))
    }

    fn decode(_bytes: &[u8], fd: Option<OwnedFd>) -> Option<Self> {
        fd.map(Self::from)
    }
}

/// A mailbox that every process of the program has: any may send, and one receives.
///
/// What is on its way to a process that dies goes to its replacement.
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
        self.send.send(&bytes, fd)
    }

    /// Receives the next value; none if there is none.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a malformed value; errors of the system call.
    pub fn receive(&self) -> io::Result<Option<T>> {
        match self.receive.receive(&mut vec![0; T::MAX_LEN])? {
            Received::Message((bytes, fd)) => T::decode(bytes, fd).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "malformed message in a mailbox")
            }),
            // This process has the other end too.
            Received::Nothing | Received::Gone => Ok(None),
        }
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
    fn values_arrive_in_order_and_malformed_ones_are_errors() {
        let mailbox = ProcessMailbox::new().unwrap();
        for n in [2, 3, 4] {
            mailbox.send(&Even(n)).unwrap();
        }
        assert_eq!(mailbox.receive().unwrap(), Some(Even(2)));
        assert_eq!(mailbox.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(mailbox.receive().unwrap(), Some(Even(4)));
        assert_eq!(mailbox.receive().unwrap(), None);
    }
}
