//! The channel between a session in a worker and the replicator.
//!
//! The proposal socket is a pair of sockets that exists before the first fork. All workers write to
//! it, and the current replicator reads it. A session that changes something creates a channel,
//! which is another pair of sockets. It sends its owner on the channel and passes the other end
//! over the proposal socket. The replicator greets on the channel when it has received it.
//! Proposals go in; results come out in the same order. Each side notices when the other has
//! closed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use relais_engine::{Owner, ProposalChannel};
use relais_os::{MessageSocket, ProcessMailbox, Received};
use relais_proto::{FolderId, Lsn, limits};
use relais_storage::{Proposal, ProposalResult};

use super::{ChannelRequest, decode_result, encode_result};

/// Longest message in bytes: two paths and a few fields.
const MESSAGE: usize = 2 * limits::PATH + 1024;
/// Reads one message, and converts it.
fn receive<T>(
    socket: &MessageSocket,
    convert: impl FnOnce(&[u8]) -> io::Result<T>,
) -> io::Result<Received<T>> {
    socket.receive(&mut [0; MESSAGE])?.try_map(|(bytes, _)| convert(bytes))
}

fn malformed(e: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed message: {e}"))
}

/// Passes channels from sessions to the replicator.
#[derive(Debug)]
pub struct ProposalSocket {
    mailbox: ProcessMailbox<MessageSocket>,
}

impl ProposalSocket {
    /// Creates an empty socket pair.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn new() -> io::Result<Self> {
        Ok(Self { mailbox: ProcessMailbox::new()? })
    }

    /// Opens a channel for this owner and passes its other end to the replicator.
    ///
    /// # Errors
    /// Returns [`io::ErrorKind::WouldBlock`] if the socket is full, and the errors of the system
    /// calls.
    pub fn open(&self, owner: &Owner) -> io::Result<SessionEnd> {
        let (ours, theirs) = MessageSocket::pair()?;
        // The owner is sent before the channel is passed, so the receiver need not wait for it. An
        // empty message would look like the end.
        ours.send(format!(" {}", owner.as_str()).as_bytes(), None)?;
        self.mailbox.send(&theirs)?;
        Ok(SessionEnd(ours))
    }

    /// Returns a descriptor that is readable when a channel waits.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.mailbox.as_fd()
    }

    /// Receives a channel and greets on it. Returns `None` if no channel waits.
    ///
    /// # Errors
    /// Returns the errors of the system calls.
    pub fn accept(&self) -> io::Result<Option<ReplicatorEnd>> {
        self.receive()?.map(ReplicatorEnd::greet).transpose()
    }

    /// Receives a channel without a greeting, to pass it on.
    ///
    /// # Errors
    /// Returns the errors of the system calls.
    pub fn receive(&self) -> io::Result<Option<MessageSocket>> {
        self.mailbox.receive()
    }
}

/// The session's end of a channel.
#[derive(Debug)]
pub struct SessionEnd(MessageSocket);

impl ProposalChannel for SessionEnd {
    fn read_greeting(&self) -> io::Result<Received<()>> {
        receive(&self.0, |_| Ok(()))
    }

    fn propose(&self, proposal: &Proposal) -> io::Result<bool> {
        self.0.try_send(&ChannelRequest::change(proposal))
    }

    fn read_result(&self) -> io::Result<Received<ProposalResult>> {
        receive(&self.0, |bytes| decode_result(bytes).map_err(malformed))
    }

    fn ask_holders(&self, put: Lsn) -> io::Result<bool> {
        self.0.try_send(&ChannelRequest::holders(put))
    }

