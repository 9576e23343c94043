//! The channel between a session in a worker and the replicator that writes the catalogue.
//!
//! The catalogue writer listens on a socket in the metadata folder. A session that changes
//! something connects to it and sends its owner; the writer greets once it has received the owner.
//! The writer may be that of another slave of this host which serves the same folder. Proposals go
//! in; results come out in the same order. Each side notices when the other has closed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use log::warn;
use relais_engine::{Owner, ProposalChannel};
use relais_os::{MessageListener, MessageSocket, Received};
use relais_proto::{Decoder, Encoder, FolderId, Lsn, Refusal, Wire, WireError, limits, wire_enum};
use relais_storage::{MetadataFolder, Proposal, ProposalResult};
use relais_tree::TreeError;

/// Name of the writer's socket.
const SOCKET: &str = "writer.socket";
/// Most sessions that wait for the writer to accept them.
const BACKLOG: i32 = 4096;
/// Longest request in bytes: a path, and the properties of one change.
pub const REQUEST: usize = limits::PROPERTY_CHANGE + 16 * 1024;
/// Longest other message in bytes: a path and a few fields, or several results.
const ANSWER: usize = 2 * limits::PATH + 1024;
/// Most proposals of one message, so that sessions take turns.
const TOGETHER: usize = 16;
/// Bytes of queued proposals that are sent at once. With the next one they fit into one message.
const QUEUED: usize = 8 * 1024;

wire_enum! {
    /// A request of a session to the replicator.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum ChannelRequest: "request" {
        /// Make a change. The answer is a [`ProposalResult`].
        0 => Change(Proposal),
        /// List the folders that hold the content of a put. The answer is their ids.
        1 => Holders(Lsn),
    }
}

/// Sends one message; false if the other side has to read first, or has closed.
fn send(socket: &MessageSocket, encode: impl FnOnce(&mut Encoder<'_>)) -> io::Result<bool> {
    let mut bytes = Vec::new();
    encode(&mut Encoder::new(&mut bytes));
    socket.try_send(&bytes)
}

/// Reads one message.
fn receive<T>(
    socket: &MessageSocket,
    decode: impl FnOnce(&mut Decoder<'_>) -> Result<T, WireError>,
) -> io::Result<Received<T>> {
    receive_into(&mut [0; ANSWER], socket, decode)
}

/// Reads one message, which fits into a buffer.
fn receive_into<T>(
    buffer: &mut [u8],
    socket: &MessageSocket,
    decode: impl FnOnce(&mut Decoder<'_>) -> Result<T, WireError>,
) -> io::Result<Received<T>> {
    socket.receive(buffer)?.try_map(|(bytes, _)| {
        let mut from = Decoder::new(bytes);
        decode(&mut from)
            .and_then(|message| from.finish().map(|()| message))
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("bad message: {e}")))
    })
}

/// Reads values up to the end of a message, at most as many as one message has.
fn decode_all<T: Wire>(from: &mut Decoder<'_>) -> Result<Vec<T>, WireError> {
    let mut all = Vec::new();
    while all.is_empty() || !from.is_empty() && all.len() < TOGETHER {
        all.push(T::decode(from)?);
    }
    Ok(all)
}

/// Proposals that were not sent yet, as bytes.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    count: usize,
}

/// The session's end of a channel.
#[derive(Debug)]
pub struct SessionEnd {
    socket: MessageSocket,
    queue: RefCell<Queue>,
    /// Results of the last message that were not read yet.
    results: RefCell<VecDeque<ProposalResult>>,
}

