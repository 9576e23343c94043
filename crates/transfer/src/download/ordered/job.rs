//! The content that several sessions fetch in order.

use relais_proto::{Digest, TreePath};

/// What is fetched: the pieces of a content from number `first` on.
pub(in crate::download) struct OrderedJob {
    pub path: TreePath,
    pub size: u64,
    pub digest: Digest,
    /// The proved values of all pieces.
    pub values: Vec<Digest>,
    pub first: u64,
}
