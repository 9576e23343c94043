//! Metadata of one file or folder.

use relais_proto::{FileTime, FolderId, Identity, Kind, Mode};
use rustix::fs::{FileType, Stat, Statx, StatxTimestamp};

use crate::error::{TreeError, UnservedKind};

/// Domain of the hash that identifies content by its location.
const DOMAIN: &[u8] = b"relais identity on disk 1\0";
/// Highest number of nanoseconds in a second.
const MOST_NANOS: u32 = 999_999_999;

/// Kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A device, FIFO or socket.
    Special,
}

/// Metadata of one file or folder.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    pub kind: MetaKind,
    /// Size of the content in bytes.
    pub size: u64,
    pub mtime: FileTime,
    pub mode: Mode,
    /// Device of the entry.
    pub dev: u64,
    pub ino: u64,
    /// Last change of content or attributes, by the system's clock. No program can set it.
    pub ctime: FileTime,
    /// Number of hard links.
    pub nlink: u64,
}

fn kind_of(kind: FileType) -> MetaKind {
    match kind {
        FileType::RegularFile => MetaKind::File,
        FileType::Directory => MetaKind::Folder,
        FileType::Symlink => MetaKind::Link,
        _ => MetaKind::Special,
    }
}

impl Meta {
    /// Converts the result of stat.
    #[must_use]
    pub(crate) fn from_stat(stat: &Stat) -> Self {
        Self {
            kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            mode: Mode::new(stat.st_mode),
            dev: stat.st_dev,
            ino: stat.st_ino,
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            nlink: links(stat.st_nlink),
        }
    }

    /// Converts the result of statx.
    #[must_use]
    pub(crate) fn from_statx(found: &Statx) -> Self {
        let when = |at: &StatxTimestamp| time(at.tv_sec, at.tv_nsec);
        Self {
            kind: kind_of(FileType::from_raw_mode(found.stx_mode.into())),
            size: found.stx_size,
            mtime: when(&found.stx_mtime),
            mode: Mode::new(found.stx_mode.into()),
            dev: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            ino: found.stx_ino,
            ctime: when(&found.stx_ctime),
            nlink: found.stx_nlink.into(),
        }
    }

    /// Checks that the entry is a regular file.
    pub(crate) fn check_file(&self) -> Result<(), TreeError> {
        match self.kind {
            MetaKind::File => Ok(()),
            MetaKind::Folder => Err(TreeError::IsFolder),
            MetaKind::Link => Err(TreeError::NotServed(UnservedKind::Link)),
            MetaKind::Special => Err(TreeError::NotServed(UnservedKind::Special)),
        }
    }

    /// Returns whether content and location on disk are the same as in `other`.
    ///
    /// Then nothing was written between the two calls, except within one tick of the system's
    /// clock.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime, self.ctime)
            == (other.dev, other.ino, other.size, other.mtime, other.ctime)
    }

    /// Returns whether it is the same entry, perhaps under another name.
    ///
    /// Many file systems change the ctime on rename. For a file, size and mtime must also be the
    /// same.
    #[must_use]
    pub fn same_but_renamed(&self, other: &Self) -> bool {
        (self.kind, self.dev, self.ino) == (other.kind, other.dev, other.ino)
            && (self.kind == MetaKind::Folder
                || (self.size, self.mtime) == (other.size, other.mtime))
    }

    /// Returns the identity of the content, from its location on the disk of `folder`.
    #[must_use]
    pub fn identity(&self, folder: &FolderId) -> Identity {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN).update(&folder.0);
        for n in [self.dev, self.ino, self.size] {
            hasher.update(&n.to_be_bytes());
        }
        for t in [self.mtime, self.ctime] {
            hasher.update(&t.seconds.to_be_bytes()).update(&t.nanos.to_be_bytes());
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Identity(id)
    }

    /// Returns the kind for an entry of the tree; `None` if it is not served.
    #[must_use]
    pub fn served_kind(&self) -> Option<Kind> {
        match self.kind {
            MetaKind::File => Some(Kind::File),
            MetaKind::Folder => Some(Kind::Folder),
            MetaKind::Link | MetaKind::Special => None,
        }
    }
}

/// Converts a link count, whose type differs between platforms.
fn links(count: impl Into<u64>) -> u64 {
    count.into()
}

/// Converts a time, whose types differ between platforms.
fn time(seconds: impl Into<i64>, nanos: impl TryInto<u32>) -> FileTime {
    FileTime { seconds: seconds.into(), nanos: nanos.try_into().unwrap_or(0).min(MOST_NANOS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_the_place_counts() {
        let t = |seconds| FileTime { seconds, nanos: 5 };
        let meta = Meta {
            kind: MetaKind::File,
            size: 1,
            mtime: t(2),
            mode: Mode::new(0o644),
            dev: 3,
            ino: 4,
            ctime: t(5),
            nlink: 1,
        };
        let folder = FolderId([7; 16]);
        let id = meta.identity(&folder);
        assert_eq!(Meta { mode: Mode::new(0o755), nlink: 2, ..meta }.identity(&folder), id);
        for other in [
            Meta { size: 2, ..meta },
            Meta { mtime: t(3), ..meta },
            Meta { dev: 4, ..meta },
            Meta { ino: 5, ..meta },
            Meta { ctime: t(6), ..meta },
        ] {
            assert_ne!(other.identity(&folder), id);
            assert!(!other.same_content(&meta));
        }
        assert_ne!(meta.identity(&FolderId([8; 16])), id);
    }
}
