//! Values that several messages share.

use std::fmt;

use crate::{Decode, Decoder, Encoder, WireError, check_part, limits};

macro_rules! id_type {
    ($($(#[$doc:meta])* $name:ident[$len:literal];)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = WireError;
            /// Reads lower- or upper-case hexadecimal.
            fn from_str(text: &str) -> Result<Self, WireError> {
                let bad = || WireError::BadValue { what: stringify!($name), value: 0 };
                // from_str_radix alone would also take a sign.
                if text.len() != 2 * $len || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(bad());
                }
                let mut bytes = [0; $len];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = text.get(2 * i..2 * i + 2).and_then(|t| u8::from_str_radix(t, 16).ok()).ok_or_else(bad)?;
                }
                Ok(Self(bytes))
            }
        }

        impl Decode for $name {
            fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
                from.array().map(Self)
            }
        }

        impl $name {
            /// Appends the bytes.
            pub fn encode(&self, to: &mut Encoder<'_>) {
                to.bytes(&self.0);
            }
        }
    )*};
}

id_type! {
    /// A cluster, or a slave that stands alone: what a resume and a ticket are bound to.
    ClusterId[16];
    /// A slave; it is known by this, never by its address.
    SlaveId[16];
    /// A served folder. Two slaves on one folder share it and count as one copy.
    FolderId[16];
    /// A change, chosen at random by whoever asks for it; asked again it is the same change.
    /// A slave gives the changes of its sessions ids that begin with a tag of the account.
    ChangeId[16];
    /// BLAKE3 of whole content, as `b3sum` prints it.
    Digest[32];
    /// Names content by where it lies on one folder's disk, for the time in
    /// which its digest is not known. Opaque to a client.
    Identity[16];
}

impl ChangeId {
    /// The tag of the account that made the change; 0 for what was found in a folder.
    #[must_use]
    pub fn account(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The number of a change: an epoch, and a count within it. Orders changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn {
    /// Raised by a recovery of the master's state.
    pub epoch: u32,
    /// Counts changes; 0 before the first.
    pub number: u64,
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl Lsn {
    /// Appends epoch and number.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        to.u32(self.epoch).u64(self.number);
    }
}

impl Decode for Lsn {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self { epoch: from.u32()?, number: from.u64()? })
    }
}

/// A time of modification: seconds since 1970 UTC and nanoseconds, 0 to 999,999,999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime {
    /// Seconds since 1970-01-01 00:00 UTC; negative before.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

impl FileTime {
    /// Appends seconds and nanoseconds.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        to.i64(self.seconds).u32(self.nanos);
    }
}

impl Decode for FileTime {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (seconds, nanos) = (from.i64()?, from.u32()?);
        if nanos > 999_999_999 {
            return Err(WireError::BadValue { what: "nanoseconds", value: nanos.into() });
        }
        Ok(Self { seconds, nanos })
    }
}

/// Permission bits of a file or folder: read, write and execute for owner, group and others.
///
/// setuid, setgid and sticky are no part of it: they are never sent, and never set from what was sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    /// All bits that there are.
    const ALL: u32 = 0o777;
    /// The slave that serves a file must be able to read it.
    const SERVED_FILE: u32 = 0o400;
    /// The slave that serves a folder must be able to change what is in it.
    const SERVED_FOLDER: u32 = 0o700;

    /// The permission bits among `bits`.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        // Nine bits fit.
        Self((bits & Self::ALL) as u16)
    }

    /// The mode that a served file or folder has where its owner's bits are added that the slave itself needs.
    #[must_use]
    pub const fn served(self, kind: Kind) -> Self {
        Self::new(
            self.bits()
                | match kind {
                    Kind::File => Self::SERVED_FILE,
                    Kind::Folder => Self::SERVED_FOLDER,
                },
        )
    }

    /// The mode of what is new: without the bits of a umask.
    #[must_use]
    pub const fn masked(self, umask: Self) -> Self {
        Self::new(self.bits() & !umask.bits())
    }

    /// As a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// Appends two bytes.
    pub fn encode(self, to: &mut Encoder<'_>) {
        to.u16(self.0);
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mode({self})")
    }
}

impl Decode for Mode {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let bits = from.u16()?;
        if u32::from(bits) > Self::ALL {
            return Err(WireError::BadValue { what: "mode", value: bits.into() });
        }
        Ok(Self(bits))
    }
}

/// What an entry is. Nothing else is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

impl Kind {
    /// Appends one byte.
    pub fn encode(self, to: &mut Encoder<'_>) {
        to.u8(match self {
            Self::File => 0,
            Self::Folder => 1,
        });
    }
}

impl Decode for Kind {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.u8()? {
            0 => Ok(Self::File),
            1 => Ok(Self::Folder),
            other => Err(WireError::BadValue { what: "kind", value: other.into() }),
        }
    }
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last part of its path; empty for the top of the tree alone.
    pub name: String,
    /// File or folder.
    pub kind: Kind,
    /// Permission bits.
    pub mode: Mode,
    /// Bytes of content; 0 for folders.
    pub size: u64,
    /// Last modification.
    pub mtime: FileTime,
    /// The last change to its path; none where the entry was never numbered.
    pub version: Option<Lsn>,
}

impl Entry {
    /// Appends all fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        to.short_text(&self.name);
        self.kind.encode(to);
        self.mode.encode(to);
        to.u64(self.size);
        self.mtime.encode(to);
        to.option(self.version.as_ref(), |v, to| v.encode(to));
    }
}

