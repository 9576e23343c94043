//! Replication messages between a slave and its master.
//!
//! Each link delivers them in order or not at all. Contents are counted by folder: slaves that
//! share a folder hold one copy.

use crate::message::{decode_refusal, encode_refusal};
use crate::types::decode_size;
use crate::{
    Change, ChangeId, Decode, Decoder, Digest, Encoder, Expect, FileTime, FolderId, LogEntry, Lsn,
    Mode, Refusal, SlaveId, TreePath, WireError, limits,
};

/// Hash over all changes in order. It is equal only if both servers have had the same changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryHash(pub [u8; 32]);

impl HistoryHash {
    /// Appends the bytes.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        to.bytes(&self.0);
    }
}

impl Decode for HistoryHash {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        from.array().map(Self)
    }
}

/// A part of the history that one master has numbered without a break.
///
/// A master begins a new timeline at each start and after each recovery. Two histories that share a
/// timeline are equal up to its end in the shorter one. Equal numbers alone prove nothing, because
/// a master with a restored disk assigns them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeline {
    /// Last change before the timeline.
    pub after: Lsn,
    /// Random id.
    pub id: [u8; 16],
}

impl Timeline {
    /// Appends both fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        self.after.encode(to);
        to.bytes(&self.id);
    }
}

impl Decode for Timeline {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self { after: Lsn::decode(from)?, id: from.array()? })
    }
}

/// Content of a file, as a put stored it.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileContent {
    /// The put that stored the content.
    pub put: Lsn,
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    pub mtime: FileTime,
}

impl FileContent {
    fn encode(&self, to: &mut Encoder<'_>) {
        self.put.encode(to);
        self.digest.encode(to);
        to.u64(self.size);
        self.mtime.encode(to);
    }
}

impl Decode for FileContent {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            put: Lsn::decode(from)?,
            digest: Digest::decode(from)?,
            size: decode_size(from)?,
            mtime: FileTime::decode(from)?,
        })
    }
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

impl TreeEntry {
    /// Returns whether the entry is a file or a folder.
    #[must_use]
    pub fn kind(&self) -> crate::Kind {
        if self.content.is_some() { crate::Kind::File } else { crate::Kind::Folder }
    }

    /// Appends number, mode and content.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        self.version.encode(to);
        self.mode.encode(to);
        to.option(self.content.as_ref(), FileContent::encode);
    }
}

impl Decode for TreeEntry {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self { version: Lsn::decode(from)?, mode: Mode::decode(from)?, content: from.option()? })
    }
}

/// An entry with its path, as lists encode it.
struct PathEntry((TreePath, TreeEntry));

impl Decode for PathEntry {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self((from.path()?, TreeEntry::decode(from)?)))
    }
}

fn encode_path_entry((path, entry): &(TreePath, TreeEntry), to: &mut Encoder<'_>) {
    entry.encode(to.path(path));
}

/// Id of a change with its number, as lists encode it.
struct IdLsn((ChangeId, Lsn));

impl Decode for IdLsn {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self((ChangeId::decode(from)?, Lsn::decode(from)?)))
    }
}

pub(crate) fn encode_ids(ids: &[(ChangeId, Lsn)], to: &mut Encoder<'_>) {
    to.list(ids, |(id, version), to| {
        id.encode(to);
        version.encode(to);
    });
}

pub(crate) fn decode_ids(from: &mut Decoder<'_>) -> Result<Vec<(ChangeId, Lsn)>, WireError> {
    let ids: Vec<IdLsn> = from.list("ids", limits::LINK_LIST)?;
    Ok(ids.into_iter().map(|IdLsn(id)| id).collect())
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

impl ReplicaPosition {
    /// Appends all fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        self.applied.encode(to);
        self.chain.encode(to);
        to.u32(self.epoch);
    }
}

impl Decode for ReplicaPosition {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            applied: Lsn::decode(from)?,
            chain: HistoryHash::decode(from)?,
            epoch: from.u32()?,
        })
    }
}

/// A committed change, as the master sends it to a slave.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedEntry {
    pub entry: LogEntry,
    /// Folders that hold the content of a put.
    pub holders: Vec<FolderId>,
    /// Paths that a withdrawal changes, each with its restored entry.
    pub restored: Vec<(TreePath, Option<TreeEntry>)>,
}