impl SessionEnd {
    /// Connects to the catalogue writer, for the changes of this owner.
    ///
    /// # Errors
    /// Returns [`io::ErrorKind::WouldBlock`] if there is no writer now or it is busy, and other
    /// errors of the system calls.
    pub fn open(own: &MetadataFolder, owner: &Owner) -> io::Result<Self> {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, WouldBlock};
        let connect = || {
            let socket = MessageSocket::connect(&own.path(SOCKET))?;
            socket.send(owner.as_str().as_bytes(), None)?;
            Ok(Self { socket, queue: RefCell::default(), results: RefCell::default() })
        };
        connect().map_err(|e: io::Error| match e.kind() {
            NotFound | ConnectionRefused | ConnectionReset | BrokenPipe => WouldBlock.into(),
            _ => e,
        })
    }

    /// Sends the queued proposals; false if that is not possible now, or the writer has closed.
    fn send_queued(&self) -> io::Result<bool> {
        let mut queue = self.queue.borrow_mut();
        let is_sent = queue.count == 0 || self.socket.try_send(&queue.bytes)?;
        if is_sent {
            queue.bytes.clear();
            queue.count = 0;
        }
        Ok(is_sent)
    }
}

impl ProposalChannel for SessionEnd {
    fn read_greeting(&self) -> io::Result<Received<()>> {
        receive(&self.socket, |from| from.bool().map(drop))
    }

    fn propose(&self, proposal: &Proposal) -> io::Result<bool> {
        let is_full = |queue: &Queue| queue.count == TOGETHER || queue.bytes.len() >= QUEUED;
        if is_full(&self.queue.borrow()) && !self.send_queued()? {
            return Ok(false);
        }
        let mut queue = self.queue.borrow_mut();
        // It is the encoding of `ChannelRequest::Change`, without a copy of the proposal.
        proposal.encode(Encoder::new(&mut queue.bytes).u8(0));
        queue.count += 1;
        Ok(true)
    }

    fn read_result(&self) -> io::Result<Received<ProposalResult>> {
        let mut results = self.results.borrow_mut();
        if results.is_empty() {
            match receive(&self.socket, decode_all)? {
                Received::Message(all) => results.extend::<Vec<_>>(all),
                Received::Nothing => return Ok(Received::Nothing),
                Received::Gone => return Ok(Received::Gone),
            }
        }
        Ok(results.pop_front().map_or(Received::Nothing, Received::Message))
    }

    fn ask_holders(&self, put: Lsn) -> io::Result<bool> {
        Ok(self.send_queued()? && send(&self.socket, |to| ChannelRequest::Holders(put).encode(to))?)
    }

    fn read_holders(&self) -> io::Result<Received<Vec<FolderId>>> {
        receive(&self.socket, |from| from.list("holders", limits::HOLDERS))
    }

    fn prepare_wait(&self) -> BorrowedFd<'_> {
        if let Err(e) = self.send_queued() {
            // Reading the next result fails too, or the session gives up waiting for it.
            warn!("cannot send proposals to the catalogue writer: {e}");
        }
        self.socket.as_fd()
    }
}

/// Listens for channels. The caller holds the writer lock, so an existing socket is stale.
///
/// # Errors
/// Returns the errors of the folder and of the system calls.
pub fn listen(own: &MetadataFolder) -> io::Result<MessageListener> {
    match own.folder().unlink(SOCKET) {
        Ok(()) | Err(TreeError::NotFound) => {}
        Err(e) => return Err(io::Error::other(e)),
    }
    MessageListener::bind(&own.path(SOCKET), BACKLOG)
}

/// Returns device and inode of the socket's file. If they change, sessions cannot find the
/// listener.
///
/// # Errors
/// Returns the errors of the folder.
pub fn socket_identity(own: &MetadataFolder) -> io::Result<(u64, u64)> {
    let meta = own.folder().stat_part(SOCKET.as_bytes()).map_err(io::Error::other)?;
    Ok((meta.dev, meta.ino))
}

/// Appends a result. All pending results must fit into the socket, so a long path is left out: the
/// client knows which path it asked for.
fn encode_result(answer: &ProposalResult, to: &mut Vec<u8>) {
    match answer {
        Err(Refusal { message, path: Some(path), .. })
            if message.len() + path.as_str().len() > limits::TEXT =>
        {
            let short = answer.clone().map_err(|refusal| Refusal { path: None, ..refusal });
            short.encode(&mut Encoder::new(to));
        }
        answer => answer.encode(&mut Encoder::new(to)),
    }
}

