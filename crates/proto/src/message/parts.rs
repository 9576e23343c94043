//! Building blocks of the messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::types::decode_size;
use crate::{
    ChangeId, Decode, Decoder, Digest, Encoder, Expect, FileTime, Identity, Lsn, Mode, SlaveId,
    TreePath, WireError, limits,
};

/// First bytes of every `Hello`; they identify the protocol.
const MAGIC: u32 = 0x5245_4c41; // "RELA"

/// Role of the connecting side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A client.
    Client,
    /// A slave that links to its master.
    Slave,
    /// An operator's command that proves the cluster key.
    Operator,
    /// A slave that fetches content from another slave.
    Peer,
}

/// Role of the accepting side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerRole {
    /// A master; it answers a login with a redirect.
    Master,
    /// A slave of a cluster; it requires a ticket.
    Slave,
    /// A standalone slave; a login opens the session.
    Standalone,
}

/// First frame of a connection. Its layout is the same in all versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Role of the sender.
    pub role: Role,
    /// Lowest and highest version of the sender.
    pub versions: (u16, u16),
    /// Program and version of the sender, for logs.
    pub agent: String,
}

/// Login of a user, with the client's view of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// User name; empty without an account.
    pub user: String,
    /// Password of at most [`limits::PASSWORD`] bytes.
    pub password: Vec<u8>,
    /// Highest change that the client has seen.
    pub lsn: Lsn,
    /// Slaves that have just failed the client.
    ///
    /// The master leaves them out while other slaves are in service.
    pub avoid: Vec<SlaveId>,
    /// Slave that holds the partial upload; preferred for resume.
    pub prefer: Option<SlaveId>,
}

/// A slave and its addresses.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub id: SlaveId,
    /// Addresses to try in order, at most [`limits::ADDRESSES`]; in a redirect at least 1.
    pub addrs: Vec<SocketAddr>,
}

/// Content that a client accepts, like `If-Match` in RFC 9110.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IfMatch {
    /// Any content.
    Any,
    /// Content with this digest.
    Digest(Digest),
    /// Content with this identity on this slave's folder.
    Identity(Identity),
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
pub struct PutRequest {
    /// Id of the change; the same id, path and size mean the same upload.
    pub id: ChangeId,
    pub path: TreePath,
    /// Size of the whole content in bytes. An upload of unknown size cannot be resumed.
    pub size: Option<u64>,
    /// Offset of the first byte that follows. The slave drops its bytes from there on.
    pub offset: u64,
    /// Modification time; `None` for the time of the upload.
    pub mtime: Option<FileTime>,
    /// Permission bits of a new file; `None` for the default. An existing file keeps its own.
    pub mode: Option<Mode>,
    /// Precondition of the put.
    pub expect: Expect,
    /// Disks that must hold the content before the answer; 0 for the cluster's default.
    pub copies: u16,
}

/// Reason why an answer takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// All pool slots are taken; the session is in the queue.
    Queue,
    /// The slave computes a digest.
    Hashing,
    /// The slave reads the folder for the first time since its start.
    Scanning,
    /// The slave catches up with the changes that the client has seen.
    CatchingUp,
    /// The slave applies and stores a change.
    Storing,
}

/// Header of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    /// Size of the whole content in bytes.
    pub size: u64,
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

macro_rules! small_enum {
    ($name:ident, $what:literal, $($variant:ident = $number:literal),*) => {
        impl $name {
            pub(super) fn encode(self, to: &mut Encoder<'_>) {
                to.u8(match self { $(Self::$variant => $number,)* });
            }
        }
        impl Decode for $name {
            fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
                match from.u8()? {
                    $($number => Ok(Self::$variant),)*
                    other => Err(WireError::BadValue { what: $what, value: other.into() }),
                }
            }
        }
    };
}
small_enum!(Role, "role", Client = 0, Slave = 1, Operator = 2, Peer = 3);
small_enum!(ServerRole, "server role", Master = 0, Slave = 1, Standalone = 2);
small_enum!(
    WaitReason,
    "reason to wait",
    Queue = 0,
    Hashing = 1,
    Scanning = 2,
    CatchingUp = 3,
    Storing = 4
);

impl IfMatch {
    pub(super) fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Any => {
                to.u8(0);
            }
            Self::Digest(digest) => digest.encode(to.u8(1)),
            Self::Identity(identity) => identity.encode(to.u8(2)),
        }
    }
}

impl Decode for IfMatch {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.u8()? {
            0 => Ok(Self::Any),
            1 => Digest::decode(from).map(Self::Digest),
            2 => Identity::decode(from).map(Self::Identity),
            other => Err(WireError::BadValue { what: "wanted content", value: other.into() }),
        }
    }
}