impl CommittedEntry {
    fn encode(&self, to: &mut Encoder<'_>) {
        self.entry.encode(to);
        to.list(&self.holders, FolderId::encode).list(&self.restored, |(path, entry), to| {
            to.path(path).option(entry.as_ref(), TreeEntry::encode);
        });
    }
}

impl Decode for CommittedEntry {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (entry, holders) = (LogEntry::decode(from)?, from.list("holders", limits::HOLDERS)?);
        let restored: Vec<Restored> = from.list("paths of a withdrawal", limits::LINK_LIST)?;
        Ok(Self {
            entry,
            holders,
            restored: restored.into_iter().map(|Restored(restored)| restored).collect(),
        })
    }
}

struct Restored((TreePath, Option<TreeEntry>));

impl Decode for Restored {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self((from.path()?, from.option()?)))
    }
}

/// Replication message from a slave to its master.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToMaster {
    /// First message: identity and position of the slave.
    Join { slave: SlaveId, folder: FolderId, position: ReplicaPosition },
    /// The slave misses only these contents of the tree after `upto`.
    ///
    /// The list comes in pages and counts once the last page has arrived.
    MissingContents {
        /// The change that the list refers to.
        upto: Lsn,
        /// Puts whose content is missing.
        puts: Vec<Lsn>,
        last: bool,
    },
    /// Proposes a change. The content of a put is on the slave's disk.
    Propose {
        request: ChangeRequest,
        /// Whether it is a local change, not one of a session.
        found: bool,
        /// Number of copies that the client wants; 0 and 1 are reached once the change is applied.
        copies: u16,
    },
    /// Asks for the result of an earlier proposal.
    ///
    /// The master answers with `ProposalResult`; [`crate::ErrorCode::NotFound`] if the change has
    /// no number.
    QueryChange { id: ChangeId },
    /// The slave has applied all changes up to this one durably.
    Applied { upto: Lsn },
    /// The slave holds the content of a put durably under its name, or holds it no longer.
    Holds { put: Lsn, has: bool },
    /// The slave could not publish the content of its own put.
    PublishFailed {
        /// The put.
        of: Lsn,
    },
    /// The slave misses the content of a put and has stopped fetching it.
    ///
    /// It fetches the content again only after the master names a holder.
    GivenUp { put: Lsn },
    /// Asks for the holders of a put's content.
    FindHolders { put: Lsn },
    /// The slave has processed the last message and can receive more.
    Ready,
}

impl ToMaster {
    /// Appends a tag and the fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Join { slave, folder, position } => {
                slave.encode(to.u8(0));
                folder.encode(to);
                position.encode(to);
            }
            Self::MissingContents { upto, puts, last } => {
                upto.encode(to.u8(1));
                to.list(puts, Lsn::encode).bool(*last);
            }
            Self::Propose { request, found, copies } => {
                request.id.encode(to.u8(2));
                request.change.encode(to);
                request.expect.encode(to);
                to.bool(request.keep_mode).bool(*found).u16(*copies);
            }
            Self::QueryChange { id } => id.encode(to.u8(3)),
            Self::Applied { upto } => upto.encode(to.u8(4)),
            Self::Holds { put, has } => {
                put.encode(to.u8(5));
                to.bool(*has);
            }
            Self::PublishFailed { of } => of.encode(to.u8(6)),
            Self::GivenUp { put } => put.encode(to.u8(7)),
            Self::FindHolders { put } => put.encode(to.u8(8)),
            Self::Ready => {
                to.u8(9);
            }
        }
    }
}