/// The replicator's end of a channel.
#[derive(Debug)]
pub struct ReplicatorEnd(pub MessageSocket);

impl ReplicatorEnd {
    /// Reads the owner, which is the first message, and greets.
    ///
    /// # Errors
    /// Returns the errors of the system calls, or an error for a malformed owner.
    pub fn greet(&self) -> io::Result<Received<Owner>> {
        let owner = self.0.receive(&mut [0; ANSWER])?.try_map(|(bytes, _)| {
            std::str::from_utf8(bytes).map(Owner::from_text).map_err(io::Error::other)
        })?;
        if let Received::Message(_) = owner {
            send(&self.0, |to| true.encode(to))?;
        }
        Ok(owner)
    }

    /// Reads the next requests, through a buffer of [`REQUEST`] bytes.
    ///
    /// # Errors
    /// Returns the error of the system call, or an error for a malformed message.
    pub fn next_requests(&self, buffer: &mut [u8]) -> io::Result<Received<Vec<ChannelRequest>>> {
        receive_into(buffer, &self.0, decode_all)
    }

    /// Answers the oldest unanswered proposals. Returns `false` if a result cannot be sent; the
    /// channel is then useless.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn answer(&self, answers: &[ProposalResult]) -> io::Result<bool> {
        let mut message = Vec::new();
        for some in answers.chunks(TOGETHER) {
            message.clear();
            for answer in some {
                let at = message.len();
                encode_result(answer, &mut message);
                if message.len() > ANSWER {
                    let last = message.split_off(at);
                    if !self.0.try_send(&message)? {
                        return Ok(false);
                    }
                    message = last;
                }
            }
            if !self.0.try_send(&message)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends the holders of a content. Returns `false` if they cannot be sent.
    ///
    /// # Errors
    /// Returns the error of the system call.
    pub fn send_holders(&self, holders: &[FolderId]) -> io::Result<bool> {
        send(&self.0, |to| {
            to.list(holders, FolderId::encode);
        })
    }
}

impl AsFd for ReplicatorEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_engine::MOST_PENDING;
    use relais_proto::{
        Change, ChangeId, ContentHashes, ErrorCode, Expect, LockToken, PropertyChange,
        PropertyName, Sha256, TreePath,
    };
    use relais_storage::{CommitReceipt, StagedName};
    use relais_tree::Folder;
    use tempfile::TempDir;

    fn folder() -> (TempDir, MetadataFolder) {
        let dir = tempfile::tempdir().unwrap();
        let own = MetadataFolder::create(&Folder::open(dir.path()).unwrap()).unwrap();
        (dir, own)
    }

    /// Opens a channel; returns both ends, the replicator's without a greeting.
    fn channel(own: &MetadataFolder, listener: &MessageListener) -> (SessionEnd, ReplicatorEnd) {
        let session = SessionEnd::open(own, &Owner::from_text("ann")).unwrap();
        (session, ReplicatorEnd(listener.accept().unwrap()))
    }

    /// Sends a proposal at once.
    fn propose(session: &SessionEnd, proposal: &Proposal) {
        assert!(session.propose(proposal).unwrap());
        assert!(session.send_queued().unwrap());
    }

