//! Rows of the catalogue: entries with their files on the disk, and retained contents.

use relais_cluster::FileContent;
use relais_proto::{Digest, Entry, FileTime, Kind, Lsn, Mode, TreePath};
use relais_tree::Meta;

use super::columns::{Columns, Values};

/// Columns of an entry, in the order of [`CatalogRow::read`] and [`CatalogRow::values`].
pub(super) const COLUMNS: &str = "folder, name, kind, mode, size, mtime_s, mtime_ns, epoch, number,
    ctime_s, ctime_ns, dev, ino, digest, content_epoch, content_number, here, disk_mode,
    disk_mtime_s, disk_mtime_ns";
/// Columns of a retained content, after folder and name.
pub(super) const RETAINED: &str = "epoch, number, digest, size, mtime_s, mtime_ns, ctime_s,
    ctime_ns, disk_mtime_s, disk_mtime_ns, dev, ino";

/// One entry, with the file identity that its digest belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct CatalogRow {
    pub entry: Entry,
    pub ctime: FileTime,
    pub dev: u64,
    pub ino: u64,
    pub digest: Option<Digest>,
    /// LSN of the put that stored the content.
    pub content: Option<Lsn>,
    /// Whether the content is on this disk. Otherwise the row describes what must be fetched.
    pub here: bool,
    /// Mode and time on the disk, which may not support those of the tree.
    pub on_disk: OnDisk,
}

/// Mode and modification time as the disk has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct OnDisk {
    pub mode: Mode,
    pub mtime: FileTime,
}

/// Identity of a file's content on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct FileIdentity {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: FileTime,
    pub ctime: FileTime,
}

impl From<&Meta> for FileIdentity {
    fn from(meta: &Meta) -> Self {
        Self { dev: meta.dev, ino: meta.ino, size: meta.size, mtime: meta.mtime, ctime: meta.ctime }
    }
}

/// A file that needs a digest.
#[derive(Debug, Clone)]
pub struct UnhashedFile {
    /// Path of the file.
    pub path: TreePath,
    /// Identity of the content to hash.
    pub meta: FileIdentity,
}

impl CatalogRow {
    /// Returns whether `meta` is of the file that the digest belongs to.
    #[must_use]
    pub fn matches(&self, meta: &Meta) -> bool {
        (self.ctime, self.on_disk.mtime) == (meta.ctime, meta.mtime)
            && self.matches_except_ctime(meta)
    }

    /// Returns whether `meta` is of the same file apart from its ctime, as after a rename.
    ///
    /// A program may have edited the content and restored the times. Callers that depend on the
    /// content compute its digest.
    #[must_use]
    pub fn matches_except_ctime(&self, meta: &Meta) -> bool {
        self.here
            && (self.dev, self.ino) == (meta.dev, meta.ino)
            && meta.served_kind() == Some(self.entry.kind)
            && (self.entry.kind == Kind::Folder
                || (self.entry.size, self.on_disk.mtime) == (meta.size, meta.mtime))
    }

