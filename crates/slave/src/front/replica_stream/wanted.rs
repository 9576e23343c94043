//! The content that a stream asks other slaves for.

use relais_proto::{Digest, TreePath};

/// The content that a stream sends, as the catalogue describes it.
#[derive(Debug, Clone)]
pub struct WantedContent {
    /// The path from the root of the tree.
    pub path: TreePath,
    pub size: u64,
    pub digest: Digest,
}
