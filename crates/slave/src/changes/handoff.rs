//! Hands the channels of sessions to the slave that writes the catalogue. Several slaves of a host
//! may serve one folder. The socket is in the metadata folder.
//!
//! A channel is a pair of descriptors. A slave that does not hold the writer lock passes the
//! replicator's end on. The catalogue writer answers on it as on the channels of its own sessions.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use log::debug;
use relais_storage::FOLDER;
use relais_tree::{Folder, TreeError};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind,
    connect, listen, recvmsg, sendmsg, socket_with,
};

use super::channel::ReplicatorEnd;

/// Name of the socket.
const SOCKET: &str = "keeper";
/// Most slaves that wait for the writer to accept.
const BACKLOG: i32 = 16;

fn flags() -> SocketFlags {
    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK
}

/// Returns the socket address by descriptor, because the path may be longer than an address allows.
fn address(own: &Folder) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", own.as_fd().as_raw_fd()))
}

/// Receives channels in the slave that holds the writer lock.
#[derive(Debug)]
pub struct HandoffListener {
    listener: OwnedFd,
    clients: Vec<OwnedFd>,
}

impl HandoffListener {
    /// Binds the socket. The caller holds the writer lock, so an existing socket is stale.
    ///
    /// # Errors
    /// Returns the errors of the folder and of the system calls.
    pub fn bind(root: &Folder) -> io::Result<Self> {
        let own = root.sub(FOLDER).map_err(io::Error::other)?;
        match own.unlink(SOCKET) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => return Err(io::Error::other(e)),
        }
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?;
        bind(&listener, &address(&own)?)?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// Returns the descriptors to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(AsFd::as_fd))
    }

    /// Receives the channels that other slaves handed off.
    pub fn receive_channels(&mut self) -> Vec<ReplicatorEnd> {
        while let Ok(client) = accept_with(&self.listener, flags()) {
            self.clients.push(client);
        }
        let mut taken = Vec::new();
        self.clients.retain(|client| {
            loop {
                match receive(client) {
                    Ok(Some(fd)) => taken.extend(
                        ReplicatorEnd::greet(fd).inspect_err(|e| debug!("a channel was lost: {e}")),
                    ),
                    Ok(None) => return true,
                    Err(e) => {
                        debug!("another slave of this folder has closed its connection: {e}");
                        return false;
                    }
                }
            }
        });
        taken
    }
}

/// Receives the next descriptor. Returns `None` if there is none now.
fn receive(client: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    match recvmsg(
        client,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC,
    ) {
        Ok(got) if got.bytes == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => {
            let fd = control.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            fd.map(Some).ok_or_else(|| io::Error::other("the message has no descriptor"))
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Passes channels to the slave that holds the writer lock.
#[derive(Debug, Default)]
pub struct HandoffClient {
    socket: Option<OwnedFd>,
}

impl HandoffClient {
    /// Passes a channel to the catalogue writer.
    ///
    /// # Errors
    /// Returns an error if there is no writer now. The channel is then closed, and its session
    /// opens another.
    pub fn hand_off(&mut self, root: &Folder, channel: &OwnedFd) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && send(socket, channel).is_ok()
        {
            return Ok(());
        }
        let own = root.sub(FOLDER).map_err(io::Error::other)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags(), None)?;
        connect(&socket, &address(&own)?)?;
        send(&socket, channel)?;
        self.socket = Some(socket);
        Ok(())
    }
}

fn send(socket: &OwnedFd, channel: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [channel.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("no space for the descriptor"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::channel::{ProposalSocket, Received};

    #[test]
    fn handed_off_channel_works() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let (proposal_socket, mut client) =
            (ProposalSocket::new().unwrap(), HandoffClient::default());
        let owner = crate::engine::owner::Owner::from_text("ann");
        let session = proposal_socket.open(&owner).unwrap();
        let channel = proposal_socket.receive().unwrap().unwrap();
        assert!(client.hand_off(&root, &channel).is_err(), "there is no catalogue writer");
        drop(channel);
        assert_eq!(session.read_greeting().unwrap(), Received::Gone);
        for _ in 0..2 {
            // The second writer takes over from the first.
            let mut listener = HandoffListener::bind(&root).unwrap();
            let session = proposal_socket.open(&owner).unwrap();
            let channel = proposal_socket.receive().unwrap().unwrap();
            client.hand_off(&root, &channel).unwrap();
            drop(channel);
            let taken = listener.receive_channels();
            assert_eq!(taken.len(), 1);
            assert_eq!(taken[0].owner(), &owner);
            assert_eq!(session.read_greeting().unwrap(), Received::Message(()));
            drop(taken);
            assert_eq!(session.read_greeting().unwrap(), Received::Gone);
        }
    }
}
