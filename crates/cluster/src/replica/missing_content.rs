//! One missing content, and why a fetch of it failed.

use relais_proto::{Digest, FolderId, Lsn, TreePath, Uncapped, wire_enum, wire_struct};

use crate::tree::Entry;

wire_struct! {
    /// Description of a missing content.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MissingContent {
        /// Put that stored the content.
        pub put: Lsn,
        pub path: TreePath,
        /// Size in bytes.
        pub size: u64,
        /// Required digest.
        pub digest: Digest,
        /// Folders that hold the content, as far as known.
        pub holders: Vec<FolderId> [Uncapped],
    }
}

wire_enum! {
    /// Cause of a failed fetch.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum FetchFault: "cause of a failed fetch" {
        /// The holder does not answer, no longer has the content, is busy, or sent something else.
        1 => Holder,
        /// The content could not be stored on this slave.
        2 => Local,
    }
}

/// Describes content by the fields of its change.
pub(crate) fn lack_of(
    path: &TreePath,
    put: Lsn,
    size: u64,
    digest: Digest,
    holders: Vec<FolderId>,
) -> MissingContent {
    MissingContent { put, path: path.clone(), size, digest, holders }
}

/// Describes the content of an entry as missing.
#[must_use]
pub fn lack_of_entry(path: &TreePath, entry: &Entry) -> Option<MissingContent> {
    entry
        .content
        .map(|content| lack_of(path, content.put, content.size, content.digest, Vec::new()))
}
