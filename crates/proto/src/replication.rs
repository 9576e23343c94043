//! Replication messages between a slave and its master.
//!
//! Each link delivers them in order or not at all. Contents are counted by folder: slaves that
//! share a folder hold one copy.

use crate::{
    Annotations, Change, ChangeId, Decoder, Digest, Encoder, Expect, FileTime, FolderId, LockToken,
    LogEntry, Lsn, Mode, Refusal, SlaveId, TreePath, Wire, WireError, limits, wire_enum,
    wire_newtypes, wire_struct,
};

/// Hash over all changes in order. It is equal only if both servers have had the same changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryHash(pub [u8; 32]);

wire_newtypes!(HistoryHash);

wire_struct! {
    /// A part of the history that one master has numbered without a break.
    ///
    /// A master begins a new timeline at each start and after each recovery. Two histories that
    /// share a timeline are equal up to its end in the shorter one. Equal numbers alone prove
    /// nothing, because a master with a restored disk assigns them again.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Timeline {
        /// Last change before the timeline.
        pub after: Lsn,
        /// Random id.
        pub id: [u8; 16],
    }

    /// Content of a file, as a put stored it.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct FileContent {
        /// The put that stored the content.
        pub put: Lsn,
        pub digest: Digest,
        /// Size in bytes.
        pub size: u64 [limits::FILE_SIZE],
        pub mtime: FileTime,
    }

    /// A file or folder of the tree.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct TreeEntry {
        /// Last change to the path.
        pub version: Lsn,
        pub mode: Mode,
        /// Content of the file; `None` for a folder.
        pub content: Option<FileContent>,
    }

    /// A requested change, before it has a number.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ChangeRequest {
        /// Id of the change; a repeated id is the same change.
        pub id: ChangeId,
        pub change: Change,
        /// Precondition of a put, a removal or a new mode.
        pub expect: Expect,
        /// Whether a put keeps the mode of the file that it replaces.
        ///
        /// The master resolves it when it numbers the change.
        pub keep_mode: bool,
        /// Tokens of the locks that the change may use.
        pub tokens: Vec<LockToken> [limits::LOCK_TOKENS],
    }

    /// How far a slave's folder has applied the log.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ReplicaPosition {
        /// Last change that is applied durably.
        pub applied: Lsn,
        /// History hash at that change.
        pub chain: HistoryHash,
        /// Highest epoch that the slave has seen. It does not follow a master with a lower epoch.
        pub epoch: u32,
    }

    /// A committed change, as the master sends it to a slave.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CommittedEntry {
        pub entry: LogEntry,
        /// Folders that hold the content of a put.
        pub holders: Vec<FolderId> [limits::HOLDERS],
        /// Paths that a withdrawal changes, each with its restored entry.
        pub restored: Vec<(TreePath, Option<TreeEntry>)> [limits::LINK_LIST],
    }

    /// One page of a slave's tree, for the master's query.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TreePage {
        /// Number of the query.
        pub query: u64,
        /// Entries ordered by path, each with a flag: the slave holds its content.
        pub entries: Vec<(TreePath, TreeEntry, bool)> [limits::LINK_LIST],
        /// Ids and numbers of changes; empty unless the query requests them.
        pub ids: Vec<(ChangeId, Lsn)> [limits::LINK_LIST],
        /// Properties, locks and hashes, after all entries.
        pub annotations: Annotations,
        /// Position of the folder; the same in all pages.
        pub position: ReplicaPosition,
        /// Timelines of the history that made this tree, oldest first; only in the first page.
        pub timelines: Vec<Timeline> [limits::TIMELINES],
        pub last: bool,
    }
}

impl TreeEntry {
    /// Returns whether the entry is a file or a folder.
    #[must_use]
    pub fn kind(&self) -> crate::Kind {
        if self.content.is_some() { crate::Kind::File } else { crate::Kind::Folder }
    }
}

