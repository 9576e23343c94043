//! Handing an open connection to another worker, and waking others up.
//!
//! Every worker has an mailbox: a pair of sockets that the supervisor made before the first
//! fork, so that each process can write to each mailbox. A worker that takes over from a dead
//! one finds what was on its way to that.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relais_net::Stream;
use relais_proto::{Decode, Decoder, Encoder, Lsn, WireError, limits};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::owner::{self, Owner};
use crate::serving::Session;
use crate::staging::StagedName;

/// Longest address as text: an IPv6 one with a scope and a port.
const MAX_ADDRESS_LEN: usize = 64;
/// Longest message: both addresses, user, owner, root and a few bytes.
const MAX_MESSAGE_LEN: usize =
    2 * MAX_ADDRESS_LEN + limits::USER + owner::LONGEST + limits::PATH + 64;

/// One worker's mailbox.
#[derive(Debug)]
pub struct WorkerMailbox {
    send: OwnedFd,
    receive: OwnedFd,
}

/// What lies in an mailbox.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Somewhere a place has become free.
    SlotFree,
    /// A session that has a place here already.
    Session(Stream, Session),
    /// An upload is gone on with on another connection.
    EndUpload(StagedName),
    /// The transfer log goes on here.
    TransferLog(File),
}

impl WorkerMailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (send, receive) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { send, receive })
    }

    /// Can be read when there is mail.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }

    /// Tells the owner that a place has become free. Lost where the mailbox is full: then
    /// there is mail enough to wake it.
    pub fn notify_slot_free(&self) {
        if let Err(e) =
            rustix::net::send(&self.send, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            && e != rustix::io::Errno::AGAIN
        {
            log::warn!("cannot wake a worker: {e}");
        }
    }

    /// Hands the owner another file for the transfer log.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn send_log(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        send_with_fd(&self.send, &[3], file)
    }

    /// Tells the owner that an upload is gone on with on another connection. Lost where the mailbox is full: it is told again.
    pub fn send_end_upload(&self, name: &StagedName) {
        let mut message = vec![2];
        message.extend_from_slice(name.as_str().as_bytes());
        if let Err(e) =
            rustix::net::send(&self.send, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        {
            log::debug!("a worker is not told of an upload: {e}");
        }
    }

    /// Hands a session over, for which a place was taken in the owner's row.
    ///
    /// # Errors
    /// Those of the system call; the session stays with the caller.
    pub fn send_session(&self, stream: &Stream, session: &Session) -> io::Result<()> {
        let mut message = vec![1];
        let to = &mut Encoder::new(&mut message);
        to.short_text(&stream.peer.to_string())
            .short_text(&stream.local.to_string())
            .short_text(&session.user)
            .short_text(session.owner.as_str())
            .path(&session.root)
            .bool(session.writable)
            .bool(session.peer);
        to.u64(session.generation).u64(session.ends_ms);
        session.mark.encode(&mut Encoder::new(&mut message));
        send_with_fd(&self.send, &message, stream.socket.as_fd())
    }

    /// Takes the next mail out; none where there is none.
    ///
    /// # Errors
    /// Those of the system call, or a message that no worker writes.
    pub fn receive(&self) -> io::Result<Option<WorkerMessage>> {
        let mut message = [0; MAX_MESSAGE_LEN];
        let Some((got, fd)) = receive_with_fd(&self.receive, &mut message)? else {
            return Ok(None);
        };
        match (message[..got].split_first(), fd) {
            (Some((0, _)), None) => Ok(Some(WorkerMessage::SlotFree)),
            (Some((2, name)), None) => {
                let name = std::str::from_utf8(name).ok().and_then(StagedName::parse);
                name.map(|name| Some(WorkerMessage::EndUpload(name))).ok_or_else(unknown_message)
            }
            (Some((1, session)), Some(fd)) => {
                let (peer, local, session) =
                    decode(session).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                Ok(Some(WorkerMessage::Session(Stream { socket: fd.into(), peer, local }, session)))
            }
            (Some((3, [])), Some(fd)) => Ok(Some(WorkerMessage::TransferLog(fd.into()))),
            _ => Err(unknown_message()),
        }
    }
}

fn unknown_message() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message that no worker writes")
}

fn decode(message: &[u8]) -> Result<(SocketAddr, SocketAddr, Session), WireError> {
    let mut from = Decoder::new(message);
    let (peer, local) = (addr(&mut from)?, addr(&mut from)?);
    let user = from.short_text("user name", limits::USER)?.to_owned();
    let owner = Owner::from_text(from.short_text("owner", owner::LONGEST)?);
    let session = Session {
        user,
        owner,
        root: from.path()?,
        writable: from.bool()?,
        peer: from.bool()?,
        generation: from.u64()?,
        ends_ms: from.u64()?,
        mark: Lsn::decode(&mut from)?,
    };
    from.finish()?;
    Ok((peer, local, session))
}

fn addr(from: &mut Decoder<'_>) -> Result<SocketAddr, WireError> {
    from.short_text("address", MAX_ADDRESS_LEN)?
        .parse()
        .map_err(|_| WireError::BadValue { what: "address", value: 0 })
}

/// Sends a message and a descriptor over a socket between two processes of this slave.
///
/// # Errors
/// Those of the system call; [`io::ErrorKind::WouldBlock`] where the other side has to read first.
pub fn send_with_fd(socket: &OwnedFd, message: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no room for the descriptor"));
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(message)],
        &mut control,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a message, and the descriptor that may come with it; none where there is none now.
///
/// # Errors
/// Those of the system call.
pub fn receive_with_fd(
    socket: &OwnedFd,
    message: &mut [u8],
) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut into = [IoSliceMut::new(message)];
    let received = match rustix::net::recvmsg(socket, &mut into, &mut control, flags) {
        Ok(received) => received.bytes,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Some((received, fd)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::TreePath;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_goes_through_an_inbox_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let session = Session {
            user: "ä".repeat(100),
            owner: crate::owner::Owner::of("", std::net::IpAddr::from([192, 0, 2, 1])),
            root: TreePath::new("a/b").unwrap(),
            writable: true,
            peer: true,
            generation: 3,
            ends_ms: u64::MAX,
            mark: Lsn { epoch: 1, number: 7 },
        };
        let mailbox = WorkerMailbox::new().unwrap();
        mailbox.notify_slot_free();
        let server = Stream::tcp(server).unwrap();
        let ends = (server.peer, server.local);
        mailbox.send_session(&server, &session).unwrap();
        drop(server);
        assert!(matches!(mailbox.receive().unwrap(), Some(WorkerMessage::SlotFree)));
        let Some(WorkerMessage::Session(mut stream, got)) = mailbox.receive().unwrap() else {
            panic!("no session")
        };
        assert_eq!(got, session);
        assert!(mailbox.receive().unwrap().is_none());
        assert_eq!((stream.peer, stream.local), ends);
        stream.socket.write_all(b"hello").unwrap();
        drop(stream);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
