//! What the engine needs from the processes around it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use relais_auth::EndedTickets;
use relais_os::Received;
use relais_proto::{FolderId, Lsn, Metrics, TreePath};
use relais_storage::upload_table::UploadTable;
use relais_storage::{Proposal, ProposalResult, StagedName};

use crate::owner::Owner;
use crate::protocol::Protocol;

/// Most unanswered proposals of one channel.
///
/// So many small messages fit into the buffers in both directions, so neither side blocks on the
/// other.
pub const MOST_PENDING: usize = 128;

/// The process in which the engine runs, with what it shares with others.
pub trait Host: Send + Sync {
    /// Returns the latest change that may be part of what was read before this call.
    ///
    /// It is 0-0 until the catalogue writer has recorded it after a start.
    fn visible_lsn(&self) -> Lsn;
    /// Returns the latest change that is applied to folder and catalogue.
    fn applied_lsn(&self) -> Lsn;
    /// Returns the generation of the accounts.
    fn generation(&self) -> u64;
    /// Returns the time by which logins end, in milliseconds since 1970 UTC.
    fn now_ms(&self) -> u64;
    /// Returns the tickets whose users have logged out.
    fn ended_tickets(&self) -> EndedTickets<'_>;
    /// Whether the slave gives its sessions up.
    fn is_draining(&self) -> bool;
    /// Returns how long the link to the master has been down; none if it is up or never was.
    fn disconnected_for(&self) -> Option<Duration>;
    /// Returns how many disks must hold the content of a put that names no number itself.
    fn copies(&self) -> u16;
    /// Adds the metrics of the pool to those of the folder.
    fn with_pool_metrics(&self, metrics: Metrics) -> Metrics;
    /// Whether the folder's path no longer leads to the served folder.
    fn is_displaced(&self) -> bool;
    /// Whether the journal of a standalone slave takes no changes until a restart.
    fn is_halted(&self) -> bool;
    /// Returns the table of unfinished uploads.
    fn uploads(&self) -> &UploadTable;
    /// Takes the slot for sending large content to another slave; false if it is taken.
    fn begin_large_transfer(&self) -> bool;
    /// Frees the slot for sending large content.
    fn end_large_transfer(&self);
    /// Counts a transfer of a client that begins.
    fn transfer_began(&self);
    /// Counts it as one that continues after the bytes of an earlier one.
    fn transfer_resumed(&self);
    /// Counts one that continues here after another server failed.
    fn transfer_failed_over(&self);
    /// Counts bytes of content that were sent, or received by an upload.
    fn transfer_moved(&self, protocol: Protocol, is_upload: bool, bytes: u64);
    /// Counts the end of a transfer that has moved `bytes` in `time`.
    fn transfer_ended(&self, protocol: Protocol, is_upload: bool, bytes: u64, time: Duration);
    /// Reports that `path` differs between the disk and the catalogue.
    fn report_different(&self, path: &TreePath);
    /// Reports that the content at `path` may be damaged.
    fn report_damaged(&self, path: &TreePath);
    /// Has the engines of other processes call [`Engine::end_upload`](crate::Engine::end_upload).
    fn end_upload_elsewhere(&self, name: &StagedName);
    /// Notes that an upload by path has begun, instead of one that may be pending elsewhere.
    fn path_upload_began(&self, name: &StagedName);
    /// Notes that an upload by path has ended.
    fn path_upload_ended(&self);
    /// Whether an upload by path is pending on another slave; none if that is not known.
    fn is_upload_elsewhere(&self, name: &StagedName) -> Option<bool>;
    /// Opens a channel for the proposals of `owner`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it has to be tried again; others are final.
    fn open_channel(&self, owner: &Owner) -> io::Result<Box<dyn ProposalChannel>>;
}

/// A session's way to the writer of the catalogue. No call blocks.
///
/// Results come in the order of the proposals. Errors are those of the channel.
#[allow(clippy::missing_errors_doc)]
pub trait ProposalChannel: Send {
    /// Reads the greeting, which comes once the writer has received the channel.
    fn read_greeting(&self) -> io::Result<Received<()>>;
    /// Queues a proposal. Returns false if results must be read first, or the writer has closed.
    fn propose(&self, proposal: &Proposal) -> io::Result<bool>;
    /// Reads the next result.
    fn read_result(&self) -> io::Result<Received<ProposalResult>>;
    /// Asks which folders hold the content of a put. Returns false if that cannot be sent now.
    fn ask_holders(&self, put: Lsn) -> io::Result<bool>;
    /// Reads the answer to [`Self::ask_holders`].
    fn read_holders(&self) -> io::Result<Received<Vec<FolderId>>>;
    /// Prepares to wait: sends the queued proposals, and returns the descriptor that is readable
    /// when a message has come.
    fn prepare_wait(&self) -> BorrowedFd<'_>;
}