wire_enum! {
    /// Replication message from a slave to its master.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum ToMaster: "message of a slave" {
        /// First message: identity and position of the slave.
        0 => Join { slave: SlaveId, folder: FolderId, position: ReplicaPosition },
        /// The slave misses only these contents of the tree after `upto`.
        ///
        /// The list comes in pages and counts once the last page has arrived.
        1 => MissingContents {
            /// The change that the list refers to.
            upto: Lsn,
            /// Puts whose content is missing.
            puts: Vec<Lsn> [limits::LINK_LIST],
            last: bool,
        },
        /// Proposes a change. The content of a put is on the slave's disk.
        2 => Propose {
            request: ChangeRequest,
            /// Whether it is a local change, not one of a session.
            found: bool,
            /// Number of copies that the client wants; 0 and 1 are reached once the change is
            /// applied.
            copies: u16,
        },
        /// Asks for the result of an earlier proposal.
        ///
        /// The master answers with `ProposalResult`; [`crate::ErrorCode::NotFound`] if the change
        /// has no number.
        3 => QueryChange { id: ChangeId },
        /// The slave has applied all changes up to this one durably.
        4 => Applied { upto: Lsn },
        /// The slave holds the content of a put durably under its name, or holds it no longer.
        5 => Holds { put: Lsn, has: bool },
        /// The slave could not publish the content of its own put.
        6 => PublishFailed {
            /// The put.
            of: Lsn,
        },
        /// The slave misses the content of a put and has stopped fetching it.
        ///
        /// It fetches the content again only after the master names a holder.
        7 => GivenUp { put: Lsn },
        /// Asks for the holders of a put's content.
        8 => FindHolders { put: Lsn },
        /// The slave has processed the last message and can receive more.
        9 => Ready,
    }

    /// Replication message from a master to a slave.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum ToSlave: "message of a master" {
        /// Accepts the slave: the changes after its position follow.
        0 => Follow {
            epoch: u32,
            /// Latest change.
            lsn: Lsn,
            /// History hash at the slave's position. A slave without any change adopts it.
            chain: HistoryHash,
            /// Like `GiveUp`, for all of these puts; at most [`limits::GIVEN_UP`].
            given_up: Vec<Lsn> [limits::GIVEN_UP],
            /// Timelines of the master's history, oldest first.
            timelines: Vec<Timeline> [limits::TIMELINES],
        },
        /// The slave must compare trees; the whole tree follows in pages.
        ///
        /// The retained changes do not reach back to its position, or its changes are not the
        /// master's.
        1 => Compare {
            epoch: u32,
            /// Latest change.
            lsn: Lsn,
            /// Like `GiveUp`, for all of these puts; at most [`limits::GIVEN_UP`].
            given_up: Vec<Lsn> [limits::GIVEN_UP],
        },
        /// One page of the tree, ordered by path. The slave requests the next with `Ready`.
        2 => Page {
            entries: Vec<(TreePath, TreeEntry)> [limits::LINK_LIST],
            /// Ids and numbers of changes.
            ids: Vec<(ChangeId, Lsn)> [limits::LINK_LIST],
            /// Properties, locks and hashes, after all entries.
            annotations: Annotations,
        },
        /// End of the tree.
        3 => End {
            /// The tree's last change.
            lsn: Lsn,
            /// History hash at that change.
            chain: HistoryHash,
            /// Timelines of the history that made this tree, oldest first.
            timelines: Vec<Timeline> [limits::TIMELINES],
            /// Number of entries in the tree.
            entries: u64,
        },
        /// Next committed changes, in order.
        4 => Commit { changes: Vec<CommittedEntry> [limits::LINK_LIST] },
        /// Result of a proposal or a query that no `Commit` message reports.
        5 => ProposalResult {
            id: ChangeId,
            /// Number of the change, or the reason why it has none.
            answer: Result<Lsn, Refusal>,
        },
        /// Enough disks hold the content now.
        6 => Copies { put: Lsn, copies: u16 },
        /// No known replica holds the content of this put, and its withdrawal is prepared.
        ///
        /// A slave that holds the content answers `Holds`. A slave that misses it stops fetching it
        /// and answers `GivenUp`. So no slave can obtain the content, drop what it replaced and
        /// report success during the withdrawal.
        7 => GiveUp { put: Lsn },
        /// Folders that hold a content.
        8 => Holders {
            put: Lsn,
            /// At most [`limits::HOLDERS`] folders.
            holders: Vec<FolderId> [limits::HOLDERS],
        },
        /// Rejects the join.
        9 => Refuse { epoch: u32, why: Refusal },
    }
}

/// The path of a refusal follows it.
impl<T: Wire> Wire for Result<T, Refusal> {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.bool(self.is_ok());
        match self {
            Ok(value) => value.encode(to),
            Err(refusal) => {
                refusal.encode(to);
                refusal.path.encode(to);
            }
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        if from.bool()? {
            return T::decode(from).map(Ok);
        }
        let refusal = Refusal::decode(from)?;
        Ok(Err(Refusal { path: Wire::decode(from)?, ..refusal }))
    }
}
