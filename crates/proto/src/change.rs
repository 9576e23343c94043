//! Changes to the tree: requests, log entries and their encoding.

use crate::{
    ChangeId, ContentHashes, Digest, FileTime, LockRequest, LockToken, Lsn, Mode, PropertyChange,
    TreePath, limits, wire_enum, wire_struct,
};

wire_enum! {
    /// Precondition of a change: the expected entry at its path.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub enum Expect: "expectation" {
        /// Any entry, or none.
        #[default]
        0 => Any,
        /// No entry.
        1 => Absent,
        /// An entry without a log sequence number.
        2 => Unnumbered,
        /// An entry whose last change has this number.
        3 => Lsn(Lsn),
    }

    /// A change to the tree, as it is logged and applied.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Change: "kind of change" {
        /// Stores a file; replaces a file that exists.
        0 => Put {
            path: TreePath,
            /// Size of the content in bytes.
            size: u64 [limits::FILE_SIZE],
            /// Digest of the content.
            digest: Digest,
            mtime: FileTime,
            mode: Mode,
        },
        /// Makes an empty folder where nothing exists.
        1 => MakeFolder { path: TreePath, mode: Mode },
        /// Removes a file, an empty folder, or a folder with all entries that are below it at this
        /// number.
        2 => Remove {
            path: TreePath,
            /// Whether the entries below a folder are removed with it.
            recursive: bool,
        },
        /// Renames like rename(2), but never onto a folder.
        3 => Move { from: TreePath, to: TreePath },
        /// Withdraws an earlier change that could not be applied.
        ///
        /// The paths of that change get their former state back, under this number.
        4 => Withdraw {
            /// The withdrawn change.
            of: Lsn,
        },
        /// Sets attributes of a file or folder; the others stay.
        5 => SetAttributes { path: TreePath, attributes: Attributes },
        /// Sets or removes dead properties of a file or folder, also of the root; the others stay.
        6 => SetProperties {
            path: TreePath,
            changes: Vec<PropertyChange> [limits::PROPERTIES],
        },
        /// Locks a file or folder, also the root, or extends the lock with the same token.
        7 => Lock { path: TreePath, lock: LockRequest },
        /// Ends a lock.
        8 => Unlock { path: TreePath, token: LockToken },
        /// Records hashes of a content, until no path has that content.
        9 => RecordSha256 {
            /// The put that stored the content.
            put: Lsn,
            hashes: ContentHashes,
        },
    }
}

wire_struct! {
    /// New attributes of a file or folder.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Attributes {
        optional {
            /// Time of last modification; only for files.
            1 => pub mtime: Option<FileTime>,
            /// Permission bits.
            2 => pub mode: Option<Mode>,
        }
    }
}

impl Change {
    /// Returns the path of the result, and then the former path of a move.
    ///
    /// There is none for a withdrawal and for hashes.
    pub fn paths(&self) -> impl Iterator<Item = &TreePath> {
        let (path, from) = match self {
            Self::Put { path, .. }
            | Self::MakeFolder { path, .. }
            | Self::Remove { path, .. }
            | Self::SetAttributes { path, .. }
            | Self::SetProperties { path, .. }
            | Self::Lock { path, .. }
            | Self::Unlock { path, .. } => (Some(path), None),
            Self::Move { from, to } => (Some(to), Some(from)),
            Self::Withdraw { .. } | Self::RecordSha256 { .. } => (None, None),
        };
        path.into_iter().chain(from)
    }

    /// Returns the bytes of texts and lists other than paths.
    #[must_use]
    pub fn extra_bytes(&self) -> usize {
        match self {
            // Each has lengths and flags beside its texts.
            Self::SetProperties { changes, .. } => {
                changes.iter().map(|change| change.bytes() + 8).sum()
            }
            Self::Lock { lock, .. } => lock.user.len() + lock.owner.len(),
            Self::RecordSha256 { hashes, .. } => hashes.bytes(),
            Self::Put { .. }
            | Self::MakeFolder { .. }
            | Self::Remove { .. }
            | Self::Move { .. }
            | Self::Withdraw { .. }
            | Self::SetAttributes { .. }
            | Self::Unlock { .. } => 0,
        }
    }
}

impl Attributes {
    /// Sets only the permission bits.
    #[must_use]
    pub fn mode(mode: Mode) -> Self {
        Self { mode: Some(mode), mtime: None }
    }
}

impl Expect {
    /// Returns the precondition that only this entry, or no entry, fulfils.
    #[must_use]
    pub fn exactly(entry: Option<Option<Lsn>>) -> Self {
        match entry {
            None => Self::Absent,
            Some(None) => Self::Unnumbered,
            Some(Some(version)) => Self::Lsn(version),
        }
    }

    /// Returns whether the entry fulfils the precondition.
    #[must_use]
    pub fn fits(self, entry: Option<Option<Lsn>>) -> bool {
        self == Self::Any || self == Self::exactly(entry)
    }
}

wire_struct! {
    /// A change with its position in the log.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LogEntry {
        /// Position in the log.
        pub version: Lsn,
        /// Chosen by the requester; a repeated id is not applied again.
        pub id: ChangeId,
        /// Time of the log entry in milliseconds since 1970 UTC. For display and expiry; orders
        /// nothing.
        pub time_ms: u64,
        pub change: Change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, Encoder, Wire};

    #[test]
    fn expectations_are_about_the_last_change() {
        let version = |number| Lsn { epoch: 1, number };
        for (entry, fits) in [
            (None, [true, true, false, false]),
            (Some(None), [true, false, true, false]),
            (Some(Some(version(7))), [true, false, false, true]),
            (Some(Some(version(8))), [true, false, false, false]),
        ] {
            let all = [Expect::Any, Expect::Absent, Expect::Unnumbered, Expect::Lsn(version(7))];
            assert_eq!(all.map(|expect| expect.fits(entry)), fits, "{entry:?}");
            assert!(Expect::exactly(entry).fits(entry));
        }
    }

    #[test]
    fn numbered_changes_come_back() {
        let path = |text: &str| TreePath::new(text).unwrap();
        for change in [
            Change::Put {
                path: path("a/b"),
                size: 7,
                digest: Digest([1; 32]),
                mtime: FileTime { seconds: -1, nanos: 5 },
                mode: Mode::new(0o750),
            },
            Change::MakeFolder { path: path("a"), mode: Mode::new(0o770) },
            Change::SetAttributes {
                path: path("a/b"),
                attributes: Attributes::mode(Mode::new(0o600)),
            },
            Change::Remove { path: path("a"), recursive: true },
            Change::Move { from: path("a"), to: path("b/c") },
            Change::Withdraw { of: Lsn { epoch: 1, number: 6 } },
        ] {
            let numbered = LogEntry {
                version: Lsn { epoch: 1, number: 7 },
                id: ChangeId([9; 16]),
                time_ms: 5,
                change,
            };
            let mut bytes = Vec::new();
            numbered.encode(&mut Encoder::new(&mut bytes));
            let mut from = Decoder::new(&bytes);
            assert_eq!(LogEntry::decode(&mut from).unwrap(), numbered);
            from.finish().unwrap();
            for cut in 0..bytes.len() {
                assert!(
                    LogEntry::decode(&mut Decoder::new(&bytes[..cut])).is_err(),
                    "cut at {cut}"
                );
            }
        }
    }
}
