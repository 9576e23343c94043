//! What the file system says about one file or folder.

use relais_proto::{FileTime, FolderId, Identity, Kind, Mode};
use rustix::fs::{FileType, Stat, Statx, StatxTimestamp};

/// Keeps this hash apart from every other one: it names content by where it lies.
const DOMAIN: &[u8] = b"relais identity on disk 1\0";
/// Nanoseconds in a second, less one.
const MOST_NANOS: u32 = 999_999_999;

/// What a name stands for.
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

/// What the file system says about one file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: MetaKind,
    /// Bytes of content.
    pub size: u64,
    /// Last modification of the content.
    pub mtime: FileTime,
    /// Permission bits.
    pub mode: Mode,
    /// The device it lies on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Last change of content or attributes, by the system's clock. No program can set it.
    pub ctime: FileTime,
    /// How many names it has.
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
    /// What a stat call said.
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

    /// What a statx call said.
    #[must_use]
    pub(crate) fn from_statx(found: &Statx) -> Self {
        let when =
            |t: &StatxTimestamp| FileTime { seconds: t.tv_sec, nanos: t.tv_nsec.min(999_999_999) };
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

    /// Whether content and place on the disk are the same as in `other`: nothing was written
    /// between the two looks, unless within the same tick of the system's clock.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime, self.ctime)
            == (other.dev, other.ino, other.size, other.mtime, other.ctime)
    }

    /// Whether it is the same file or folder, perhaps under another name: a rename changes the ctime on many file systems.
    /// Of a file size and mtime are the same too.
    #[must_use]
    pub fn same_but_renamed(&self, other: &Self) -> bool {
        (self.kind, self.dev, self.ino) == (other.kind, other.dev, other.ino)
            && (self.kind == MetaKind::Folder
                || (self.size, self.mtime) == (other.size, other.mtime))
    }

    /// Names the content by where it lies on the disk of folder `folder`.
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

    /// What an entry says it is; none for what is not served.
    #[must_use]
    pub fn served_kind(&self) -> Option<Kind> {
        match self.kind {
            MetaKind::File => Some(Kind::File),
            MetaKind::Folder => Some(Kind::Folder),
            MetaKind::Link | MetaKind::Special => None,
        }
    }
}

/// A number of names, whose type differs between machines.
fn links(count: impl Into<u64>) -> u64 {
    count.into()
}

/// The time in two numbers whose types differ between machines.
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
