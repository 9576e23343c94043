//! Sockets between processes of this host: they carry messages, each with at most one descriptor.
//!
//! The only module that passes descriptors. No call blocks. A message arrives whole or not at all.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The result of reading a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message was read.
    Message(T),
    /// There is no message now.
    Nothing,
    /// The other side has closed.
    Gone,
}

impl<T> Received<T> {
    /// Converts the message, or returns the error of the conversion.
    ///
    /// # Errors
    /// The error of `convert`.
    pub fn try_map<U>(self, convert: impl FnOnce(T) -> io::Result<U>) -> io::Result<Received<U>> {
        Ok(match self {
            Self::Message(message) => Received::Message(convert(message)?),
            Self::Nothing => Received::Nothing,
            Self::Gone => Received::Gone,
        })
    }
}

/// One end of a connection that carries messages and descriptors.
#[derive(Debug)]
pub struct MessageSocket(OwnedFd);

impl MessageSocket {
    /// Makes two connected ends.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn pair() -> io::Result<(Self, Self)> {
        let kind = SocketType::SEQPACKET;
        let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags(), None)?;
        Ok((Self(one), Self(other)))
    }

    /// Connects to the [`MessageListener`] at `path`.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = unconnected()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(socket))
    }

    /// Sends a message, which is not empty, and a descriptor.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the other side has to read first; other errors of the
    /// system call.
    pub fn send(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        debug_assert!(!message.is_empty(), "an empty message looks like the end");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = fd.as_slice();
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("no space for the descriptor"));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.0, &[IoSlice::new(message)], &mut control, flags)?;
        Ok(())
    }

    /// Sends a message; false if the other side has to read first, or has closed.
    ///
    /// # Errors
    /// Other errors of the system call.
    pub fn try_send(&self, message: &[u8]) -> io::Result<bool> {
        match self.send(message, None) {
            Ok(()) => Ok(true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN | Errno::INTR | Errno::PIPE | Errno::CONNRESET) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Reads a message into `buffer`, and the descriptor that may come with it.
    ///
    /// # Errors
    /// Errors of the system call.
    pub fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> io::Result<Received<(&'a [u8], Option<OwnedFd>)>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut receive =
            || rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, flags);
        let mut received = receive();
        // The error is reported once if the other side closed without reading all. Its earlier
        // messages can still be read.
        if matches!(received, Err(Errno::CONNRESET)) {
            received = receive();
        }
        let len = match received {
            Ok(received) if received.bytes > 0 => received.bytes,
            Ok(_) | Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Received::Gone),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok(Received::Message((&buffer[..len], fd)))
    }
}

impl AsFd for MessageSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket with a path, to which other processes connect.
#[derive(Debug)]
pub struct MessageListener(OwnedFd);

impl MessageListener {
    /// Binds `path`, which does not exist; at most `backlog` processes wait to be accepted.
    ///
    /// # Errors
    /// Errors of the system calls.
    pub fn bind(path: &Path, backlog: i32) -> io::Result<Self> {
        let socket = unconnected()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, backlog)?;
        Ok(Self(socket))
    }

    /// Accepts a connection.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none; other errors of the system call.
    pub fn accept(&self) -> io::Result<MessageSocket> {
        Ok(MessageSocket(rustix::net::accept_with(&self.0, flags())?))
    }
}

impl AsFd for MessageListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

fn unconnected() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn text(socket: &MessageSocket) -> Received<(String, bool)> {
        let mut buffer = [0; 16];
        let received = socket.receive(&mut buffer).unwrap();
        received
            .try_map(|(bytes, fd)| Ok((String::from_utf8_lossy(bytes).into_owned(), fd.is_some())))
            .unwrap()
    }

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (one, other) = MessageSocket::pair().unwrap();
        assert_eq!(text(&other), Received::Nothing);
        let (mut reader, writer) = io::pipe().unwrap();
        one.send(b"first", None).unwrap();
        one.send(b"second", Some(writer.as_fd())).unwrap();
        drop(writer);
        assert_eq!(text(&other), Received::Message(("first".to_owned(), false)));
        let mut buffer = [0; 16];
        let Received::Message((b"second", Some(fd))) = other.receive(&mut buffer).unwrap() else {
            panic!("the descriptor is missing")
        };
        io::PipeWriter::from(fd).write_all(b"through it").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through it");
    }

    #[test]
    fn what_was_sent_before_the_end_is_read() {
        let (one, other) = MessageSocket::pair().unwrap();
        other.send(b"unread", None).unwrap();
        one.send(b"last", None).unwrap();
        drop(one);
        assert_eq!(text(&other), Received::Message(("last".to_owned(), false)));
        assert_eq!(text(&other), Received::Gone);
        assert!(!other.try_send(b"x").unwrap());
    }

    #[test]
    fn a_full_socket_takes_no_more() {
        let (one, other) = MessageSocket::pair().unwrap();
        let sent = (0..100_000).take_while(|_| one.try_send(b"x").unwrap()).count();
        assert!((10..100_000).contains(&sent), "{sent}");
        let full = one.send(b"x", None).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(text(&other), Received::Message(("x".to_owned(), false)));
    }

    #[test]
    fn a_listener_accepts_each_connection_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(MessageSocket::connect(&path).is_err());
        let listener = MessageListener::bind(&path, 4).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let connected = MessageSocket::connect(&path).unwrap();
        connected.send(b"hello", None).unwrap();
        let accepted = listener.accept().unwrap();
        assert_eq!(text(&accepted), Received::Message(("hello".to_owned(), false)));
        assert!(listener.accept().is_err());
    }
}