    fn read_holders(&self) -> io::Result<Received<Vec<FolderId>>> {
        receive(&self.0, |bytes| {
            let (ids, rest) = bytes.as_chunks::<16>();
            if !rest.is_empty() {
                return Err(malformed("truncated id"));
            }
            Ok(ids.iter().map(|id| FolderId(*id)).collect())
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The replicator's end of a channel.
#[derive(Debug)]
pub struct ReplicatorEnd {
    socket: MessageSocket,
    owner: Owner,
}

impl ReplicatorEnd {
    /// Reads the owner of a channel and greets on it.
    ///
    /// # Errors
    /// Returns the errors of the system calls, or an error if the owner is missing.
    pub fn greet(socket: MessageSocket) -> io::Result<Self> {
        let Received::Message(owner) = receive(&socket, |bytes| {
            let text = std::str::from_utf8(bytes).map_err(malformed)?;
            Ok(Owner::from_text(text.trim_start_matches(' ')))
        })?
        else {
            return Err(malformed("missing owner"));
        };
        socket.try_send(&[0])?;
        Ok(Self { socket, owner })
    }

    /// Returns the owner whose changes come over the channel.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Reads the next request.
    ///
    /// # Errors
    /// Returns the error of the system call, or an error for a malformed message.
    pub fn next_request(&self) -> io::Result<Received<ChannelRequest>> {
        receive(&self.socket, |bytes| ChannelRequest::from_bytes(bytes).map_err(malformed))
    }

    /// Answers the oldest unanswered proposal. Returns `false` if the result cannot be sent; the
    /// channel is then useless.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn answer(&self, answer: &ProposalResult) -> io::Result<bool> {
        self.socket.try_send(&encode_result(answer))
    }

    /// Sends the holders of a content. Returns `false` if they cannot be sent.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn send_holders(&self, holders: &[FolderId]) -> io::Result<bool> {
        // An empty message would look like the end.
        let none = [FolderId([0; 16])];
        let holders = if holders.is_empty() { &none } else { holders };
        self.socket.try_send(&holders.iter().flat_map(|folder| folder.0).collect::<Vec<u8>>())
    }
}

impl AsFd for ReplicatorEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_engine::MOST_PENDING;
    use relais_proto::{Change, ChangeId, ErrorCode, Expect, Lsn, Refusal, TreePath};
    use relais_storage::{CommitReceipt, StagedName};

    #[test]
    fn channel_carries_proposals_and_results_until_it_closes() {
        let proposal_socket = ProposalSocket::new().unwrap();
        assert!(proposal_socket.accept().unwrap().is_none());
        let session = proposal_socket.open(&Owner::from_text("ann")).unwrap();
        assert_eq!(session.read_greeting().unwrap(), Received::Nothing);
        let replicator = proposal_socket.accept().unwrap().unwrap();
        assert_eq!(session.read_greeting().unwrap(), Received::Message(()));
        assert_eq!(replicator.owner().as_str(), "ann");
        let path = TreePath::new("x".repeat(250) + "/" + &"y".repeat(250)).unwrap();
        let proposal = Proposal {
            id: ChangeId([1; 16]),
            change: Change::Move { from: path.clone(), to: path.clone() },
            expect: Expect::Lsn(Lsn { epoch: 1, number: 2 }),
            staged: Some(StagedName::new(ChangeId([1; 16]), "ann", &path, None)),
            keep_mode: true,
            synced: true,
            copies: 0,
        };
        assert!(session.propose(&proposal).unwrap());
        assert_eq!(
            replicator.next_request().unwrap(),
            Received::Message(ChannelRequest::Change(proposal.clone()))
        );
        assert_eq!(replicator.next_request().unwrap(), Received::Nothing);
        for answer in [
            Ok(CommitReceipt::new(Lsn { epoch: 1, number: 7 })),
            Err(Refusal::new(ErrorCode::NotFound, "no")),
        ] {
            assert!(replicator.answer(&answer).unwrap());
            assert_eq!(session.read_result().unwrap(), Received::Message(answer));
        }
        drop(replicator);
        assert_eq!(session.read_result().unwrap(), Received::Gone);
        assert!(!session.propose(&proposal).unwrap());
    }

    #[test]
    fn most_pending_messages_fit_into_the_socket_buffers() {
        let proposal_socket = ProposalSocket::new().unwrap();
        let session = proposal_socket.open(&Owner::from_text("ann")).unwrap();
        let replicator = proposal_socket.accept().unwrap().unwrap();
        assert_eq!(session.read_greeting().unwrap(), Received::Message(()));
        for n in 0..MOST_PENDING {
            assert!(session.0.try_send(&[0; 400]).unwrap(), "proposal {n}");
            assert!(
                replicator
                    .answer(&Err(Refusal::new(ErrorCode::NotFound, "m".repeat(200))))
                    .unwrap(),
                "answer {n}"
            );
        }
    }
}
