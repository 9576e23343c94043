//! Building blocks of the messages.

use std::net::SocketAddr;

use crate::codec::check_cap;
use crate::{
    Capped, ChangeId, Decoder, Digest, Encoder, Entry, Expect, FileTime, Identity, Lsn, Mode,
    Refusal, SlaveId, TreePath, VERSIONS, Wire, WireError, limits, wire_enum, wire_newtypes,
    wire_struct,
};

/// First bytes of every `Hello`; they identify the protocol.
const MAGIC: u32 = 0x5245_4c41; // "RELA"

wire_enum! {
    /// Role of the connecting side.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Role: "role" {
        /// A client.
        0 => Client,
        /// A slave that links to its master.
        1 => Slave,
        /// An operator's command that proves the cluster key.
        2 => Operator,
        /// A slave that fetches content from another slave.
        3 => Peer,
    }

    /// Role of the accepting side.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum ServerRole: "server role" {
        /// A master; it answers a login with a redirect.
        0 => Master,
        /// A slave of a cluster; it requires a ticket.
        1 => Slave,
        /// A standalone slave; a login opens the session.
        2 => Standalone,
    }

    /// Reason why an answer takes longer.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum WaitReason: "reason to wait" {
        /// All pool slots are taken; the session is in the queue.
        0 => Queue,
        /// The slave computes a digest.
        1 => Hashing,
        /// The slave reads the folder for the first time since its start.
        2 => Scanning,
        /// The slave catches up with the changes that the client has seen.
        3 => CatchingUp,
        /// The slave applies and stores a change.
        4 => Storing,
    }

    /// Content that a client accepts, like `If-Match` in RFC 9110.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum IfMatch: "wanted content" {
        /// Any content.
        0 => Any,
        /// Content with this digest.
        1 => Digest(Digest),
        /// Content with this identity on this slave's folder.
        2 => Identity(Identity),
    }
}

/// What a peer can do beyond its version of the protocol, one bit each. Unknown bits are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Capabilities(pub u64);

wire_newtypes!(Capabilities);

/// First frame of a connection. Its layout is the same in all versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Role of the sender.
    pub role: Role,
    /// Lowest and highest version of the sender.
    pub versions: (u16, u16),
    /// What the sender can do beyond the version. A client announces nothing yet.
    pub capabilities: Capabilities,
    /// Program and version of the sender, for logs.
    pub agent: String,
}

impl Hello {
    /// Makes the greeting of this version.
    #[must_use]
    pub fn new(role: Role, agent: impl Into<String>) -> Self {
        let capabilities = Capabilities::default();
        Self { role, versions: VERSIONS, capabilities, agent: agent.into() }
    }
}

impl Wire for Hello {
    fn encode(&self, to: &mut Encoder<'_>) {
        (self.role, self.versions, self.capabilities).encode(to.u32(MAGIC));
        self.agent.encode_capped(to, limits::TEXT);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        if from.u32()? != MAGIC {
            return Err(WireError::NotRelais);
        }
        let (role, versions, capabilities) = Wire::decode(from)?;
        let agent = Capped::decode_capped(from, "agent", limits::TEXT)?;
        Ok(Self { role, versions, capabilities, agent })
    }
}

