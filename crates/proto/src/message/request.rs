//! Requests of a client.

use super::{PutRequest, check_pieces};
use crate::codec::wire_messages;
use crate::{
    Attributes, ChangeId, Digest, Expect, GetRequest, Hello, IfMatch, Login, Lsn, TreePath,
    WireError, limits,
};

wire_messages! {
    /// A request of a client.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Request: check {
        /// Opens the connection.
        Hello(Hello),
        /// Logs in at a master or at a standalone slave.
        Login(Login),
        /// Opens a session on a slave of a cluster.
        Ticket {
            /// The master's ticket; at most [`limits::TICKET`] bytes.
            ticket: Vec<u8> [limits::TICKET],
            /// Highest change that the client has seen.
            lsn: Lsn,
        },
        /// Lists a folder in byte order of the names.
        List {
            path: TreePath,
            /// Only names after this one; empty for all.
            after: String [limits::NAME_PART],
            /// Highest number of names; 0 for all.
            most: u32,
        },
        /// Asks for one entry.
        Stat(TreePath),
        /// Asks for several entries; each has an answer of its own.
        StatMany {
            /// At most [`limits::STAT_PATHS`].
            paths: Vec<TreePath> [limits::STAT_PATHS],
        },
        /// Asks for the changes at and below a path, as they happen. The next request ends it.
        Watch {
            path: TreePath,
            /// Only changes after this one; `None` for those from now on.
            after: Option<Lsn>,
        },
        /// Asks for one file with its digest; the slave computes it if necessary.
        Hash(TreePath),
        /// Asks for content.
        Get(GetRequest),
        /// Asks for the values of `count` pieces from number `first` on.
        Pieces {
            path: TreePath,
            /// Condition on the content.
            if_match: IfMatch,
            /// Number of the first piece.
            first: u64,
            /// Number of pieces, at most [`limits::PIECES_PER_PAGE`].
            count: u32 [limits::PIECES_PER_PAGE],
        },
        /// Asks for the server's status.
        Status,
        /// Asks for a `Pong`.
        Ping,
        /// Makes all following answers include this change and those before it. It has no answer.
        Seen {
            /// Highest change that the client has seen.
            lsn: Lsn,
        },
        /// Notes that the transfer continues here after another server failed. It has no answer.
        FailedOver,
        /// Opens an upload. `Data` frames follow, and `PutEnd`.
        Put(PutRequest),
        /// Ends an upload.
        PutEnd {
            /// Digest of the whole content.
            digest: Digest,
        },
        /// Asks how much of an upload the slave has; ends an older connection that still sends it.
        Resume {
            id: ChangeId,
            path: TreePath,
            /// Size of the whole content in bytes.
            size: u64 [limits::FILE_SIZE],
        },
        /// Makes a folder.
        MakeFolder {
            /// Id of the change; a repeated id is the same change.
            id: ChangeId,
            path: TreePath,
        },
        /// Removes a file or a folder.
        Remove {
            /// Id of the change; a repeated id is the same change.
            id: ChangeId,
            path: TreePath,
            /// Whether the entries below a folder are removed with it.
            recursive: bool,
            /// Precondition on the entry at the path.
            expect: Expect,
        },
        /// Renames a file or a folder; a file at the new path is replaced.
        Move {
            /// Id of the change; a repeated id is the same change.
            id: ChangeId,
            from: TreePath,
            to: TreePath,
            /// Precondition on the entry at the old path.
            expect: Expect,
        },
        /// Sets attributes of a file or a folder.
        SetAttributes {
            /// Id of the change; a repeated id is the same change.
            id: ChangeId,
            path: TreePath,
            /// Precondition on the entry at the path.
            expect: Expect,
            attributes: Attributes,
        },
        /// Copies a file on the server; a file at the new path is replaced.
        Copy {
            /// Id of the change; a repeated id is the same change.
            id: ChangeId,
            from: TreePath,
            to: TreePath,
            /// Condition on the content.
            if_match: IfMatch,
            /// Precondition on the entry at the new path.
            expect: Expect,
            /// Disks that must hold the content before the answer; 0 for the cluster's default.
            copies: u16,
        },
    }
}

fn check(request: &Request) -> Result<(), WireError> {
    match *request {
        Request::Pieces { first, count, .. } => check_pieces(first, count.into()),
        Request::SetAttributes { attributes, .. } if attributes == Attributes::default() => {
            Err(WireError::BadValue { what: "number of attributes", value: 0 })
        }
        _ => Ok(()),
    }
}