    #[test]
    fn channel_carries_proposals_and_results_until_it_closes() {
        let (_dir, own) = folder();
        let listener = listen(&own).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (session, replicator) = channel(&own, &listener);
        assert_eq!(session.read_greeting().unwrap(), Received::Nothing);
        assert_eq!(replicator.greet().unwrap(), Received::Message(Owner::from_text("ann")));
        assert_eq!(session.read_greeting().unwrap(), Received::Message(()));
        let path = TreePath::new("x".repeat(250) + "/" + &"y".repeat(250)).unwrap();
        let proposal = Proposal {
            id: ChangeId([1; 16]),
            change: Change::Move { from: path.clone(), to: path.clone() },
            expect: Expect::Lsn(Lsn { epoch: 1, number: 2 }),
            staged: Some(StagedName::new(ChangeId([1; 16]), "ann", &path, None)),
            keep_mode: true,
            tokens: vec![LockToken([7; 16])],
            synced: true,
            copies: 0,
            hashes: None,
        };
        let mut buffer = vec![0; REQUEST];
        propose(&session, &proposal);
        assert_eq!(
            replicator.next_requests(&mut buffer).unwrap(),
            Received::Message(vec![ChannelRequest::Change(proposal.clone())])
        );
        assert_eq!(replicator.next_requests(&mut buffer).unwrap(), Received::Nothing);
        for answer in [
            Ok(CommitReceipt::new(Lsn { epoch: 1, number: 7 })),
            Err(Refusal::new(ErrorCode::NotFound, "no")),
        ] {
            assert!(replicator.answer(std::slice::from_ref(&answer)).unwrap());
            assert_eq!(session.read_result().unwrap(), Received::Message(answer));
        }
        drop(replicator);
        assert_eq!(session.read_result().unwrap(), Received::Gone);
        // It is queued, and found to be lost when it is sent.
        assert!(session.propose(&proposal).unwrap());
        assert!(!session.send_queued().unwrap());
    }

    #[test]
    fn longest_requests_fit_into_one_message() {
        let (_dir, own) = folder();
        let listener = listen(&own).unwrap();
        let (session, replicator) = channel(&own, &listener);
        replicator.greet().unwrap();
        let path = TreePath::new(vec!["x".repeat(255); 16].join("/")[..limits::PATH].to_owned());
        let path = path.unwrap();
        let property = |n: usize, bytes: usize| PropertyChange {
            name: PropertyName { namespace: String::new(), local: format!("{n:03}") },
            value: Some("v".repeat(bytes - 3)),
        };
        let bytes = limits::PROPERTY_CHANGE / limits::PROPERTIES;
        let changes: Vec<_> = (0..limits::PROPERTIES).map(|n| property(n, bytes)).collect();
        PropertyChange::check_sizes(&changes).unwrap();
        let tokens = vec![LockToken([1; 16]); limits::LOCK_TOKENS];
        let properties = Proposal {
            tokens: tokens.clone(),
            ..Proposal::new(
                ChangeId([1; 16]),
                Change::SetProperties { path: path.clone(), changes },
            )
        };
        let pieces = vec![Sha256([2; 32]); limits::SHA256_PIECES];
        let hashes = ContentHashes { sha256: Sha256([1; 32]), piece_size: limits::PIECE, pieces };
        let remove = Change::Remove { path, recursive: true };
        let hashes =
            Proposal { tokens, hashes: Some(hashes), ..Proposal::new(ChangeId([2; 16]), remove) };
        let mut buffer = vec![0; REQUEST];
        for proposal in [properties, hashes] {
            propose(&session, &proposal);
            assert_eq!(
                replicator.next_requests(&mut buffer).unwrap(),
                Received::Message(vec![ChannelRequest::Change(proposal)])
            );
        }
    }

    #[test]
    fn most_pending_messages_fit_into_the_socket_buffers() {
        let (_dir, own) = folder();
        let listener = listen(&own).unwrap();
        let (session, replicator) = channel(&own, &listener);
        for n in 0..MOST_PENDING {
            assert!(session.socket.try_send(&[0; 400]).unwrap(), "proposal {n}");
            assert!(
                replicator
                    .answer(&[Err(Refusal::new(ErrorCode::NotFound, "m".repeat(200)))])
                    .unwrap(),
                "answer {n}"
            );
        }
    }