wire_struct! {
    /// Login of a user, with the client's view of the cluster.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct Login {
        /// User name; empty without an account.
        pub user: String [limits::USER],
        /// Password of at most [`limits::PASSWORD`] bytes.
        pub password: Vec<u8> [limits::PASSWORD],
        /// Highest change that the client has seen.
        pub lsn: Lsn,
        /// Slaves that have just failed the client.
        ///
        /// The master leaves them out while other slaves are in service.
        pub avoid: Vec<SlaveId> [limits::AVOID],
        /// Slave that holds the partial upload; preferred for resume.
        pub prefer: Option<SlaveId>,
    }

    /// A slave and its addresses.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Endpoint {
        pub id: SlaveId,
        /// Addresses to try in order, at most [`limits::ADDRESSES`]; in a redirect at least 1.
        pub addrs: Vec<SocketAddr> [limits::ADDRESSES],
    }

    /// A request for content.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct GetRequest {
        pub path: TreePath,
        /// First requested byte, from 0 to the size.
        pub offset: u64,
        /// Highest number of bytes; `u64::MAX` for all up to the end.
        pub length: u64,
        /// Condition; other content gives [`crate::ErrorCode::Changed`].
        pub if_match: IfMatch,
    }

    /// Start or continuation of an upload.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PutRequest: check_put {
        /// Id of the change; the same id, path and size mean the same upload.
        pub id: ChangeId,
        pub path: TreePath,
        /// Size of the whole content in bytes. An upload of unknown size cannot be resumed.
        pub size: Option<u64> [limits::FILE_SIZE],
        /// Offset of the first byte that follows. The slave drops its bytes from there on.
        pub offset: u64,
        /// Precondition of the put.
        pub expect: Expect,
        /// Disks that must hold the content before the answer; 0 for the cluster's default.
        pub copies: u16,
        optional {
            /// Modification time; `None` for the time of the upload.
            1 => pub mtime: Option<FileTime>,
            /// Permission bits of a new file; `None` for the default. An existing file keeps its
            /// own.
            2 => pub mode: Option<Mode>,
        }
    }

    /// Header of content.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ContentHeader: check_header {
        /// Size of the whole content in bytes.
        pub size: u64 [limits::FILE_SIZE],
        /// Offset of the first block.
        pub offset: u64,
        /// Number of bytes in the blocks.
        pub length: u64,
        /// Bytes in each block but the last.
        pub block_size: u32,
        /// Last modification.
        pub mtime: FileTime,
        /// Permission bits.
        pub mode: Mode,
        /// Put that stored the content; `None` if it was never numbered.
        pub version: Option<Lsn>,
        /// Digest of the whole content, if it is known.
        pub digest: Option<Digest>,
        /// Identifies the content while it stays on this folder's disk.
        pub identity: Identity,
    }
}

wire_struct! {
    /// What a change has done at a path.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct PathEvent {
        /// LSN of the change.
        pub lsn: Lsn,
        /// What has happened.
        pub kind: EventKind,
        /// Path of the entry.
        pub path: TreePath,
        /// Present entry at the path; `None` if it is removed.
        pub entry: Option<Entry>,
    }
}

wire_enum! {
    /// What happens to an entry.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum EventKind: "kind of event" {
        /// A new entry.
        0 => Created,
        /// Other content or other attributes.
        1 => Changed,
        /// The entry is gone, with all entries below it.
        2 => Removed,
        /// The entry was at this path before, with all entries below it.
        3 => Moved(TreePath),
    }

    /// Answer for one of several paths.
    #[allow(missing_docs, reason = "the names of the fields say what they hold")]
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum EntryResult: "kind of result" {
        0 => Found {
            entry: Entry,
            /// Digest of a file, if it is known.
            digest: Option<Digest>,
        },
        1 => Refused(Refusal),
    }
}

impl PutRequest {
    /// Makes the request of a client that knows nothing but the path.
    #[must_use]
    pub fn new(id: ChangeId, path: TreePath) -> Self {
        let (size, mtime, mode) = (None, None, None);
        Self { id, path, size, offset: 0, expect: Expect::Any, copies: 0, mtime, mode }
    }
}

fn check_put(put: &PutRequest) -> Result<(), WireError> {
    // An upload without a size cannot be resumed.
    check_cap("offset", put.offset, put.size.unwrap_or(0))
}

fn check_header(header: &ContentHeader) -> Result<(), WireError> {
    check_cap("end of the content", header.offset.saturating_add(header.length), header.size)?;
    if !(1..=limits::BLOCK_MAX).contains(&header.block_size) {
        return Err(WireError::BadValue { what: "block size", value: header.block_size.into() });
    }
    Ok(())
}
