//! Wire format: frames, messages, names and limits.
//!
//! The crate turns bytes from a peer into checked values and back. It works over any blocking
//! [`std::io::Read`] and [`std::io::Write`], so tests run in memory. It never opens a file or a
//! socket and never reads a clock.
//!
//! Every decoder is total: any input gives a value or a [`WireError`]. A decoder allocates no
//! more memory than the peer has sent.
//!
//! `docs/protocol.md` describes the layout of every byte.

mod annotation;
mod change;
mod codec;
mod error;
mod fair;
mod frame;
pub mod limits;
mod link;
mod log_rate_limiter;
mod message;
mod metrics;
mod name;
mod network;
mod password;
mod plural;
mod replication;
mod sanitize;
mod system_error;
mod types;
mod version;
mod wire_error;

pub use annotation::{
    Annotations, ContentHashes, Lock, LockRequest, Property, PropertyChange, PropertyName,
};
pub use change::{Attributes, Change, Expect, LogEntry};
pub use codec::{Capped, Decoder, Encoder, Uncapped, Wire};
pub use error::{ErrorCode, Refusal, RetryClass};
pub use fair::FairQueue;
pub use frame::{FrameHeader, FrameType, HEADER_LEN, encode_frame};
pub use link::{
    DiskSpace, ForwardedLogin, Heartbeat, HttpListeners, LinkMessage, ListedPath, LogOut,
    Operation, PathList, PathPage, PeerSlave, Registration, Scrub, SlaveReport, SlaveState,
    TicketRenewal, UploadKeys,
};
pub use log_rate_limiter::{LogRateLimiter, SuppressedLines};
pub use message::{
    Capabilities, ContentHeader, Endpoint, EntriesPage, EntryResult, EventKind, GetRequest, Hello,
    IfMatch, Login, PageBuilder, PathEvent, PutRequest, Reply, Request, Role, ServerRole,
    WaitReason,
};
pub use metrics::{Metrics, SESSIONS_BY_PROTOCOL, metric};
pub use name::{NameError, TreePath, check_part};
pub use network::network_of;
pub use password::PasswordBytes;
pub use plural::pluralize;
pub use replication::{
    ChangeRequest, CommittedEntry, FileContent, HistoryHash, ReplicaPosition, Timeline, ToMaster,
    ToSlave, TreeEntry, TreePage,
};
pub use sanitize::{is_unsafe_char, quote, sanitize};
pub use system_error::system_error_text;
pub use types::{
    ChangeId, ClusterId, Confinement, Digest, Entry, FileTime, FolderId, Identity, Kind, LockToken,
    Lsn, Mode, Sha256, SlaveId,
};
pub use version::{VERSIONS, common_version};
pub use wire_error::WireError;
