//! The mailboxes of the workers: they pass open connections and short messages.
//!
//! Every worker has a mailbox: a socket pair that the supervisor made before the first fork, so
//! that each process can write to each mailbox. A worker that replaces a dead one receives what was
//! on its way to that worker.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relais_net::Stream;
use relais_proto::{Decoder, Encoder, Lsn, Wire, WireError, limits};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::engine::owner::{self, Owner};
use crate::engine::serving::Session;
use crate::staging::StagedName;

/// Most bytes of an address as text: an IPv6 address with scope and port.
const MAX_ADDRESS_LEN: usize = 64;
/// Most bytes of a message: two addresses, user, owner, root and a few more.
const MAX_MESSAGE_LEN: usize =
    2 * MAX_ADDRESS_LEN + limits::USER + owner::MAX_LEN + limits::PATH + 64;

/// One worker's mailbox.
#[derive(Debug)]
pub struct WorkerMailbox {
    send: OwnedFd,
    receive: OwnedFd,
}

/// A message in a worker's mailbox.
#[derive(Debug)]
pub enum WorkerMessage {
    /// A slot has become free in some worker.
    SlotFree,
    /// A session that has a slot in this worker already.
    Session(Stream, Session),
    /// An upload is resumed on another connection, so this worker ends its older connection.
    EndUpload(StagedName),
    /// The reopened transfer log.
    TransferLog(File),
}

impl WorkerMailbox {
    /// Makes an empty mailbox.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (send, receive) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok(Self { send, receive })
    }

    /// Returns the descriptor that is readable while there is a message.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.receive.as_fd()
    }

    /// Reports that a slot has become free.
    ///
    /// The message is dropped if the mailbox is full: then other messages wake the worker.
    pub fn notify_slot_free(&self) {
        if let Err(e) =
            rustix::net::send(&self.send, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            && e != rustix::io::Errno::AGAIN
        {
            log::warn!("cannot notify a worker of a free slot: {e}");
        }
    }

    /// Sends the reopened transfer log.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn send_log(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        send_with_fd(&self.send, &[3], file)
    }

    /// Asks the worker to end its connection of an upload that is resumed on another one.
    ///
    /// The message is dropped if the mailbox is full; the sender repeats it.
    pub fn send_end_upload(&self, name: &StagedName) {
        let mut message = vec![2];
        message.extend_from_slice(name.as_str().as_bytes());
        if let Err(e) =
            rustix::net::send(&self.send, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        {
            log::debug!("cannot notify a worker of a resumed upload: {e}");
        }
    }

    /// Sends a session, for which a slot was taken in the worker's row.
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
            .bool(session.is_peer);
        to.u64(session.generation).u64(session.ends_ms);
        session.seen_lsn.encode(&mut Encoder::new(&mut message));
        send_with_fd(&self.send, &message, stream.socket.as_fd())
    }

    /// Receives the next message; none if there is none.
    ///
    /// # Errors
    /// Those of the system call; [`io::ErrorKind::InvalidData`] for an unknown message.
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
    io::Error::new(io::ErrorKind::InvalidData, "unknown message in a worker's mailbox")
}

fn decode(message: &[u8]) -> Result<(SocketAddr, SocketAddr, Session), WireError> {
    let mut from = Decoder::new(message);
    let (peer, local) = (addr(&mut from)?, addr(&mut from)?);
    let user = from.short_text("user name", limits::USER)?.to_owned();
    let owner = Owner::from_text(from.short_text("owner", owner::MAX_LEN)?);
    let session = Session {
        user,
        owner,
        root: from.path()?,
        writable: from.bool()?,
        is_peer: from.bool()?,
        generation: from.u64()?,
        ends_ms: from.u64()?,
        seen_lsn: Lsn::decode(&mut from)?,
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
/// Those of the system call; [`io::ErrorKind::WouldBlock`] if the other side has to read first.
pub fn send_with_fd(socket: &OwnedFd, message: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no space for the descriptor"));
    }
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(message)],
        &mut control,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives a message, and the descriptor that may come with it; none if there is no message now.
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
    fn sessions_pass_through_a_mailbox() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let session = Session {
            user: "ä".repeat(100),
            owner: crate::engine::owner::Owner::of("", std::net::IpAddr::from([192, 0, 2, 1])),
            root: TreePath::new("a/b").unwrap(),
            writable: true,
            is_peer: true,
            generation: 3,
            ends_ms: u64::MAX,
            seen_lsn: Lsn { epoch: 1, number: 7 },
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