pub(crate) fn encode_addr(addr: &SocketAddr, to: &mut Encoder<'_>) {
    match addr.ip() {
        IpAddr::V4(ip) => to.u8(4).bytes(&ip.octets()),
        IpAddr::V6(ip) => to.u8(6).bytes(&ip.octets()),
    }
    .u16(addr.port());
}

pub(crate) struct Addr(pub SocketAddr);

impl Decode for Addr {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let ip: IpAddr = match from.u8()? {
            4 => Ipv4Addr::from(from.array::<4>()?).into(),
            6 => Ipv6Addr::from(from.array::<16>()?).into(),
            other => {
                return Err(WireError::BadValue { what: "address family", value: other.into() });
            }
        };
        Ok(Self(SocketAddr::new(ip, from.u16()?)))
    }
}

pub(crate) fn encode_addrs(addrs: &[SocketAddr], to: &mut Encoder<'_>) {
    to.list(addrs, encode_addr);
}

pub(crate) fn decode_addrs(from: &mut Decoder<'_>) -> Result<Vec<SocketAddr>, WireError> {
    let addrs: Vec<Addr> = from.list("addresses", limits::ADDRESSES)?;
    Ok(addrs.into_iter().map(|Addr(addr)| addr).collect())
}

impl Endpoint {
    pub(super) fn encode(&self, to: &mut Encoder<'_>) {
        self.id.encode(to);
        encode_addrs(&self.addrs, to);
    }
}

impl Decode for Endpoint {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        Ok(Self { id: SlaveId::decode(from)?, addrs: decode_addrs(from)? })
    }
}

impl Hello {
    pub(super) fn encode(&self, to: &mut Encoder<'_>) {
        to.u32(MAGIC);
        self.role.encode(to);
        to.u16(self.versions.0).u16(self.versions.1).message(&self.agent);
    }
}

impl Decode for Hello {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        if from.u32()? != MAGIC {
            return Err(WireError::NotRelais);
        }
        Ok(Self {
            role: Role::decode(from)?,
            versions: (from.u16()?, from.u16()?),
            agent: from.short_text("agent", limits::TEXT)?.to_owned(),
        })
    }
}

impl PutRequest {
    pub(super) fn encode(&self, to: &mut Encoder<'_>) {
        self.id.encode(to);
        to.path(&self.path).option(self.size, |size, to| {
            to.u64(size);
        });
        to.u64(self.offset)
            .option(self.mtime.as_ref(), |mtime, to| mtime.encode(to))
            .option(self.mode.as_ref(), |mode, to| mode.encode(to));
        self.expect.encode(to);
        to.u16(self.copies);
    }
}

impl Decode for PutRequest {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let put = Self {
            id: ChangeId::decode(from)?,
            path: from.path()?,
            size: if from.bool()? { Some(decode_size(from)?) } else { None },
            offset: from.u64()?,
            mtime: from.option()?,
            mode: from.option()?,
            expect: Expect::decode(from)?,
            copies: from.u16()?,
        };
        // An upload without a size cannot be resumed.
        let most = put.size.unwrap_or(0);
        if put.offset > most {
            return Err(WireError::OverCap { what: "offset", len: put.offset, cap: most });
        }
        Ok(put)
    }
}

impl ContentHeader {
    pub(super) fn encode(&self, to: &mut Encoder<'_>) {
        to.u64(self.size).u64(self.offset).u64(self.length).u32(self.block_size);
        self.mtime.encode(to);
        self.mode.encode(to);
        to.option(self.version.as_ref(), |v, to| v.encode(to))
            .option(self.digest.as_ref(), |d, to| d.encode(to));
        self.identity.encode(to);
    }
}

impl Decode for ContentHeader {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let header = Self {
            size: decode_size(from)?,
            offset: from.u64()?,
            length: from.u64()?,
            block_size: from.u32()?,
            mtime: FileTime::decode(from)?,
            mode: Mode::decode(from)?,
            version: from.option()?,
            digest: from.option()?,
            identity: Identity::decode(from)?,
        };
        match header.offset.checked_add(header.length) {
            Some(end) if end <= header.size => {}
            _ => {
                return Err(WireError::OverCap {
                    what: "end of the content",
                    len: header.length,
                    cap: header.size,
                });
            }
        }
        if header.block_size == 0 || header.block_size > limits::BLOCK_MAX {
            return Err(WireError::BadValue {
                what: "block size",
                value: header.block_size.into(),
            });
        }
        Ok(header)
    }
}
