//! Changes to the tree, from the session that asks for one to the folder on the disk.
//!
//! A worker stages content, hands each change to the replicator over a channel, and waits for the
//! answer. The replicator takes what has come together, and for all of it at once: puts the staged content on the
//! disk, has it checked and numbered (`numbering`), carries it out (`apply`), notes it in the catalogue, and answers.
//! Only its keeper thread does, so nothing else renames, removes or makes anything in the folder.

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
pub use replay::{Memory, Remembered, open as open_journal};

use relais_proto::{
    Change, ChangeId, Decode, Decoder, Digest, Encoder, ErrorCode, Expect, LogEntry, Lsn, Refusal,
    TreePath, WireError, limits,
};

use crate::staging::StagedName;

/// A change that a session asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Asked again it is the same change.
    pub id: ChangeId,
    /// The change.
    pub change: Change,
    /// What must be there for a put.
    pub expect: Expect,
    /// Whether a put keeps the mode of the file that it replaces.
    pub keep_mode: bool,
    /// Where the content of a put lies.
    pub staged: Option<StagedName>,
    /// Whether the content is on the disk already.
    pub synced: bool,
    /// How many disks must have the content before it is answered; 0: as many as the cluster asks for.
    pub copies: u16,
}

/// A change that is made and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitReceipt {
    /// Its number.
    pub version: Lsn,
    /// How many disks have its content, at the least.
    pub copies: u16,
    /// What a put has stored; none for other changes, and where it is not known any more.
    pub digest: Option<Digest>,
    /// Whether it was made just now. One that was made before may have been superseded at its path.
    pub fresh: bool,
}

#[cfg(test)]
impl From<Lsn> for CommitReceipt {
    fn from(version: Lsn) -> Self {
        Self { version, copies: 1, digest: None, fresh: true }
    }
}

/// What a change was made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its number.
    pub version: Lsn,
    /// What a put has stored; none for other changes, and where it is not known any more.
    pub digest: Option<Digest>,
}

impl From<&LogEntry> for Commit {
    fn from(numbered: &LogEntry) -> Self {
        Self { version: numbered.version, digest: digest_of(&numbered.change) }
    }
}

impl Commit {
    /// The answer to `change` under an id that was used before: an id stands for one content.
    ///
    /// # Errors
    /// [`ErrorCode::Conflict`] where other content was stored under the id.
    pub fn answer_to(self, change: &Change) -> ProposalResult {
        match (self.digest, digest_of(change)) {
            (Some(stored), Some(asked)) if stored != asked => Err(other_content(change)),
            (digest, _) => {
                Ok(CommitReceipt { version: self.version, copies: 1, digest, fresh: false })
            }
        }
    }
}

/// The digest of the content of a put.
fn digest_of(change: &Change) -> Option<Digest> {
    match change {
        Change::Put { digest, .. } => Some(*digest),
        _ => None,
    }
}

/// The refusal of content under an id that stands for other content.
fn other_content(change: &Change) -> Refusal {
    let why = "this upload id was used for other content; nothing was stored, use a new id";
    match change {
        Change::Put { path, .. } => Refusal::at(path, ErrorCode::Conflict, why),
        _ => Refusal::new(ErrorCode::Conflict, why),
    }
}

/// What came of it.
pub type ProposalResult = Result<CommitReceipt, Refusal>;

/// The refusal where nobody can make changes.
#[must_use]
pub fn changes_unavailable(why: &str) -> Refusal {
    Refusal::new(ErrorCode::NoChanges, format!("changes are not possible now: {why}"))
}

/// As [`changes_unavailable`], because of what is at this path.
#[must_use]
pub fn changes_unavailable_at(path: &TreePath, why: &str) -> Refusal {
    Refusal { path: Some(path.clone()), ..changes_unavailable(why) }
}

impl Proposal {
    /// As bytes for the channel.
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

    /// From the bytes of the channel, behind the first.
    ///
    /// # Errors
    /// What is wrong with them.
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

/// What a session asks of the replicator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRequest {
    /// To make a change. The answer is an [`ProposalResult`].
    Change(Proposal),
    /// Which folders hold the content of a put. The answer is their ids.
    Holders(Lsn),
}

impl ChannelRequest {
    /// The question for holders as bytes for the channel.
    #[must_use]
    pub fn holders(put: Lsn) -> Vec<u8> {
        let mut bytes = vec![HOLDERS];
        put.encode(&mut Encoder::new(&mut bytes));
        bytes
    }

    /// From the bytes of the channel.
    ///
    /// # Errors
    /// What is wrong with them.
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

/// First byte of each question.
const CHANGE: u8 = 0;
const HOLDERS: u8 = 1;

/// An answer as bytes for the channel.
#[must_use]
pub fn answer_to_bytes(answer: &ProposalResult) -> Vec<u8> {
    let mut bytes = Vec::new();
    let to = &mut Encoder::new(&mut bytes);
    match answer {
        Ok(CommitReceipt { version, copies, digest, fresh }) => {
            version.encode(to.bool(true));
            to.u16(*copies).option(digest.as_ref(), Digest::encode).bool(*fresh);
        }
        Err(refusal) => {
            to.bool(false).u16(refusal.code.number()).message(&refusal.message);
            // As many answers as may be pending have to fit into the socket; a client says itself what it asked for.
            let room = limits::TEXT.saturating_sub(refusal.message.len());
            let path = refusal.path.as_ref().filter(|path| path.as_str().len() <= room);
            to.option(path, |path, to| {
                to.path(path);
            });
        }
    }
    bytes
}

/// An answer from the bytes of the channel.
///
/// # Errors
/// What is wrong with them.
pub fn answer_from_bytes(bytes: &[u8]) -> Result<ProposalResult, WireError> {
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
