//! Hands the channels of sessions to the slave that writes the catalogue. Several slaves of a host
//! may serve one folder. The socket is in the metadata folder.
//!
//! A channel is a pair of descriptors. A slave that does not hold the writer lock passes the
//! replicator's end on. The catalogue writer answers on it as on the channels of its own sessions.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;

use log::debug;
use relais_os::{MessageListener, MessageSocket, ProcessMessage, Received};
use relais_storage::FOLDER;
use relais_tree::{Folder, TreeError};

use super::channel::ReplicatorEnd;

/// Name of the socket.
const SOCKET: &str = "writer.socket";
/// Most slaves that wait for the writer to accept.
const BACKLOG: i32 = 16;

/// Returns the path by descriptor, because its own may be longer than a socket allows.
fn path(own: &Folder) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", own.as_fd().as_raw_fd()))
}

/// Receives channels in the slave that holds the writer lock.
#[derive(Debug)]
pub struct HandoffListener {
    listener: MessageListener,
    clients: Vec<MessageSocket>,
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
        let listener = MessageListener::bind(&path(&own), BACKLOG)?;
        Ok(Self { listener, clients: Vec::new() })
    }

    /// Returns the descriptors to poll.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(AsFd::as_fd))
    }

    /// Receives the channels that other slaves handed off.
    pub fn receive_channels(&mut self) -> Vec<ReplicatorEnd> {
        while let Ok(client) = self.listener.accept() {
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

/// Receives the next channel. Returns `None` if there is none now.
fn receive(client: &MessageSocket) -> io::Result<Option<MessageSocket>> {
    match client.receive(&mut [0])? {
        Received::Message((bytes, fd)) => MessageSocket::decode(bytes, fd)
            .map(Some)
            .ok_or_else(|| io::Error::other("the message has no descriptor")),
        Received::Nothing => Ok(None),
        Received::Gone => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Passes channels to the slave that holds the writer lock.
#[derive(Debug, Default)]
pub struct HandoffClient {
    socket: Option<MessageSocket>,
}

impl HandoffClient {
    /// Passes a channel to the catalogue writer.
    ///
    /// # Errors
    /// Returns an error if there is no writer now. The channel is then closed, and its session
    /// opens another.
    pub fn hand_off(&mut self, root: &Folder, channel: &MessageSocket) -> io::Result<()> {
        if let Some(socket) = &self.socket
            && send(socket, channel).is_ok()
        {
            return Ok(());
        }
        let own = root.sub(FOLDER).map_err(io::Error::other)?;
        let socket = MessageSocket::connect(&path(&own))?;
        send(&socket, channel)?;
        self.socket = Some(socket);
        Ok(())
    }
}

fn send(socket: &MessageSocket, channel: &MessageSocket) -> io::Result<()> {
    let (bytes, fd) = channel.encode();
    socket.send(&bytes, fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_engine::ProposalChannel;
    use relais_os::Received;

    use crate::changes::channel::ProposalSocket;

    #[test]
    fn handed_off_channel_works() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let (proposal_socket, mut client) =
            (ProposalSocket::new().unwrap(), HandoffClient::default());
        let owner = relais_engine::Owner::from_text("ann");
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
