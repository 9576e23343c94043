//! What a slave and its master say to each other about changes. Over each link these arrive in order, or not at all.
//!
//! Who holds which content is told by folders: slaves that share one have one copy.

use crate::message::{decode_refusal, encode_refusal};
use crate::types::decode_size;
use crate::{
    Change, ChangeId, Decode, Decoder, Digest, Encoder, Expect, FileTime, FolderId, LogEntry, Lsn,
    Mode, Refusal, SlaveId, TreePath, WireError, limits,
};

/// A hash over all changes, in order: equal for two servers only where both have had the same changes.
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

/// A stretch of a history that one master has numbered without a break.
///
/// A master begins a new one at each start and after each recovery. Two histories with a timeline in common are the same
/// up to the end of it in the shorter of the two; equal numbers alone say nothing, since a master with a restored disk
/// gives them out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeline {
    /// The last change before it.
    pub after: Lsn,
    /// Random.
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

/// Content of a file: what a put has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileContent {
    /// The put.
    pub put: Lsn,
    /// BLAKE3 of the whole.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Last modification.
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

/// What is at a path of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeEntry {
    /// The last change to the path.
    pub version: Lsn,
    /// Permission bits.
    pub mode: Mode,
    /// Its content; none for a folder.
    pub content: Option<FileContent>,
}

impl TreeEntry {
    /// File or folder.
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

/// An entry and its path, as lists of them go over the wire.
struct PathEntry((TreePath, TreeEntry));

impl Decode for PathEntry {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self((from.path()?, TreeEntry::decode(from)?)))
    }
}

fn encode_path_entry((path, entry): &(TreePath, TreeEntry), to: &mut Encoder<'_>) {
    entry.encode(to.path(path));
}

/// A change by its id.
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

/// A change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRequest {
    /// Asked again it is the same change.
    pub id: ChangeId,
    /// The change.
    pub change: Change,
    /// What must be there for a put, a removal or another mode.
    pub expect: Expect,
    /// Whether a put keeps the mode of the file that it replaces. What that is shows where the change is numbered.
    pub keep_mode: bool,
}

/// Where a slave's folder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplicaPosition {
    /// The last change that it has applied, for good.
    pub applied: Lsn,
    /// The hash over all changes up to there.
    pub chain: HistoryHash,
    /// The highest epoch that it has heard of. No master with a lower one is followed.
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

/// A change as a slave is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedEntry {
    /// The change.
    pub entry: LogEntry,
    /// For a put: the folders that hold its content.
    pub holders: Vec<FolderId>,
    /// For a withdrawal: each path concerned, and what is there now.
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

/// From a slave to its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToMaster {
    /// The first message: who it is and where it stands.
    Join {
        /// Which slave.
        slave: SlaveId,
        /// The folder that it serves.
        folder: FolderId,
        /// Where that stands.
        position: ReplicaPosition,
    },
    /// Of all content that is in the tree after `upto` it lacks only these. It comes in pages, and counts once the last has come.
    MissingContents {
        /// The change that this is about.
        upto: Lsn,
        /// Puts whose content is not there.
        puts: Vec<Lsn>,
        /// Whether this is the last page.
        last: bool,
    },
    /// It asks for a change. The content of a put is on its disk.
    Propose {
        /// The change.
        request: ChangeRequest,
        /// Whether it is something that was found in the folder, not asked for by a session.
        found: bool,
        /// How many copies the asker wants to hear of; 0 and 1 are there once it is done.
        copies: u16,
    },
    /// What has become of a change that it once asked for? The answer is `Answer`; [`crate::ErrorCode::NotFound`] where it never got a number.
    QueryChange {
        /// The change.
        id: ChangeId,
    },
    /// It has applied all changes up to this one, for good.
    Applied {
        /// The last of them.
        upto: Lsn,
    },
    /// It has the content of a put under its name, for good; or has it no more.
    Holds {
        /// The put.
        put: Lsn,
        /// Whether it has it.
        has: bool,
    },
    /// It could not place the content of a put that it asked for itself.
    PublishFailed {
        /// The put.
        of: Lsn,
    },
    /// It lacks the content of a put and will not take it from anywhere any more, until it is told that somebody holds it.
    GivenUp {
        /// The put.
        put: Lsn,
    },
    /// Who holds the content of this put?
    FindHolders {
        /// The put.
        put: Lsn,
    },
    /// It has taken what it was last told and can take more.
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

/// From a master to a slave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSlave {
    /// It may follow: the changes behind its own number come next.
    Follow {
        /// The master's epoch.
        epoch: u32,
        /// The last change.
        lsn: Lsn,
        /// The hash at the slave's number. A slave without any change takes it over.
        chain: HistoryHash,
        /// As `GiveUp`, for all of these; at most [`limits::GIVEN_UP`].
        given_up: Vec<Lsn>,
        /// The timelines of the master's history, oldest first.
        timelines: Vec<Timeline>,
    },
    /// The changes do not reach back to its number, or are not its own: the whole tree comes in pages, and it compares.
    Compare {
        /// The master's epoch.
        epoch: u32,
        /// The last change.
        lsn: Lsn,
        /// As `GiveUp`, for all of these; at most [`limits::GIVEN_UP`].
        given_up: Vec<Lsn>,
    },
    /// A part of the tree, in the order of the paths. The slave says `Ready` for the next.
    Page {
        /// Entries.
        entries: Vec<(TreePath, TreeEntry)>,
        /// Changes by their ids.
        ids: Vec<(ChangeId, Lsn)>,
    },
    /// The tree was told whole.
    End {
        /// The tree is as after this change.
        lsn: Lsn,
        /// The hash there.
        chain: HistoryHash,
        /// The timelines of the history that made this tree, oldest first.
        timelines: Vec<Timeline>,
        /// How many entries there were.
        entries: u64,
    },
    /// The next changes, in order.
    Commit {
        /// Changes.
        changes: Vec<CommittedEntry>,
    },
    /// What became of a change that it asked for, or asked about, where that is not told as a change.
    ProposalResult {
        /// The change.
        id: ChangeId,
        /// The number that it has already, or why it has none.
        answer: Result<Lsn, Refusal>,
    },
    /// As many disks as were wanted have the content now.
    Copies {
        /// The put.
        put: Lsn,
        /// How many.
        copies: u16,
    },
    /// Nobody is known to hold the content of this put, and it is to be withdrawn. Who has it says `Holds`; who lacks it takes it from nowhere
    /// any more and says `GivenUp`. So nobody can come by it, drop what it replaced and call it done while the withdrawal is under way.
    GiveUp {
        /// The put.
        put: Lsn,
    },
    /// Who holds content.
    Holders {
        /// The put.
        put: Lsn,
        /// The folders that hold it; at most [`limits::HOLDERS`] are named.
        holders: Vec<FolderId>,
    },
    /// It cannot join.
    Refuse {
        /// The master's epoch.
        epoch: u32,
        /// Why.
        why: Refusal,
    },
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

/// A part of a slave's tree, as the master asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreePage {
    /// The number of the question.
    pub query: u64,
    /// Entries in the order of the paths, and whether the content is there.
    pub entries: Vec<(TreePath, TreeEntry, bool)>,
    /// Changes by their ids; only where they were asked for.
    pub ids: Vec<(ChangeId, Lsn)>,
    /// Where the folder stands; the same in all parts.
    pub position: ReplicaPosition,
    /// The timelines of the history that made this tree, oldest first; in the first part only.
    pub timelines: Vec<Timeline>,
    /// Whether this is the last part.
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
