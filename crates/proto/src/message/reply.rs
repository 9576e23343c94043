//! Replies of a server.

use super::parts::{Capabilities, ContentHeader, Endpoint, ServerRole, WaitReason};
use super::{EntriesPage, EntryResult, PathEvent, check_pieces};
use crate::codec::wire_messages;
use crate::{ClusterId, Digest, Entry, Expect, Lsn, Metrics, Refusal, SlaveId, WireError, limits};

wire_messages! {
    /// A reply of a server.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Reply: check {
        /// Answer to `Hello`.
        Welcome {
            /// Version of the connection from here on.
            version: u16,
            /// Role of the server.
            role: ServerRole,
            /// Cluster of the server.
            cluster: ClusterId,
            /// What the server can do beyond the version.
            capabilities: Capabilities,
            /// Program and version, for logs.
            agent: String [limits::TEXT],
        },
        /// Sends the client to the first of these slaves; the others are alternatives.
        Redirect {
            /// Ticket for the slave.
            ticket: Vec<u8> [limits::TICKET],
            /// Latest change.
            lsn: Lsn,
            /// Between 1 and [`limits::REDIRECT_SLAVES`] slaves.
            slaves: Vec<Endpoint> [limits::REDIRECT_SLAVES],
        },
        /// The session is open.
        Opened {
            slave: SlaveId,
            /// Latest change of the slave.
            lsn: Lsn,
            /// Whether the user may change files.
            writable: bool,
        },
        /// The server is still working on the answer.
        Wait(WaitReason),
        /// This slave belongs to a cluster; the master is at this address (`HOST:PORT`).
        AskMaster(String [limits::TEXT]),
        /// Refuses the request.
        Error(Refusal),
        /// One page of a folder's entries.
        Entries(EntriesPage),
        /// End of a listing.
        Done {
            /// Change at which the listing was computed.
            lsn: Lsn,
        },
        /// One entry.
        Details {
            entry: Entry,
            /// Digest of a file, if it is known.
            digest: Option<Digest>,
            /// Slaves that hold the content.
            holders: Vec<Endpoint> [limits::REDIRECT_SLAVES],
            /// Change at which the details were computed.
            lsn: Lsn,
        },
        /// Answers to `StatMany`, in the order of its paths; `Done` follows the last ones.
        EntryResults {
            /// At most [`limits::STAT_PATHS`].
            results: Vec<EntryResult> [limits::STAT_PATHS],
        },
        /// Changes below a watched path.
        Events {
            /// The events so far are those of all changes up to this one.
            lsn: Lsn,
            /// At most [`limits::EVENTS_PER_FRAME`], in the order of the changes.
            events: Vec<PathEvent> [limits::EVENTS_PER_FRAME],
        },
        /// Changes below a watched path are not known any more. The watch has ended.
        EventsLost {
            /// Latest change. A watch after it, and then a listing, miss nothing.
            lsn: Lsn,
        },
        /// Header of the content that follows.
        ContentHeader(ContentHeader),
        /// End of content that was sent completely.
        End {
            /// Digest of the whole content, including the bytes that were not sent.
            digest: Digest,
        },
        /// Values of single pieces.
        PieceValues {
            /// Number of the first piece.
            first: u64,
            /// Chaining values of the pieces.
            values: Vec<Digest> [limits::PIECES_PER_PAGE as usize],
        },
        /// Status of the server.
        StatusReport {
            slave: SlaveId,
            /// Latest change of the slave.
            lsn: Lsn,
            metrics: Metrics,
            /// Last error; empty if there was none.
            last_error: String [limits::TEXT],
        },
        /// Answer to `Ping`.
        Pong,
        /// Progress of an upload.
        Staged {
            /// Offset where the upload resumes; 0 if no bytes are stored.
            offset: u64 [limits::FILE_SIZE],
            /// Current entry at the path.
            current: Expect,
        },
        /// The content is not here yet. No holder is known if the list is empty.
        Elsewhere {
            /// At most [`limits::REDIRECT_SLAVES`]. Their addresses are in the client's redirect,
            /// else at its master.
            holders: Vec<Endpoint> [limits::REDIRECT_SLAVES],
        },
        /// The slave cannot reach its master, so the following answer may be old. Not an answer
        /// itself.
        MasterUnreachable {
            /// Milliseconds without the master.
            ms: u64,
        },
        /// A change is committed.
        Committed {
            /// Number of the change.
            version: Lsn,
            /// Number of disks that hold the content.
            copies: u16,
            /// Latest change.
            lsn: Lsn,
            /// Digest of the content that a put stored under this id.
            ///
            /// `None` for other changes, and if it is no longer known.
            digest: Option<Digest>,
            /// Whether the change is new, or its path has not changed since.
            ///
            /// If not, the change is an older one, and its path has another entry or none by now.
            current: bool,
        },
    }
}

fn check(reply: &Reply) -> Result<(), WireError> {
    match reply {
        Reply::Redirect { slaves, .. } if slaves.is_empty() => {
            Err(WireError::BadValue { what: "number of slaves", value: 0 })
        }
        Reply::Redirect { slaves, .. } if slaves.iter().any(|slave| slave.addrs.is_empty()) => {
            Err(WireError::BadValue { what: "number of addresses", value: 0 })
        }
        Reply::PieceValues { first, values } => check_pieces(*first, values.len() as u64),
        _ => Ok(()),
    }
}
