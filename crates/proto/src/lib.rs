//! Bytes on the wire: frames, messages, names and limits.
//!
//! This crate turns bytes from a peer into checked values and back. It works
//! over any blocking [`std::io::Read`] and [`std::io::Write`], so tests run in
//! memory. It never opens a file or a socket, reads no clock, and every decoder
//! is total: whatever a peer sends, the answer is a value or a [`WireError`],
//! and no more memory is taken than the peer has sent.
//!
//! The layout of every byte is in `PROTOCOL.md`.

mod change;
mod codec;
mod error;
mod fair;
mod frame;
pub mod limits;
mod link;
mod log_rate_limiter;
mod message;
mod name;
mod network;
mod replication;
mod shown;
mod types;

pub use change::{Change, Expect, LogEntry};
pub use codec::{Decode, Decoder, Encoder};
pub use error::{ErrorCode, Refusal, RetryClass, WireError};
pub use fair::FairQueue;
pub use frame::{
    FrameHeader, FrameType, HEADER_LEN, encode_frame, read_frame, read_header, write_frame,
};
pub use link::{
    DiskSpace, Heartbeat, LinkMessage, Operation, PathList, PathNote, PathPart, Peer, Registration,
    Scrub, SlaveReport, SlaveState,
};
pub use log_rate_limiter::{LogRateLimiter, SuppressedLines};
pub use message::{
    ContentHeader, Endpoint, EntriesPage, GetRequest, Hello, Login, PageBuilder, PutRequest, Reply,
    Request, Role, ServerRole, WaitReason, Wanted,
};
pub use name::{NameError, TreePath, check_part};
pub use network::network_of;
pub use replication::{
    Chain, ChangeRequest, CommittedEntry, Content, ReplicaPosition, Timeline, ToMaster, ToSlave,
    TreeEntry, TreePart,
};
pub use shown::{clean, is_harmful, quoted};
pub use types::{
    ChangeId, ClusterId, Confinement, Counters, Digest, Entry, FileTime, FolderId, Identity, Kind,
    Lsn, Mode, SlaveId,
};

/// The protocol versions that this crate speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// The highest version that two ranges share.
///
/// # Errors
/// [`WireError::NoCommonVersion`], naming both ranges, when they share none.
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Result<u16, WireError> {
    let highest = ours.1.min(theirs.1);
    if theirs.0 <= theirs.1 && highest >= ours.0 && highest >= theirs.0 {
        Ok(highest)
    } else {
        Err(WireError::NoCommonVersion { ours, theirs })
    }
}
