//! Values that several messages share.

use std::fmt;

use crate::{
    Decoder, Encoder, Wire, WireError, check_part, limits, wire_enum, wire_newtypes, wire_struct,
};

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
                // `from_str_radix` alone would also accept a sign.
                if text.len() != 2 * $len || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(bad());
                }
                let mut bytes = [0; $len];
                for (i, byte) in bytes.iter_mut().enumerate() {
                    *byte = text
                        .get(2 * i..2 * i + 2)
                        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                        .ok_or_else(bad)?;
                }
                Ok(Self(bytes))
            }
        }

        wire_newtypes!($name);
    )*};
}

id_type! {
    /// Identifies a cluster or a standalone slave. Tickets and resumable transfers are bound to it.
    ClusterId[16];
    /// Identifies a slave. A slave is known by its id, never by its address.
    SlaveId[16];
    /// Identifies a served folder. Two slaves on one folder share the id and count as one copy.
    FolderId[16];
    /// Identifies a change; the requester chooses it at random.
    ///
    /// A request that is repeated with the same id is the same change. The ids that a slave gives
    /// to the changes of its sessions begin with the tag of the account.
    ChangeId[16];
    /// BLAKE3 digest of the whole content, as `b3sum` prints it.
    Digest[32];
    /// Identifies content by its location on one folder's disk while its digest is not known.
    ///
    /// Opaque to a client.
    Identity[16];
    /// Token of a lock, chosen at random. A change that a lock covers must submit it.
    LockToken[16];
    /// SHA-256 hash.
    Sha256[32];
}

impl ChangeId {
    /// Returns the tag of the account that made the change; 0 for local changes.
    #[must_use]
    pub fn account(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

wire_struct! {
    /// Log sequence number: the epoch and the number of a change. Orders all changes.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct Lsn {
        /// A recovery of the master's state raises it.
        pub epoch: u32,
        /// Position within the epoch; 0 before the first change.
        pub number: u64,
    }

    /// A time of modification: seconds since 1970 UTC and nanoseconds, 0 to 999,999,999.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
    pub struct FileTime: check_time {
        /// Seconds since 1970-01-01 00:00 UTC; negative before.
        pub seconds: i64,
        /// Nanoseconds within the second.
        pub nanos: u32,
    }

    /// A file or folder as listings show it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Entry: check_entry {
        /// Last part of the path; empty only for the root of the tree.
        pub name: String [limits::NAME_PART],
        /// File or folder.
        pub kind: Kind,
        /// Permission bits.
        pub mode: Mode,
        /// Bytes of content; 0 for folders.
        pub size: u64 [limits::FILE_SIZE],
        /// Last modification.
        pub mtime: FileTime,
        optional {
            /// Last change to the path; `None` if the entry has no log entry.
            1 => pub version: Option<Lsn>,
        }
    }
}

fn check_time(time: &FileTime) -> Result<(), WireError> {
    if time.nanos > 999_999_999 {
        return Err(WireError::BadValue { what: "nanoseconds", value: time.nanos.into() });
    }
    Ok(())
}

fn check_entry(entry: &Entry) -> Result<(), WireError> {
    // Only the root has no name.
    if entry.name.is_empty() { Ok(()) } else { Ok(check_part(&entry.name)?) }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl std::str::FromStr for Lsn {
    type Err = WireError;

    /// Reads the text form, such as `1-42`: two decimal numbers without signs.
    fn from_str(text: &str) -> Result<Self, WireError> {
        let number = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?
        };
        let lsn = text.split_once('-').and_then(|(epoch, count)| {
            Some(Self { epoch: u32::try_from(number(epoch)?).ok()?, number: number(count)? })
        });
        lsn.ok_or(WireError::BadValue { what: "Lsn", value: 0 })
    }
}

/// Permission bits of a file or folder: read, write and execute for owner, group and others.
///
/// setuid, setgid and sticky are not part of it. They are never sent, and never set from received
/// values.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    /// All permission bits.
    const ALL: u32 = 0o777;
    /// Owner bits that the slave needs to serve a file.
    const SERVED_FILE: u32 = 0o400;
    /// Owner bits that the slave needs to change the contents of a folder.
    const SERVED_FOLDER: u32 = 0o700;

    /// Keeps the permission bits of `bits`.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        // Nine bits fit.
        Self((bits & Self::ALL) as u16)
    }

    /// Adds the owner bits that the slave needs to serve a file or folder.
    #[must_use]
    pub const fn with_owner_access(self, kind: Kind) -> Self {
        Self::new(
            self.bits()
                | match kind {
                    Kind::File => Self::SERVED_FILE,
                    Kind::Folder => Self::SERVED_FOLDER,
                },
        )
    }

    /// Removes the bits of a umask, for a new file or folder.
    #[must_use]
    pub const fn masked(self, umask: Self) -> Self {
        Self::new(self.bits() & !umask.bits())
    }

    /// Returns the bits as a number.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 as u32
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

impl Wire for Mode {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.u16(self.0);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let bits = from.u16()?;
        if u32::from(bits) > Self::ALL {
            return Err(WireError::BadValue { what: "mode", value: bits.into() });
        }
        Ok(Self(bits))
    }
}

wire_enum! {
    /// Type of an entry. Only these two are served.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Kind: "kind" {
        /// A regular file.
        0 => File,
        /// A folder.
        1 => Folder,
    }
}

/// Sandbox measures of a worker process, one bit each.
///
/// They limit the harm of a compromised worker. Unknown bits are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Confinement(pub u32);

impl Confinement {
    /// The worker does not run as root.
    pub const UNPRIVILEGED: Self = Self(1);
    /// The worker can change only its folder, and read little else.
    pub const FOLDER: Self = Self(2);
    /// No program that the worker starts can gain rights.
    pub const NO_NEW_PRIVILEGES: Self = Self(4);
    /// A crash of the worker leaves no core dump.
    pub const NO_CORE_DUMPS: Self = Self(8);
    /// System calls that file serving does not need are blocked.
    ///
    /// The worker cannot inspect or end other processes, or become another program.
    pub const SYSTEM_CALLS: Self = Self(16);
    /// All measures that have a name.
    const NAMED: [(Self, &'static str); 5] = [
        (Self::UNPRIVILEGED, "unprivileged"),
        (Self::FOLDER, "folder"),
        (Self::NO_NEW_PRIVILEGES, "no-new-privileges"),
        (Self::NO_CORE_DUMPS, "no-core-dumps"),
        (Self::SYSTEM_CALLS, "system-calls"),
    ];

    /// Combines two sets of measures.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the measure is in force.
    #[must_use]
    pub fn has(self, measure: Self) -> bool {
        self.0 & measure.0 == measure.0
    }

    /// Returns the names of the measures in force.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        Self::NAMED
            .iter()
            .filter(|(measure, _)| self.has(*measure))
            .map(|(_, name)| *name)
            .collect()
    }
}
