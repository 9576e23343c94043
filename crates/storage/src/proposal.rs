//! Proposals of changes and their results.

use relais_proto::{
    Change, ChangeId, ContentHashes, Digest, ErrorCode, Expect, LockToken, Lsn, Refusal, limits,
    wire_struct,
};

use crate::staging::StagedName;

wire_struct! {
    /// A change that a session asks for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    #[allow(missing_docs, reason = "the fields' names and types say everything")]
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
        /// Tokens of the locks that the change may use.
        pub tokens: Vec<LockToken> [limits::LOCK_TOKENS],
        /// SHA-256 hashes of the content of a put, to be recorded once the put has a number.
        pub hashes: Option<ContentHashes>,
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
        /// Whether the change was committed just now. An earlier change may be superseded at its
        /// path.
        pub fresh: bool,
    }
}

impl Proposal {
    /// Returns the proposal of a change without content and precondition.
    #[must_use]
    pub fn new(id: ChangeId, change: Change) -> Self {
        Self {
            id,
            change,
            expect: Expect::Any,
            keep_mode: false,
            staged: None,
            synced: false,
            copies: 0,
            tokens: Vec::new(),
            hashes: None,
        }
    }
}

impl CommitReceipt {
    /// Returns the receipt of a fresh change without a digest, on one disk.
    #[must_use]
    pub fn new(version: Lsn) -> Self {
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

impl Commit {
    /// Returns the commit of a change.
    #[must_use]
    pub fn new(version: Lsn, change: &Change) -> Self {
        let digest = match change {
            Change::Put { digest, .. } => Some(*digest),
            _ => None,
        };
        Self { version, digest }
    }

    /// Answers a proposal whose id was used before. An id stands for one content.
    ///
    /// # Errors
    /// Returns [`ErrorCode::Conflict`] if other content was stored under the id.
    pub fn answer_to(self, change: &Change) -> ProposalResult {
        match (self.digest, change) {
            (Some(stored), Change::Put { path, digest, .. }) if stored != *digest => {
                let reason = "this upload id was used for other content; \
                    nothing was stored, use a new id";
                Err(Refusal::at(path, ErrorCode::Conflict, reason))
            }
            (digest, _) => {
                Ok(CommitReceipt { digest, fresh: false, ..CommitReceipt::new(self.version) })
            }
        }
    }
}

/// Result of a proposal.
pub type ProposalResult = Result<CommitReceipt, Refusal>;