    #[test]
    fn many_proposals_and_results_share_messages_and_keep_their_order() {
        let (_dir, own) = folder();
        let listener = listen(&own).unwrap();
        let (session, replicator) = channel(&own, &listener);
        replicator.greet().unwrap();
        session.read_greeting().unwrap();
        let folder = |n: usize| Change::MakeFolder {
            path: TreePath::new(format!("{n:0200}")).unwrap(),
            mode: relais_proto::Mode::new(0o755),
        };
        let proposals: Vec<_> = (0..MOST_PENDING)
            .map(|n| Proposal::new(ChangeId([u8::try_from(n).unwrap(); 16]), folder(n)))
            .collect();
        for proposal in &proposals {
            assert!(session.propose(proposal).unwrap());
        }
        session.prepare_wait();
        let (mut buffer, mut got, mut messages) = (vec![0; REQUEST], Vec::new(), 0);
        while let Received::Message(some) = replicator.next_requests(&mut buffer).unwrap() {
            messages += 1;
            got.extend(some);
        }
        let sent: Vec<_> = proposals.into_iter().map(ChannelRequest::Change).collect();
        assert!(got == sent && messages == MOST_PENDING / TOGETHER, "{messages}");
        // Some of the results are as long as can be, so a message has fewer of them.
        let results: Vec<ProposalResult> = (0..MOST_PENDING)
            .map(|n| match n % 40 {
                0..20 => Ok(CommitReceipt::new(Lsn { epoch: 1, number: n as u64 })),
                _ => Err(Refusal::new(ErrorCode::NotFound, "m".repeat(limits::TEXT))),
            })
            .collect();
        assert!(replicator.answer(&results).unwrap());
        for result in results {
            assert_eq!(session.read_result().unwrap(), Received::Message(result));
        }
        assert_eq!(session.read_result().unwrap(), Received::Nothing);
    }

    #[test]
    fn message_with_too_many_proposals_is_refused() {
        let (_dir, own) = folder();
        let listener = listen(&own).unwrap();
        let (session, replicator) = channel(&own, &listener);
        replicator.greet().unwrap();
        let mut message = Vec::new();
        for _ in 0..=TOGETHER {
            ChannelRequest::Holders(Lsn::default()).encode(&mut Encoder::new(&mut message));
        }
        assert!(session.socket.try_send(&message).unwrap());
        let refused = replicator.next_requests(&mut [0; 4096]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn long_paths_are_left_out_of_results() {
        let (_dir, own) = folder();
        let listener = listen(&own).unwrap();
        let (session, replicator) = channel(&own, &listener);
        let long = TreePath::new(vec!["x".repeat(200); 4].join("/")).unwrap();
        for (path, kept) in [(TreePath::new("short").unwrap(), true), (long, false)] {
            let refusal = Refusal::at(&path, ErrorCode::NotFound, "m".repeat(limits::TEXT - 10));
            assert!(replicator.answer(&[Err(refusal.clone())]).unwrap());
            let expected = Refusal { path: kept.then_some(path), ..refusal };
            assert_eq!(session.read_result().unwrap(), Received::Message(Err(expected)));
        }
    }

    #[test]
    fn channels_go_to_the_present_writer() {
        let (_dir, own) = folder();
        let owner = Owner::from_text("ann");
        let no_writer = |own| SessionEnd::open(own, &owner).unwrap_err().kind();
        assert_eq!(no_writer(&own), io::ErrorKind::WouldBlock);
        for _ in 0..2 {
            // The second writer takes over from the first.
            let listener = listen(&own).unwrap();
            let (session, replicator) = channel(&own, &listener);
            replicator.greet().unwrap();
            assert_eq!(session.read_greeting().unwrap(), Received::Message(()));
            let waiting = SessionEnd::open(&own, &owner).unwrap();
            drop((listener, replicator));
            assert_eq!(session.read_result().unwrap(), Received::Gone);
            assert_eq!(waiting.read_greeting().unwrap(), Received::Gone);
            assert_eq!(no_writer(&own), io::ErrorKind::WouldBlock);
        }
    }
}
