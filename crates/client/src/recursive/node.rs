//! The content of a subtree as a flat, ordered list, the same for both sides.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;

use relais_proto::{Entry, FileTime, Kind, TreePath};
use relais_tree::{Meta, MetaKind};

use crate::{Failure, Result};

/// One file or folder of a subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Path below the top of the subtree; never the top itself.
    pub path: TreePath,
    pub kind: Kind,
    /// Size of the content in bytes; 0 for folders.
    pub size: u64,
    /// Time of the last modification.
    pub mtime: FileTime,
}

impl Node {
    /// Converts a server's entry at `path`.
    pub fn new(path: TreePath, entry: &Entry) -> Self {
        Self { path, kind: entry.kind, size: entry.size, mtime: entry.mtime }
    }

    /// Describes a local entry, unless it is neither a file nor a folder.
    ///
    /// # Errors
    /// Why the entry is skipped.
    pub fn local(path: TreePath, meta: &Meta) -> Result<Self, SkipReason> {
        let kind = match meta.kind {
            MetaKind::File => Kind::File,
            MetaKind::Folder => Kind::Folder,
            MetaKind::Link => return Err(SkipReason::Link),
            MetaKind::Special => return Err(SkipReason::Special),
        };
        let size = if kind == Kind::File { meta.size } else { 0 };
        Ok(Self { path, kind, size, mtime: meta.mtime })
    }

    /// Whether the node is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }
}

/// Why a name is skipped: it is neither transferred nor removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Special,
    /// A mount point.
    Mount,
    /// The name is not UTF-8, or breaks the rules for names.
    Name,
    /// The `.log`, or a temporary file of this program.
    Reserved,
    /// The name or its kind cannot be read.
    Unreadable,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "a symbolic link",
            Self::Special => "a device, FIFO or socket",
            Self::Mount => "a mount point",
            Self::Name => "a name that cannot be used",
            Self::Reserved => "a name that ftpclient uses itself",
            Self::Unreadable => "something that cannot be read",
        })
    }
}

/// A name that is skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedName {
    /// Folder that contains the name.
    pub folder: TreePath,
    /// The name, for messages.
    pub name: String,
    pub reason: SkipReason,
}

impl SkippedName {
    /// Creates the record of a name in `folder`.
    pub fn new(folder: &TreePath, name: impl Into<String>, reason: SkipReason) -> Self {
        Self { folder: folder.clone(), name: name.into(), reason }
    }

    /// Returns the path of the name, if it is valid.
    pub fn path(&self) -> Option<TreePath> {
        self.folder.join(&self.name).ok()
    }

    /// Returns the path below the top, for messages.
    pub fn shown(&self) -> String {
        match self.folder.as_str() {
            "" => self.name.clone(),
            folder => format!("{folder}/{}", self.name),
        }
    }
}

/// The listing of a subtree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeListing {
    /// Nodes in the order of [`order`]: a folder directly precedes its content.
    pub nodes: Vec<Node>,
    /// Existing names that are skipped.
    pub skipped: Vec<SkippedName>,
    /// Folders that could not be listed completely.
    pub failed: Vec<(TreePath, Failure)>,
}

impl TreeListing {
    /// Whether the listing is complete.
    ///
    /// An incomplete listing does not prove that a name is missing.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }

    /// Skips a name directly in `folder`.
    pub fn skip(&mut self, folder: &TreePath, name: impl Into<String>, reason: SkipReason) {
        self.skipped.push(SkippedName::new(folder, name, reason));
    }

    /// Records a folder that could not be listed; its unknown content must not be removed.
    pub fn not_listed(&mut self, path: &TreePath, failure: Failure) {
        self.skip(path, "", SkipReason::Unreadable);
        self.failed.push((path.clone(), failure));
    }

    /// Sorts the nodes.
    pub fn sort(&mut self) {
        self.nodes.sort_unstable_by(|a, b| order(&a.path, &b.path));
    }
}

/// Compares paths part by part, so that the content of a folder directly follows it.
pub fn order(a: &TreePath, b: &TreePath) -> Ordering {
    a.parts().cmp(b.parts())
}

/// Returns the parent folder; the root for the root.
pub fn parent(path: &TreePath) -> TreePath {
    path.split_last().map(|(parent, _)| parent).unwrap_or_default()
}

/// Whether `paths` contains this path or one above it.
pub fn is_covered(paths: &HashSet<TreePath>, path: &TreePath) -> bool {
    if paths.is_empty() {
        return false;
    }
    let mut at = path.clone();
    while !at.is_root() {
        if paths.contains(&at) {
            return true;
        }
        at = parent(&at);
    }
    false
}

/// Whether two times are equal, as far as both sides store them: some store whole seconds only.
pub fn same_time(a: FileTime, b: FileTime) -> bool {
    a.seconds == b.seconds && (a.nanos == b.nanos || a.nanos == 0 || b.nanos == 0)
}

/// Joins `path` to `base`.
///
/// # Errors
/// The joined path is too long.
pub fn under(base: &TreePath, path: &TreePath) -> Result<TreePath> {
    if base.is_root() || path.is_root() {
        return Ok(if base.is_root() { path.clone() } else { base.clone() });
    }
    TreePath::new(format!("{}/{}", base.as_str(), path.as_str()))
        .map_err(|e| Failure::from(e).of(&path.to_string()))
}

/// Returns the full remote path, even if it is too long for a request.
pub fn remote_name(base: &TreePath, path: &TreePath) -> String {
    under(base, path).map_or_else(|_| format!("{base}{path}"), |whole| whole.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_a_folder_follows_it() {
        let mut paths: Vec<TreePath> =
            ["a-b", "a/x", "a", "b", "a/x/y", "a.b"].map(|p| TreePath::new(p).unwrap()).to_vec();
        paths.sort_by(order);
        assert_eq!(
            paths.iter().map(TreePath::as_str).collect::<Vec<_>>(),
            ["a", "a/x", "a/x/y", "a-b", "a.b", "b"]
        );
    }

    #[test]
    fn times_are_compared_at_common_precision() {
        let t = |seconds, nanos| FileTime { seconds, nanos };
        assert!(
            same_time(t(1, 5), t(1, 5))
                && same_time(t(1, 0), t(1, 5))
                && same_time(t(1, 5), t(1, 0))
        );
        assert!(!same_time(t(1, 5), t(1, 6)) && !same_time(t(1, 0), t(2, 0)));
    }

    #[test]
    fn paths_are_joined_up_to_the_limit() {
        let path = |text: &str| TreePath::new(text).unwrap();
        for (base, rest, whole) in
            [("a", "b/c", "a/b/c"), ("", "b", "b"), ("a", "", "a"), ("", "", "")]
        {
            assert_eq!(under(&path(base), &path(rest)).unwrap(), path(whole));
        }
        let long = path(&vec!["n".repeat(255); 15].join("/"));
        assert!(
            under(&long, &path(&"n".repeat(255))).is_ok()
                && under(&long, &path(&format!("{}/x", "n".repeat(255)))).is_err()
        );
    }
}