    /// Returns the identity of the file.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        FileIdentity {
            dev: self.dev,
            ino: self.ino,
            size: self.entry.size,
            mtime: self.on_disk.mtime,
            ctime: self.ctime,
        }
    }

    /// Returns the row as an entry of the tree; `None` if it was never committed.
    #[must_use]
    pub fn tree_entry(&self) -> Option<relais_cluster::Entry> {
        let version = self.entry.version?;
        let content = match self.entry.kind {
            Kind::Folder => None,
            Kind::File => Some(FileContent {
                put: self.content?,
                digest: self.digest?,
                size: self.entry.size,
                mtime: self.entry.mtime,
            }),
        };
        Some(relais_cluster::Entry { version, mode: self.entry.mode, content })
    }

    /// Returns the content as retained content, if it is on this disk.
    #[must_use]
    pub fn to_retained(&self) -> Option<RetainedContent> {
        let content = self.tree_entry()?.content.filter(|_| self.here)?;
        let FileIdentity { dev, ino, mtime, ctime, .. } = self.identity();
        Some(RetainedContent { content, ctime, mtime, dev, ino })
    }

    /// Returns the row of an entry without an LSN, which `meta` describes.
    pub(super) fn found(kind: Kind, meta: &Meta) -> Self {
        let size = if kind == Kind::File { meta.size } else { 0 };
        let mode = meta.mode.with_owner_access(kind);
        Self {
            entry: Entry {
                name: String::new(),
                kind,
                mode,
                size,
                mtime: meta.mtime,
                version: None,
            },
            ctime: meta.ctime,
            dev: meta.dev,
            ino: meta.ino,
            digest: None,
            content: None,
            here: true,
            on_disk: OnDisk { mode: meta.mode, mtime: meta.mtime },
        }
    }

    /// Returns the row of an entry of the tree. Without `meta` its content is missing.
    pub(super) fn committed(entry: &relais_cluster::Entry, meta: Option<&Meta>) -> Self {
        let content = entry.content;
        let on_disk = |time: fn(&Meta) -> FileTime| meta.map_or(FileTime::default(), time);
        Self {
            entry: Entry {
                name: String::new(),
                kind: if content.is_some() { Kind::File } else { Kind::Folder },
                mode: entry.mode,
                size: content.map_or(0, |content| content.size),
                mtime: content.map_or(on_disk(|meta| meta.mtime), |content| content.mtime),
                version: Some(entry.version),
            },
            ctime: on_disk(|meta| meta.ctime),
            dev: meta.map_or(0, |meta| meta.dev),
            ino: meta.map_or(0, |meta| meta.ino),
            digest: content.map(|content| content.digest),
            content: content.map(|content| content.put),
            here: meta.is_some() || content.is_none(),
            on_disk: OnDisk {
                mode: meta.map_or(Mode::new(0), |meta| meta.mode),
                mtime: on_disk(|meta| meta.mtime),
            },
        }
    }

    /// Reads the columns after folder and name.
    pub(super) fn read(name: String, from: &mut Columns<'_>) -> rusqlite::Result<Self> {
        let kind = if from.get::<i64>()? == 0 { Kind::File } else { Kind::Folder };
        Ok(Self {
            entry: Entry {
                name,
                kind,
                mode: Mode::new(from.get()?),
                size: from.unsigned()?,
                mtime: from.time()?,
                version: from.optional_lsn()?,
            },
            ctime: from.time()?,
            dev: from.unsigned()?,
            ino: from.unsigned()?,
            digest: from.digest()?,
            content: from.optional_lsn()?,
            here: from.get()?,
            on_disk: OnDisk { mode: Mode::new(from.get()?), mtime: from.time()? },
        })
    }

    /// Adds the columns after folder and name.
    pub(super) fn values<'a>(&self, to: Values<'a>) -> Values<'a> {
        let entry = &self.entry;
        to.add(i64::from(entry.kind == Kind::Folder))
            .add(entry.mode.bits())
            .unsigned(entry.size)
            .time(entry.mtime)
            .optional_lsn(entry.version)
            .time(self.ctime)
            .unsigned(self.dev)
            .unsigned(self.ino)
            .digest(self.digest)
            .optional_lsn(self.content)
            .add(self.here)
            .add(self.on_disk.mode.bits())
            .time(self.on_disk.mtime)
    }
}

/// Former content that stays at a path until the new content arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct RetainedContent {
    pub content: FileContent,
    /// Change time of the inode.
    pub ctime: FileTime,
    /// Modification time on the disk.
    pub mtime: FileTime,
    pub dev: u64,
    pub ino: u64,
}

impl RetainedContent {
    /// Returns whether `meta` is of this file, unchanged.
    #[must_use]
    pub fn matches(&self, meta: &Meta) -> bool {
        self.matches_except_ctime(meta) && self.ctime == meta.ctime
    }

    /// Returns whether `meta` is of this file, also after a rename. Its content may have changed.
    #[must_use]
    pub fn matches_except_ctime(&self, meta: &Meta) -> bool {
        (self.dev, self.ino) == (meta.dev, meta.ino)
            && meta.served_kind() == Some(Kind::File)
            && (self.content.size, self.mtime) == (meta.size, meta.mtime)
    }

    /// Reads the columns of [`RETAINED`].
    pub(super) fn read(from: &mut Columns<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            content: FileContent {
                put: from.lsn()?,
                digest: Digest(from.get()?),
                size: from.unsigned()?,
                mtime: from.time()?,
            },
            ctime: from.time()?,
            mtime: from.time()?,
            dev: from.unsigned()?,
            ino: from.unsigned()?,
        })
    }

    /// Adds the columns of [`RETAINED`].
    pub(super) fn values<'a>(&self, to: Values<'a>) -> Values<'a> {
        let content = &self.content;
        to.lsn(content.put)
            .digest(Some(content.digest))
            .unsigned(content.size)
            .time(content.mtime)
            .time(self.ctime)
            .time(self.mtime)
            .unsigned(self.dev)
            .unsigned(self.ino)
    }
}
