//! Changes to the tree, from the proposal of a session to the folder on the disk.
//!
//! A worker stages content, sends each proposal to the replicator over a channel, and waits for the
//! result. The replicator handles all waiting proposals in one batch: it syncs the staged content,
//! has the changes checked and committed (`numbering`), applies them (`apply`), records them in the
//! catalogue, and answers. Only its catalogue writer does this, so no other thread renames, removes
//! or creates anything in the folder.

mod apply;
pub mod channel;
mod commit;
pub mod handoff;
mod note;
mod numbering;
mod obstacles;
mod parallel;
mod proposal_receiver;
mod replay;
pub mod replication;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

pub use commit::Committer;
pub use numbering::Numbering;
pub use replay::{Memory, Remembered, discard_journal, open as open_journal};

use relais_proto::{
    Change, ChangeId, Decoder, Digest, Encoder, ErrorCode, Expect, LogEntry, Lsn, Refusal,
    TreePath, Wire, WireError, limits,
};

use crate::staging::StagedName;

/// A change that a session asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Id of the change. A repeated id is the same change.
    pub id: ChangeId,
    pub change: Change,
    /// Required state of the path for a put.
    pub expect: Expect,
    /// Whether a put keeps the mode of the file that it replaces.
    pub keep_mode: bool,
    /// Staged file with the content of a put.
    pub staged: Option<StagedName>,
    /// Whether the content is synced already.
    pub synced: bool,
    /// Number of disks that must hold the content before the result; 0 for the setting of the
    /// cluster.
    pub copies: u16,
}

/// Receipt of a committed change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitReceipt {
    /// LSN of the change.
    pub version: Lsn,
    /// Number of disks that hold the content, at least.
    pub copies: u16,
    /// Digest of the content of a put; `None` for other changes, or if it is not known.
    pub digest: Option<Digest>,
    /// Whether the change was committed just now. An earlier change may be superseded at its path.
    pub fresh: bool,
}

#[cfg(test)]
impl From<Lsn> for CommitReceipt {
    fn from(version: Lsn) -> Self {
        Self { version, copies: 1, digest: None, fresh: true }
    }
}

/// What a change id was committed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// LSN of the change.
    pub version: Lsn,
    /// Digest of the content of a put; `None` for other changes, or if it is not known.
    pub digest: Option<Digest>,
}

impl From<&LogEntry> for Commit {
    fn from(entry: &LogEntry) -> Self {
        Self { version: entry.version, digest: digest_of(&entry.change) }
    }
}

impl Commit {
    /// Answers a proposal whose id was used before. An id stands for one content.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Conflict`] if other content was stored under the id.
    pub fn answer_to(self, change: &Change) -> ProposalResult {
        match (self.digest, digest_of(change)) {
            (Some(stored), Some(asked)) if stored != asked => Err(other_content(change)),
            (digest, _) => {
                Ok(CommitReceipt { version: self.version, copies: 1, digest, fresh: false })
            }
        }
    }
}

/// Returns the digest of the content of a put.
fn digest_of(change: &Change) -> Option<Digest> {
    match change {
        Change::Put { digest, .. } => Some(*digest),
        _ => None,
    }
}

/// Refusal of an id that stands for other content.
fn other_content(change: &Change) -> Refusal {
    let reason = "this upload id was used for other content; nothing was stored, use a new id";
    match change {
        Change::Put { path, .. } => Refusal::at(path, ErrorCode::Conflict, reason),
        _ => Refusal::new(ErrorCode::Conflict, reason),
    }
}

/// Result of a proposal.
pub type ProposalResult = Result<CommitReceipt, Refusal>;

/// Refusal if no process can make changes now.
#[must_use]
pub fn changes_unavailable(reason: &str) -> Refusal {
    Refusal::new(ErrorCode::NoChanges, format!("changes are not possible now: {reason}"))
}

/// Same as [`changes_unavailable`], because of the state of a path.
#[must_use]
pub fn changes_unavailable_at(path: &TreePath, reason: &str) -> Refusal {
    Refusal { path: Some(path.clone()), ..changes_unavailable(reason) }
}

