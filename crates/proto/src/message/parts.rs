//! Parts that messages are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::types::decode_size;
use crate::{
    ChangeId, Decode, Decoder, Digest, Encoder, Expect, FileTime, Identity, Lsn, Mode, SlaveId,
    TreePath, WireError, limits,
};

/// First bytes of every `Hello`, so that another protocol is told apart at once.
const MAGIC: u32 = 0x5245_4c41; // "RELA"

/// What the side that connects wants to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A client.
    Client,
    /// A slave that links up with its master.
    Slave,
    /// An operator's command, which proves the cluster key.
    Operator,
    /// A slave that takes content from another one.
    Peer,
}

/// What the side that was connected to is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerRole {
    /// A master; a login is answered by a redirect.
    Master,
    /// A slave of a cluster; it wants a ticket.
    Slave,
    /// A slave without a master; a login opens the session.
    Standalone,
}

/// The first frame of a connection. Its layout is the same in all versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the sender wants to be.
    pub role: Role,
    /// Lowest and highest version that the sender speaks.
    pub versions: (u16, u16),
    /// Program and version, for logs.
    pub agent: String,
}

/// Who the user is, and what the client knows of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Login {
    /// Empty: no account.
    pub user: String,
    /// At most [`limits::PASSWORD`] bytes.
    pub password: Vec<u8>,
    /// The highest change that the client has seen.
    pub lsn: Lsn,
    /// Slaves that have just failed the client; the master leaves them out while others are in service.
    pub avoid: Vec<SlaveId>,
    /// The slave that has what this client wants to carry on.
    pub prefer: Option<SlaveId>,
}

/// Where a slave is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Which slave.
    pub id: SlaveId,
    /// Addresses to try in order, at most [`limits::ADDRESSES`]; in a redirect at least 1.
    pub addrs: Vec<SocketAddr>,
}

/// Which content a client wants to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IfMatch {
    /// Whatever is there.
    Any,
    /// Content with this digest.
    Digest(Digest),
    /// Content that lay on this slave's folder under this identity.
    Identity(Identity),
}

/// A request for content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetRequest {
    /// Which file.
    pub path: TreePath,
    /// First byte that is wanted, 0 to the size.
    pub offset: u64,
    /// Most bytes that are wanted; `u64::MAX` for all to the end.
    pub length: u64,
    /// Where it is something else that is there: [`crate::ErrorCode::Changed`].
    pub if_match: IfMatch,
}

/// An upload that begins, or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutRequest {
    /// Asked again with the same id, path and size it is the same upload.
    pub id: ChangeId,
    /// Which file.
    pub path: TreePath,
    /// Bytes of the whole content; none where that is not known. Such an upload cannot be resumed.
    pub size: Option<u64>,
    /// The first byte that follows. What the slave has behind it is dropped.
    pub offset: u64,
    /// Last modification; none for the time of the upload.
    pub mtime: Option<FileTime>,
    /// Permission bits of a file that is new there; none for those of a new file. A file that is there keeps its own.
    pub mode: Option<Mode>,
    /// What must be there when the put is made.
    pub expect: Expect,
    /// How many disks must hold the content before the put is answered; 0: as many as the cluster asks for.
    pub copies: u16,
}

/// Why an answer takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitReason {
    /// All places are taken; the session is in the queue.
    Queue,
    /// A digest is being computed.
    Hashing,
    /// The folder is being read for the first time since the start.
    Scanning,
    /// The slave is catching up with what the client has seen.
    CatchingUp,
    /// A change is being made and stored.
    Storing,
}

/// What precedes content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentHeader {
    /// Bytes of the whole content.
    pub size: u64,
    /// Where the blocks that follow begin.
    pub offset: u64,
    /// How many bytes follow in blocks.
    pub length: u64,
    /// Bytes in each block but the last.
    pub block_size: u32,
    /// Last modification.
    pub mtime: FileTime,
    /// Permission bits.
    pub mode: Mode,
    /// The put that made the content; none where it was never numbered.
    pub version: Option<Lsn>,
    /// Digest of the whole content, where it is known already.
    pub digest: Option<Digest>,
    /// Names the content while it lies on this folder's disk.
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
        // Without a size there is nothing to go on with.
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
