//! Rows of the catalogue: entries with their files on the disk, and retained contents.

use relais_cluster::FileContent;
use relais_proto::{Digest, Entry, FileTime, Kind, Lsn, Mode, TreePath};
use relais_tree::Meta;

use super::columns::{Columns, Values};

/// Columns of an entry, in the order of [`CatalogRow::read`] and [`CatalogRow::values`].
pub(super) const COLUMNS: &str = "folder, name, kind, mode, size, mtime_s, mtime_ns, epoch, number,
    ctime_s, ctime_ns, dev, ino, digest, content_epoch, content_number, here, disk_mode,
    disk_mtime_s, disk_mtime_ns";
/// Index of the name in these columns.
const NAME: usize = 1;
/// Columns of a retained content, after folder and name.
pub(super) const RETAINED: &str = "epoch, number, digest, size, mtime_s, mtime_ns, ctime_s,
    ctime_ns, disk_mtime_s, disk_mtime_ns, dev, ino";

/// One entry, with the file identity that its digest belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRow {
    /// The entry in the tree.
    pub entry: Entry,
    /// Digest of the content; `None` for a folder, or if it is not computed yet.
    pub digest: Option<Digest>,
    /// LSN of the put that stored the content.
    pub content: Option<Lsn>,
    /// Whether the content is on this disk. Otherwise the row describes what must be fetched.
    pub here: bool,
    /// The file or folder on the disk. Its time may differ from that of the tree, which the disk
    /// may not support.
    pub disk: FileIdentity,
    /// Mode on the disk, which may not support that of the tree.
    pub disk_mode: Mode,
}

/// Identity of a file's content on the disk. A folder has no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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

impl FileIdentity {
    /// Returns whether `meta` is of this file, also after a rename. Its content may have changed.
    fn is_of(&self, meta: &Meta) -> bool {
        *self == Self { ctime: self.ctime, ..meta.into() }
    }
}