impl Decode for Entry {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let name = from.short_text("name", limits::NAME_PART)?;
        if !name.is_empty() {
            check_part(name)?;
        }
        Ok(Self {
            name: name.to_owned(),
            kind: Kind::decode(from)?,
            mode: Mode::decode(from)?,
            size: decode_size(from)?,
            mtime: FileTime::decode(from)?,
            version: from.option()?,
        })
    }
}

/// The size of a file. Offsets are signed 64-bit numbers in Linux, so no file is longer than that.
pub(crate) fn decode_size(from: &mut Decoder<'_>) -> Result<u64, WireError> {
    let size = from.u64()?;
    if size > limits::FILE_SIZE {
        return Err(WireError::OverCap { what: "size", len: size, cap: limits::FILE_SIZE });
    }
    Ok(size)
}

/// What a slave knows of its folder and its pool, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Files in the catalogue.
    pub files: u64,
    /// Folders in the catalogue.
    pub folders: u64,
    /// Bytes of all files in the catalogue.
    pub bytes: u64,
    /// Files whose digest is not known yet.
    pub unhashed: u64,
    /// Symbolic links, skipped.
    pub skipped_links: u64,
    /// Devices, FIFOs and sockets, skipped.
    pub skipped_special: u64,
    /// Mount points, skipped.
    pub skipped_mounts: u64,
    /// Names that are not UTF-8 or break the rules for names, skipped.
    pub skipped_names: u64,
    /// Files and folders that could not be read, skipped.
    pub skipped_unreadable: u64,
    /// Times that a watch overflowed or was refused and a rescan took its place.
    pub rescans: u64,
    /// Files whose content is not here yet.
    pub lacking: u64,
    /// Bytes of those.
    pub lacking_bytes: u64,
    /// Files that were set aside in `.relais/conflicts`, since the start.
    pub set_aside: u64,
    /// Removals by hand that are held back because there were too many at once.
    pub held: u64,
    /// Files whose content was found damaged, and that are not repaired yet.
    pub damaged: u64,
    /// Unfinished uploads.
    pub uploads: u64,
    /// Bytes of those.
    pub upload_bytes: u64,
    /// Paths at which the disk is not as the tree says, because it refuses what a change has made there.
    pub unapplied: u64,
    /// Open sessions.
    pub sessions: u32,
    /// Sessions that wait for a place.
    pub waiting: u32,
    /// Worker processes that were alive in the last 2 s.
    pub workers: u32,
    /// What is in force in all of those.
    pub confinement: Confinement,
}

/// What keeps a worker process that somebody has taken over from doing harm: a bit for each measure. Bits without a name are left as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Confinement(pub u32);

impl Confinement {
    /// It does not run as root.
    pub const UNPRIVILEGED: Self = Self(1);
    /// It can change nothing but what is in its folder, and read little else.
    pub const FOLDER: Self = Self(2);
    /// No program that it starts can have more rights.
    pub const NO_NEW_PRIVILEGES: Self = Self(4);
    /// Where it crashes nothing of its memory is kept.
    pub const NO_CORE_DUMPS: Self = Self(8);
    /// It cannot look into other processes, end them, become another program, or ask the kernel for what serving files does not need.
    pub const SYSTEM_CALLS: Self = Self(16);
    /// All that have a name.
    const NAMED: [(Self, &'static str); 5] = [
        (Self::UNPRIVILEGED, "unprivileged"),
        (Self::FOLDER, "folder"),
        (Self::NO_NEW_PRIVILEGES, "no-new-privileges"),
        (Self::NO_CORE_DUMPS, "no-core-dumps"),
        (Self::SYSTEM_CALLS, "system-calls"),
    ];

    /// Both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this measure is in force.
    #[must_use]
    pub fn has(self, measure: Self) -> bool {
        self.0 & measure.0 == measure.0
    }

    /// The measures in force, by name.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMED
            .iter()
            .filter(|(measure, _)| self.has(*measure))
            .map(|(_, name)| *name)
            .collect()
    }
}

impl Counters {
    /// Everything that is in the folder and not served.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        [
            self.skipped_links,
            self.skipped_special,
            self.skipped_mounts,
            self.skipped_names,
            self.skipped_unreadable,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Appends all fields.
    pub fn encode(&self, to: &mut Encoder<'_>) {
        for n in [
            self.files,
            self.folders,
            self.bytes,
            self.unhashed,
            self.skipped_links,
            self.skipped_special,
            self.skipped_mounts,
            self.skipped_names,
            self.skipped_unreadable,
            self.rescans,
            self.lacking,
            self.lacking_bytes,
            self.set_aside,
            self.held,
            self.damaged,
            self.uploads,
            self.upload_bytes,
            self.unapplied,
        ] {
            to.u64(n);
        }
        to.u32(self.sessions).u32(self.waiting).u32(self.workers).u32(self.confinement.0);
    }
}

impl Decode for Counters {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self {
            files: from.u64()?,
            folders: from.u64()?,
            bytes: from.u64()?,
            unhashed: from.u64()?,
            skipped_links: from.u64()?,
            skipped_special: from.u64()?,
            skipped_mounts: from.u64()?,
            skipped_names: from.u64()?,
            skipped_unreadable: from.u64()?,
            rescans: from.u64()?,
            lacking: from.u64()?,
            lacking_bytes: from.u64()?,
            set_aside: from.u64()?,
            held: from.u64()?,
            damaged: from.u64()?,
            uploads: from.u64()?,
            upload_bytes: from.u64()?,
            unapplied: from.u64()?,
            sessions: from.u32()?,
            waiting: from.u32()?,
            workers: from.u32()?,
            confinement: Confinement(from.u32()?),
        })
    }
}
