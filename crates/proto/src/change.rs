//! Changes to the tree: requests, log entries and their encoding.

use crate::types::decode_size;
use crate::{ChangeId, Decode, Decoder, Digest, Encoder, FileTime, Lsn, Mode, TreePath, WireError};

/// Precondition of a put: the expected entry at its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Expect {
    /// Any entry, or none.
    #[default]
    Any,
    /// No entry.
    Absent,
    /// An entry without a log sequence number.
    Unnumbered,
    /// An entry whose last change has this number.
    Lsn(Lsn),
}

impl Expect {
    /// Appends a tag, and the number where there is one.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Any => to.u8(0),
            Self::Absent => to.u8(1),
            Self::Unnumbered => to.u8(2),
            Self::Lsn(version) => {
                version.encode(to.u8(3));
                to
            }
        };
    }

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

impl Decode for Expect {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.u8()? {
            0 => Ok(Self::Any),
            1 => Ok(Self::Absent),
            2 => Ok(Self::Unnumbered),
            3 => Lsn::decode(from).map(Self::Lsn),
            other => Err(WireError::BadValue { what: "expectation", value: other.into() }),
        }
    }
}

/// A change to the tree, as it is logged and applied.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores a file; replaces a file that exists.
    Put {
        path: TreePath,
        /// Size of the content in bytes.
        size: u64,
        /// Digest of the content.
        digest: Digest,
        mtime: FileTime,
        mode: Mode,
    },
    /// Makes an empty folder where nothing exists.
    MakeFolder { path: TreePath, mode: Mode },
    /// Removes a file, an empty folder, or a folder with all entries that are below it at this
    /// number.
    Remove {
        path: TreePath,
        /// Whether the entries below a folder are removed with it.
        recursive: bool,
    },
    /// Renames like rename(2), but never onto a folder.
    Move { from: TreePath, to: TreePath },
    /// Withdraws an earlier change that could not be applied.
    ///
    /// The paths of that change get their former state back, under this number.
    Withdraw {
        /// The withdrawn change.
        of: Lsn,
    },
    /// Sets the permission bits of a file or folder.
    SetMode { path: TreePath, mode: Mode },
}

impl Change {
    /// Appends a tag and the fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Put { path, size, digest, mtime, mode } => {
                to.u8(0).path(path).u64(*size);
                digest.encode(to);
                mtime.encode(to);
                mode.encode(to);
            }
            Self::MakeFolder { path, mode } => {
                mode.encode(to.u8(1).path(path));
            }
            Self::Remove { path, recursive } => {
                to.u8(2).path(path).bool(*recursive);
            }
            Self::Move { from, to: target } => {
                to.u8(3).path(from).path(target);
            }
            Self::Withdraw { of } => of.encode(to.u8(4)),
            Self::SetMode { path, mode } => mode.encode(to.u8(5).path(path)),
        }
    }
}

impl Decode for Change {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(match from.u8()? {
            0 => Self::Put {
                path: from.path()?,
                size: decode_size(from)?,
                digest: Digest::decode(from)?,
                mtime: FileTime::decode(from)?,
                mode: Mode::decode(from)?,
            },
            1 => Self::MakeFolder { path: from.path()?, mode: Mode::decode(from)? },
            2 => Self::Remove { path: from.path()?, recursive: from.bool()? },
            3 => Self::Move { from: from.path()?, to: from.path()? },
            4 => Self::Withdraw { of: Lsn::decode(from)? },
            5 => Self::SetMode { path: from.path()?, mode: Mode::decode(from)? },
            other => {
                return Err(WireError::BadValue { what: "kind of change", value: other.into() });
            }
        })
    }
}

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

impl LogEntry {
    /// Appends all fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        self.version.encode(to);
        self.id.encode(to);
        to.u64(self.time_ms);
        self.change.encode(to);
    }
}

impl Decode for LogEntry {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            version: Lsn::decode(from)?,
            id: ChangeId::decode(from)?,
            time_ms: from.u64()?,
            change: Change::decode(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            Change::SetMode { path: path("a/b"), mode: Mode::new(0o600) },
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
