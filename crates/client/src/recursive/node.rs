//! What a subtree holds, as a flat list in one order, there and here alike.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;

use relais_proto::{Entry, FileTime, Kind, Lsn, TreePath};

use crate::Failure;

/// One file or folder of a subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path from the top of the subtree; never the top itself.
    pub path: TreePath,
    /// File or folder.
    pub kind: Kind,
    /// Bytes of content; 0 for folders.
    pub size: u64,
    /// Last modification.
    pub mtime: FileTime,
    /// The last change to its path; none for what is local, or was never numbered.
    pub version: Option<Lsn>,
}

impl Node {
    /// What a server's entry says about `path`.
    #[must_use]
    pub fn new(path: TreePath, entry: &Entry) -> Self {
        Self {
            path,
            kind: entry.kind,
            size: entry.size,
            mtime: entry.mtime,
            version: entry.version,
        }
    }

    /// Whether it is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }
}

/// Why a name is neither transferred nor ever removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Special,
    /// Another file system begins there.
    Mount,
    /// The name is not UTF-8, or breaks the rules for names.
    Name,
    /// The `.log`, or a temporary file of this program.
    Reserved,
    /// It could not be looked at.
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

/// A name that is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedName {
    /// The folder that it lies in.
    pub folder: TreePath,
    /// The name, for people.
    pub name: String,
    /// Its path, where it has one.
    pub path: Option<TreePath>,
    /// Why.
    pub reason: SkipReason,
}

impl SkippedName {
    /// A name in `folder`.
    #[must_use]
    pub fn new(folder: &TreePath, name: impl Into<String>, reason: SkipReason) -> Self {
        let name = name.into();
        Self { folder: folder.clone(), path: folder.join(&name).ok(), name, reason }
    }

    /// The path for people, from the top of the subtree.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.folder.as_str() {
            "" => self.name.clone(),
            folder => format!("{folder}/{}", self.name),
        }
    }
}

/// What was found in a subtree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeListing {
    /// In the order of [`order`]: a folder right before what it holds.
    pub nodes: Vec<Node>,
    /// Names that are there and left alone.
    pub skipped: Vec<SkippedName>,
    /// Folders that could not be listed, or not to their end.
    pub failed: Vec<(TreePath, Failure)>,
}

impl TreeListing {
    /// Whether everything that is there was seen. From a listing that is not whole nobody may
    /// conclude that a name is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }

    /// Puts the nodes in order.
    pub fn sort(&mut self) {
        self.nodes.sort_unstable_by(|a, b| order(&a.path, &b.path));
    }
}

/// The order of paths by their parts, so that all that lies below a folder follows it at once.
#[must_use]
pub fn order(a: &TreePath, b: &TreePath) -> Ordering {
    a.parts().cmp(b.parts())
}

/// Whether one of `paths` is this one or lies above it.
#[must_use]
pub fn is_covered<P: Borrow<TreePath> + Eq + Hash>(paths: &HashSet<P>, path: &TreePath) -> bool {
    if paths.is_empty() {
        return false;
    }
    let mut at = path.clone();
    while !at.is_root() {
        if paths.contains(&at) {
            return true;
        }
        at = at.split_last().map(|(parent, _)| parent).unwrap_or_default();
    }
    false
}

/// Whether two times are the same, as far as both sides know them: some keep whole seconds only.
#[must_use]
pub fn same_time(a: FileTime, b: FileTime) -> bool {
    a.seconds == b.seconds && (a.nanos == b.nanos || a.nanos == 0 || b.nanos == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_folder_follows_it() {
        let mut paths: Vec<TreePath> =
            ["a-b", "a/x", "a", "b", "a/x/y", "a.b"].map(|p| TreePath::new(p).unwrap()).to_vec();
        paths.sort_by(order);
        assert_eq!(
            paths.iter().map(TreePath::as_str).collect::<Vec<_>>(),
            ["a", "a/x", "a/x/y", "a-b", "a.b", "b"]
        );
    }

    #[test]
    fn times_are_compared_as_far_as_both_are_known() {
        let t = |seconds, nanos| FileTime { seconds, nanos };
        assert!(
            same_time(t(1, 5), t(1, 5))
                && same_time(t(1, 0), t(1, 5))
                && same_time(t(1, 5), t(1, 0))
        );
        assert!(!same_time(t(1, 5), t(1, 6)) && !same_time(t(1, 0), t(2, 0)));
    }
}