/// What the catalogue knows of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryFacts {
    /// Digest of the content; `None` for a folder, or if it is not computed yet.
    pub digest: Option<Digest>,
    /// LSN of the last change to the path.
    pub version: Option<Lsn>,
    /// LSN of the put that stored the content.
    pub content: Option<Lsn>,
    /// Mode in the tree, and modification time of a file.
    pub attributes: Option<(Mode, FileTime)>,
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
        (self.disk.ctime, self.disk.mtime) == (meta.ctime, meta.mtime)
            && self.matches_except_ctime(meta)
    }

    /// Returns what sessions need of the row.
    #[must_use]
    pub fn facts(&self) -> EntryFacts {
        EntryFacts {
            digest: self.digest,
            version: self.entry.version,
            content: self.content,
            attributes: Some((self.entry.mode, self.entry.mtime)),
        }
    }

    /// Returns whether a scan finds nothing new in `meta`: neither content nor mode.
    #[must_use]
    pub fn is_current(&self, meta: &Meta) -> bool {
        self.matches(meta) && self.disk_mode == meta.mode
    }

    /// Returns whether `meta` is of the same file apart from its ctime, as after a rename.
    ///
    /// A program may have edited the content and restored the times. Callers that depend on the
    /// content compute its digest.
    #[must_use]
    pub fn matches_except_ctime(&self, meta: &Meta) -> bool {
        self.here
            && meta.served_kind() == Some(self.entry.kind)
            && match self.entry.kind {
                Kind::File => self.disk.is_of(meta),
                Kind::Folder => (self.disk.dev, self.disk.ino) == (meta.dev, meta.ino),
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
        Some(RetainedContent { content, disk: self.disk })
    }

    /// Returns the row of an entry without an LSN, which `meta` describes.
    pub(super) fn found(kind: Kind, meta: &Meta) -> Self {
        let size = if kind == Kind::File { meta.size } else { 0 };
        let mode = meta.mode.with_owner_access(kind);
        let name = String::new();
        Self {
            entry: Entry { name, kind, mode, size, mtime: meta.mtime, version: None },
            digest: None,
            content: None,
            here: true,
            disk: FileIdentity { size, ..meta.into() },
            disk_mode: meta.mode,
        }
    }

    /// Returns the row of an entry of the tree. Without `meta` its content is missing.
    pub(super) fn committed(entry: &relais_cluster::Entry, meta: Option<&Meta>) -> Self {
        let content = entry.content;
        let size = content.map_or(0, |content| content.size);
        let disk = FileIdentity { size, ..meta.map(FileIdentity::from).unwrap_or_default() };
        Self {
            entry: Entry {
                name: String::new(),
                kind: if content.is_some() { Kind::File } else { Kind::Folder },
                mode: entry.mode,
                size,
                mtime: content.map_or(disk.mtime, |content| content.mtime),
                version: Some(entry.version),
            },
            digest: content.map(|content| content.digest),
            content: content.map(|content| content.put),
            here: meta.is_some() || content.is_none(),
            disk,
            disk_mode: meta.map_or(Mode::new(0), |meta| meta.mode),
        }
    }

    /// Reads the columns of [`COLUMNS`].
    pub(super) fn read(from: &mut Columns<'_>) -> rusqlite::Result<Self> {
        from.skip_to(NAME);
        let entry = Entry {
            name: from.get()?,
            kind: if from.get::<i64>()? == 0 { Kind::File } else { Kind::Folder },
            mode: Mode::new(from.get()?),
            size: from.unsigned()?,
            mtime: from.time()?,
            version: from.optional_lsn()?,
        };
        let (ctime, dev, ino) = (from.time()?, from.unsigned()?, from.unsigned()?);
        let (digest, content, here) = (from.digest()?, from.optional_lsn()?, from.get()?);
        let disk_mode = Mode::new(from.get()?);
        let disk = FileIdentity { dev, ino, size: entry.size, mtime: from.time()?, ctime };
        Ok(Self { entry, digest, content, here, disk, disk_mode })
    }

    /// Adds the columns after folder and name.
    pub(super) fn values<'a>(&self, to: Values<'a>) -> Values<'a> {
        let entry = &self.entry;
        to.add(i64::from(entry.kind == Kind::Folder))
            .add(entry.mode.bits())
            .unsigned(entry.size)
            .time(entry.mtime)
            .optional_lsn(entry.version)
            .time(self.disk.ctime)
            .unsigned(self.disk.dev)
            .unsigned(self.disk.ino)
            .digest(self.digest)
            .optional_lsn(self.content)
            .add(self.here)
            .add(self.disk_mode.bits())
            .time(self.disk.mtime)
    }
}

/// Former content that stays at a path until the new content arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields' names and types say everything")]
pub struct RetainedContent {
    pub content: FileContent,
    pub disk: FileIdentity,
}

impl RetainedContent {
    /// Returns whether `meta` is of this file, unchanged.
    #[must_use]
    pub fn matches(&self, meta: &Meta) -> bool {
        self.matches_except_ctime(meta) && self.disk.ctime == meta.ctime
    }

    /// Returns whether `meta` is of this file, also after a rename. Its content may have changed.
    #[must_use]
    pub fn matches_except_ctime(&self, meta: &Meta) -> bool {
        meta.served_kind() == Some(Kind::File) && self.disk.is_of(meta)
    }

    /// Reads the columns of [`RETAINED`].
    pub(super) fn read(from: &mut Columns<'_>) -> rusqlite::Result<Self> {
        let content = FileContent {
            put: from.lsn()?,
            digest: Digest(from.get()?),
            size: from.unsigned()?,
            mtime: from.time()?,
        };
        let (ctime, mtime) = (from.time()?, from.time()?);
        let (dev, ino) = (from.unsigned()?, from.unsigned()?);
        Ok(Self { content, disk: FileIdentity { dev, ino, size: content.size, mtime, ctime } })
    }

    /// Adds the columns of [`RETAINED`].
    pub(super) fn values<'a>(&self, to: Values<'a>) -> Values<'a> {
        let content = &self.content;
        to.lsn(content.put)
            .digest(Some(content.digest))
            .unsigned(content.size)
            .time(content.mtime)
            .time(self.disk.ctime)
            .time(self.disk.mtime)
            .unsigned(self.disk.dev)
            .unsigned(self.disk.ino)
    }
}