impl Decode for ToMaster {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(match from.u8()? {
            0 => Self::Join {
                slave: SlaveId::decode(from)?,
                folder: FolderId::decode(from)?,
                position: ReplicaPosition::decode(from)?,
            },
            1 => Self::MissingContents {
                upto: Lsn::decode(from)?,
                puts: from.list("lacking puts", limits::LINK_LIST)?,
                last: from.bool()?,
            },
            2 => Self::Propose {
                request: ChangeRequest {
                    id: ChangeId::decode(from)?,
                    change: Change::decode(from)?,
                    expect: Expect::decode(from)?,
                    keep_mode: from.bool()?,
                },
                found: from.bool()?,
                copies: from.u16()?,
            },
            3 => Self::QueryChange { id: ChangeId::decode(from)? },
            4 => Self::Applied { upto: Lsn::decode(from)? },
            5 => Self::Holds { put: Lsn::decode(from)?, has: from.bool()? },
            6 => Self::PublishFailed { of: Lsn::decode(from)? },
            7 => Self::GivenUp { put: Lsn::decode(from)? },
            8 => Self::FindHolders { put: Lsn::decode(from)? },
            9 => Self::Ready,
            other => {
                return Err(WireError::BadValue {
                    what: "message of a slave",
                    value: other.into(),
                });
            }
        })
    }
}

/// Replication message from a master to a slave.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSlave {
    /// Accepts the slave: the changes after its position follow.
    Follow {
        epoch: u32,
        /// Latest change.
        lsn: Lsn,
        /// History hash at the slave's position. A slave without any change adopts it.
        chain: HistoryHash,
        /// Like `GiveUp`, for all of these puts; at most [`limits::GIVEN_UP`].
        given_up: Vec<Lsn>,
        /// Timelines of the master's history, oldest first.
        timelines: Vec<Timeline>,
    },
    /// The slave must compare trees; the whole tree follows in pages.
    ///
    /// The retained changes do not reach back to its position, or its changes are not the master's.
    Compare {
        epoch: u32,
        /// Latest change.
        lsn: Lsn,
        /// Like `GiveUp`, for all of these puts; at most [`limits::GIVEN_UP`].
        given_up: Vec<Lsn>,
    },
    /// One page of the tree, ordered by path. The slave requests the next with `Ready`.
    Page {
        entries: Vec<(TreePath, TreeEntry)>,
        /// Ids and numbers of changes.
        ids: Vec<(ChangeId, Lsn)>,
    },
    /// End of the tree.
    End {
        /// The tree's last change.
        lsn: Lsn,
        /// History hash at that change.
        chain: HistoryHash,
        /// Timelines of the history that made this tree, oldest first.
        timelines: Vec<Timeline>,
        /// Number of entries in the tree.
        entries: u64,
    },
    /// Next committed changes, in order.
    Commit { changes: Vec<CommittedEntry> },
    /// Result of a proposal or a query that no `Commit` message reports.
    ProposalResult {
        id: ChangeId,
        /// Number of the change, or the reason why it has none.
        answer: Result<Lsn, Refusal>,
    },
    /// Enough disks hold the content now.
    Copies { put: Lsn, copies: u16 },
    /// No known replica holds the content of this put, and its withdrawal is prepared.
    ///
    /// A slave that holds the content answers `Holds`. A slave that misses it stops fetching it and
    /// answers `GivenUp`. So no slave can obtain the content, drop what it replaced and report
    /// success during the withdrawal.
    GiveUp { put: Lsn },
    /// Folders that hold a content.
    Holders {
        put: Lsn,
        /// At most [`limits::HOLDERS`] folders.
        holders: Vec<FolderId>,
    },
    /// Rejects the join.
    Refuse { epoch: u32, why: Refusal },
}

impl ToSlave {
    /// Appends a tag and the fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Follow { epoch, lsn, chain, given_up, timelines } => {
                lsn.encode(to.u8(0).u32(*epoch));
                chain.encode(to);
                to.list(given_up, Lsn::encode).list(timelines, Timeline::encode);
            }
            Self::Compare { epoch, lsn, given_up } => {
                lsn.encode(to.u8(1).u32(*epoch));
                to.list(given_up, Lsn::encode);
            }
            Self::Page { entries, ids } => {
                to.u8(2).list(entries, encode_path_entry);
                encode_ids(ids, to);
            }
            Self::End { lsn, chain, timelines, entries } => {
                lsn.encode(to.u8(3));
                chain.encode(to);
                to.list(timelines, Timeline::encode).u64(*entries);
            }
            Self::Commit { changes } => {
                to.u8(4).list(changes, CommittedEntry::encode);
            }
            Self::ProposalResult { id, answer } => {
                id.encode(to.u8(5));
                match answer {
                    Ok(version) => version.encode(to.bool(true)),
                    Err(refusal) => {
                        encode_refusal(refusal, to.bool(false));
                        to.option(refusal.path.as_ref(), |path, to| {
                            to.path(path);
                        });
                    }
                }
            }
            Self::Copies { put, copies } => {
                put.encode(to.u8(6));
                to.u16(*copies);
            }
            Self::GiveUp { put } => put.encode(to.u8(7)),
            Self::Holders { put, holders } => {
                put.encode(to.u8(8));
                to.list(holders, FolderId::encode);
            }
            Self::Refuse { epoch, why } => encode_refusal(why, to.u8(9).u32(*epoch)),
        }
    }
}

