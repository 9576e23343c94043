//! The mailboxes of the workers: they carry short messages, and the reopened transfer log.
//!
//! Every worker has a mailbox: a socket pair that the supervisor made before the first fork, so
//! that each process can write to each mailbox. A worker that replaces a dead one receives what was
//! on its way to that worker.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use relais_proto::limits;
use relais_storage::StagedName;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most bytes of a message: the name of a staged file, and its kind.
const MAX_MESSAGE_LEN: usize = limits::NAME_PART + 1;

/// One worker's mailbox.
#[derive(Debug)]
pub struct WorkerMailbox {
    send: OwnedFd,
    receive: OwnedFd,
}

/// A message in a worker's mailbox.
#[derive(Debug)]
pub enum WorkerMessage {
    /// The number of free slots has changed.
    Slots,
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

    /// Reports that the number of free slots has changed.
    ///
    /// The message is dropped if the mailbox is full: then other messages wake the worker.
    pub fn notify_slots(&self) {
        if let Err(e) =
            rustix::net::send(&self.send, &[0], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            && e != rustix::io::Errno::AGAIN
        {
            log::warn!("cannot notify a worker of changed slots: {e}");
        }
    }

    /// Sends the reopened transfer log.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn send_log(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        send_with_fd(&self.send, &[1], file)
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
            (Some((0, _)), None) => Ok(Some(WorkerMessage::Slots)),
            (Some((2, name)), None) => {
                let name = std::str::from_utf8(name).ok().and_then(StagedName::parse);
                name.map(|name| Some(WorkerMessage::EndUpload(name))).ok_or_else(unknown_message)
            }
            (Some((1, [])), Some(fd)) => Ok(Some(WorkerMessage::TransferLog(fd.into()))),
            _ => Err(unknown_message()),
        }
    }
}

fn unknown_message() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "unknown message in a worker's mailbox")
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
    use std::io::Write;

    use relais_proto::{ChangeId, TreePath};

    use super::*;

    #[test]
    fn messages_and_files_pass_through_a_mailbox() {
        let mailbox = WorkerMailbox::new().unwrap();
        let name = StagedName::new(ChangeId([1; 16]), "ann", &TreePath::new("f").unwrap(), None);
        let (reader, end) = io::pipe().unwrap();
        mailbox.notify_slots();
        mailbox.send_end_upload(&name);
        mailbox.send_log(end.as_fd()).unwrap();
        drop(end);
        assert!(matches!(mailbox.receive().unwrap(), Some(WorkerMessage::Slots)));
        let Some(WorkerMessage::EndUpload(got)) = mailbox.receive().unwrap() else {
            panic!("no upload")
        };
        assert_eq!(got, name);
        let Some(WorkerMessage::TransferLog(mut file)) = mailbox.receive().unwrap() else {
            panic!("no file")
        };
        assert!(mailbox.receive().unwrap().is_none());
        file.write_all(b"hello").unwrap();
        drop(file);
        assert_eq!(io::read_to_string(reader).unwrap(), "hello");
    }
}