impl Proposal {
    /// Encodes the proposal for the channel.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![CHANGE];
        let to = &mut Encoder::new(&mut bytes);
        self.id.encode(to);
        self.change.encode(to);
        self.expect.encode(to);
        to.bool(self.keep_mode);
        to.option(self.staged.as_ref(), |name, to| {
            to.short_text(name.as_str());
        })
        .bool(self.synced)
        .u16(self.copies);
        bytes
    }

    /// Decodes a proposal, without the first byte of the message.
    ///
    /// # Errors
    /// Returns a [`WireError`] for malformed bytes.
    fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(bytes);
        let bad = WireError::BadValue { what: "staged name", value: 0 };
        let proposal = Self {
            id: ChangeId::decode(&mut from)?,
            change: Change::decode(&mut from)?,
            expect: Expect::decode(&mut from)?,
            keep_mode: from.bool()?,
            staged: match from.bool()? {
                true => Some(
                    StagedName::parse(from.short_text("staged name", limits::NAME_PART)?)
                        .ok_or(bad)?,
                ),
                false => None,
            },
            synced: from.bool()?,
            copies: from.u16()?,
        };
        from.finish()?;
        Ok(proposal)
    }
}

/// A request of a session to the replicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRequest {
    /// Make a change. The answer is a [`ProposalResult`].
    Change(Proposal),
    /// List the folders that hold the content of a put. The answer is their ids.
    Holders(Lsn),
}

impl ChannelRequest {
    /// Encodes a holders request for the channel.
    #[must_use]
    pub fn holders(put: Lsn) -> Vec<u8> {
        let mut bytes = vec![HOLDERS];
        put.encode(&mut Encoder::new(&mut bytes));
        bytes
    }

    /// Decodes a message of the channel.
    ///
    /// # Errors
    /// Returns a [`WireError`] for malformed bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        match bytes.split_first() {
            Some((&CHANGE, proposal)) => Proposal::from_bytes(proposal).map(Self::Change),
            Some((&HOLDERS, put)) => {
                let mut from = Decoder::new(put);
                let put = Lsn::decode(&mut from)?;
                from.finish()?;
                Ok(Self::Holders(put))
            }
            Some((other, _)) => {
                Err(WireError::BadValue { what: "question", value: (*other).into() })
            }
            None => Err(WireError::Short),
        }
    }
}

/// First byte of each request.
const CHANGE: u8 = 0;
const HOLDERS: u8 = 1;

/// Encodes a result for the channel.
#[must_use]
pub fn encode_result(answer: &ProposalResult) -> Vec<u8> {
    let mut bytes = Vec::new();
    let to = &mut Encoder::new(&mut bytes);
    match answer {
        Ok(CommitReceipt { version, copies, digest, fresh }) => {
            version.encode(to.bool(true));
            to.u16(*copies).option(digest.as_ref(), Digest::encode).bool(*fresh);
        }
        Err(refusal) => {
            to.bool(false).u16(refusal.code.number()).message(&refusal.message);
            // All pending results must fit into the socket. The client knows which path it asked
            // for.
            let room = limits::TEXT.saturating_sub(refusal.message.len());
            let path = refusal.path.as_ref().filter(|path| path.as_str().len() <= room);
            to.option(path, |path, to| {
                to.path(path);
            });
        }
    }
    bytes
}

/// Decodes a result from the channel.
///
/// # Errors
/// Returns a [`WireError`] for malformed bytes.
pub fn decode_result(bytes: &[u8]) -> Result<ProposalResult, WireError> {
    let mut from = Decoder::new(bytes);
    let answer = if from.bool()? {
        Ok(CommitReceipt {
            version: Lsn::decode(&mut from)?,
            copies: from.u16()?,
            digest: from.option()?,
            fresh: from.bool()?,
        })
    } else {
        let number = from.u16()?;
        let code = ErrorCode::from_number(number)
            .ok_or(WireError::BadValue { what: "error code", value: number.into() })?;
        let message = from.short_text("message", limits::TEXT)?;
        let path = if from.bool()? { Some(from.path()?) } else { None };
        Err(Refusal { path, ..Refusal::new(code, message) })
    };
    from.finish()?;
    Ok(answer)
}