impl Decode for ToSlave {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(match from.u8()? {
            0 => Self::Follow {
                epoch: from.u32()?,
                lsn: Lsn::decode(from)?,
                chain: HistoryHash::decode(from)?,
                given_up: from.list("puts that are given up", limits::GIVEN_UP)?,
                timelines: from.list("timelines", limits::TIMELINES)?,
            },
            1 => Self::Compare {
                epoch: from.u32()?,
                lsn: Lsn::decode(from)?,
                given_up: from.list("puts that are given up", limits::GIVEN_UP)?,
            },
            2 => {
                let entries: Vec<PathEntry> = from.list("entries", limits::LINK_LIST)?;
                Self::Page {
                    entries: entries.into_iter().map(|PathEntry(entry)| entry).collect(),
                    ids: decode_ids(from)?,
                }
            }
            3 => Self::End {
                lsn: Lsn::decode(from)?,
                chain: HistoryHash::decode(from)?,
                timelines: from.list("timelines", limits::TIMELINES)?,
                entries: from.u64()?,
            },
            4 => Self::Commit { changes: from.list("changes", limits::LINK_LIST)? },
            5 => Self::ProposalResult {
                id: ChangeId::decode(from)?,
                answer: if from.bool()? {
                    Ok(Lsn::decode(from)?)
                } else {
                    let refusal = decode_refusal(from)?;
                    let path = if from.bool()? { Some(from.path()?) } else { None };
                    Err(Refusal { path, ..refusal })
                },
            },
            6 => Self::Copies { put: Lsn::decode(from)?, copies: from.u16()? },
            7 => Self::GiveUp { put: Lsn::decode(from)? },
            8 => Self::Holders {
                put: Lsn::decode(from)?,
                holders: from.list("holders", limits::HOLDERS)?,
            },
            9 => Self::Refuse { epoch: from.u32()?, why: decode_refusal(from)? },
            other => {
                return Err(WireError::BadValue {
                    what: "message of a master",
                    value: other.into(),
                });
            }
        })
    }
}

/// One page of a slave's tree, for the master's query.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePage {
    /// Number of the query.
    pub query: u64,
    /// Entries ordered by path, each with a flag: the slave holds its content.
    pub entries: Vec<(TreePath, TreeEntry, bool)>,
    /// Ids and numbers of changes; empty unless the query requests them.
    pub ids: Vec<(ChangeId, Lsn)>,
    /// Position of the folder; the same in all pages.
    pub position: ReplicaPosition,
    /// Timelines of the history that made this tree, oldest first; only in the first page.
    pub timelines: Vec<Timeline>,
    pub last: bool,
}

impl TreePage {
    pub(crate) fn encode(&self, to: &mut Encoder<'_>) {
        to.u64(self.query).list(&self.entries, |(path, entry, here), to| {
            entry.encode(to.path(path));
            to.bool(*here);
        });
        encode_ids(&self.ids, to);
        self.position.encode(to);
        to.list(&self.timelines, Timeline::encode).bool(self.last);
    }
}

struct PathEntryStatus((TreePath, TreeEntry, bool));

impl Decode for PathEntryStatus {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self((from.path()?, TreeEntry::decode(from)?, from.bool()?)))
    }
}

impl Decode for TreePage {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let query = from.u64()?;
        let entries: Vec<PathEntryStatus> = from.list("entries", limits::LINK_LIST)?;
        Ok(Self {
            query,
            entries: entries.into_iter().map(|PathEntryStatus(entry)| entry).collect(),
            ids: decode_ids(from)?,
            position: ReplicaPosition::decode(from)?,
            timelines: from.list("timelines", limits::TIMELINES)?,
            last: from.bool()?,
        })
    }
}
