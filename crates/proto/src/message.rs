//! What a client and a server say to each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    ClusterId, Counters, Decode, Decoder, Digest, Encoder, Entry, ErrorCode, FileTime, FrameType, Identity, Mark, NameError, Refusal,
    SlaveId, TreePath, Version, WireError, encode_frame, limits, types::decode_size,
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
    pub mark: Mark,
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
pub enum Wanted {
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
    /// Where it is something else that is there: [`ErrorCode::Changed`].
    pub wanted: Wanted,
}

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Opens the connection.
    Hello(Hello),
    /// Logs in at a master or at a slave that stands alone.
    Login(Login),
    /// Opens a session on a slave of a cluster.
    Ticket {
        /// As the master gave it; at most [`limits::TICKET`] bytes.
        ticket: Vec<u8>,
        /// The highest change that the client has seen.
        mark: Mark,
    },
    /// Lists a folder in byte order of the names.
    List {
        /// Which folder.
        path: TreePath,
        /// Only names behind this one; empty: all.
        after: String,
    },
    /// Asks for one entry.
    Stat(TreePath),
    /// Asks for one file with its digest, computed first if need be.
    Hash(TreePath),
    /// Asks for content.
    Get(GetRequest),
    /// Asks for the values of `count` pieces from number `first` on.
    Pieces {
        /// Which file.
        path: TreePath,
        /// Which content of it.
        wanted: Wanted,
        /// Number of the first piece.
        first: u64,
        /// How many, at most [`limits::PIECES_PER_PAGE`].
        count: u32,
    },
    /// Asks for the server's state.
    Status,
    /// Asks for a sign of life.
    Ping,
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
}

/// What precedes content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
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
    /// Whether the owner may execute it.
    pub executable: bool,
    /// The put that made the content; none where it was never numbered.
    pub version: Option<Version>,
    /// Digest of the whole content, where it is known already.
    pub digest: Option<Digest>,
    /// Names the content while it lies on this folder's disk.
    pub identity: Identity,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Answer to `Hello`.
    Welcome {
        /// The version that is spoken from here on.
        version: u16,
        /// What the server is.
        role: ServerRole,
        /// Which cluster it belongs to.
        cluster: ClusterId,
        /// Program and version, for logs.
        agent: String,
    },
    /// Go to the first of these slaves; the others are the next in turn.
    Redirect {
        /// To be shown to the slave.
        ticket: Vec<u8>,
        /// The latest change.
        mark: Mark,
        /// 1 to [`limits::REDIRECT_SLAVES`].
        slaves: Vec<Endpoint>,
    },
    /// The session is open.
    Opened {
        /// Which slave this is.
        slave: SlaveId,
        /// The latest change that the slave has.
        mark: Mark,
        /// Whether the user may change anything here.
        writable: bool,
    },
    /// Still working on it.
    Wait(WaitReason),
    /// This slave belongs to a cluster: ask the master at this address (`HOST:PORT`).
    AskMaster(String),
    /// Refusal of the request.
    Error(Refusal),
    /// Some names of a folder.
    Entries(EntriesPage),
    /// End of a listing.
    Done {
        /// The change at which the listing was computed.
        mark: Mark,
    },
    /// One entry.
    Details {
        /// The entry.
        entry: Entry,
        /// Its digest, where it is a file and the digest is known.
        digest: Option<Digest>,
        /// Who has the content.
        holders: Vec<Endpoint>,
        /// The change at which this was computed.
        mark: Mark,
    },
    /// Content follows.
    Header(Header),
    /// End of content that was sent whole.
    End {
        /// Digest of the whole content, also of what was not sent.
        digest: Digest,
    },
    /// Values of single pieces.
    PieceValues {
        /// Number of the first.
        first: u64,
        /// Chaining values.
        values: Vec<Digest>,
    },
    /// The server's state.
    StatusReport {
        /// Which slave.
        slave: SlaveId,
        /// The latest change that it has.
        mark: Mark,
        /// Its counters.
        counters: Counters,
        /// Its last error; empty where there was none.
        last_error: String,
    },
    /// Answer to `Ping`.
    Pong,
}

/// Entries of a listing, kept as they came: they are decoded one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesPage(Vec<u8>);

impl EntriesPage {
    /// The entries, checked when the page was decoded.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let mut from = Decoder::new(&self.0);
        std::iter::from_fn(move || if from.is_empty() { None } else { Entry::decode(&mut from).ok() })
    }

    fn decode_all(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let bytes = from.rest();
        let mut check = Decoder::new(bytes);
        while !check.is_empty() {
            // Only the top of the tree has no name, and it lies in no folder.
            if Entry::decode(&mut check)?.name.is_empty() {
                return Err(NameError::EmptyPart.into());
            }
        }
        Ok(Self(bytes.to_vec()))
    }
}

/// Collects entries for one frame.
#[derive(Debug, Default)]
pub struct PageBuilder(Vec<u8>);

impl PageBuilder {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; false, and nothing added, where the page has no room for it.
    pub fn push(&mut self, entry: &Entry) -> bool {
        let before = self.0.len();
        entry.encode(&mut Encoder::new(&mut self.0));
        if self.0.len() > limits::CONTROL_FRAME as usize {
            self.0.truncate(before);
            return false;
        }
        true
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The page.
    #[must_use]
    pub fn finish(self) -> EntriesPage {
        EntriesPage(self.0)
    }
}

macro_rules! small_enum {
    ($name:ident, $what:literal, $($variant:ident = $number:literal),*) => {
        impl $name {
            fn encode(self, to: &mut Encoder<'_>) {
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
small_enum!(Role, "role", Client = 0, Slave = 1, Operator = 2);
small_enum!(ServerRole, "server role", Master = 0, Slave = 1, Standalone = 2);
small_enum!(WaitReason, "reason to wait", Queue = 0, Hashing = 1, Scanning = 2, CatchingUp = 3);

impl Wanted {
    fn encode(&self, to: &mut Encoder<'_>) {
        match self {
            Self::Any => {
                to.u8(0);
            }
            Self::Digest(digest) => digest.encode(to.u8(1)),
            Self::Identity(identity) => identity.encode(to.u8(2)),
        }
    }
}

impl Decode for Wanted {
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
            other => return Err(WireError::BadValue { what: "address family", value: other.into() }),
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
    fn encode(&self, to: &mut Encoder<'_>) {
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
    fn encode(&self, to: &mut Encoder<'_>) {
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

impl Header {
    fn encode(&self, to: &mut Encoder<'_>) {
        to.u64(self.size).u64(self.offset).u64(self.length).u32(self.block_size);
        self.mtime.encode(to);
        to.bool(self.executable).option(self.version.as_ref(), |v, to| v.encode(to)).option(self.digest.as_ref(), |d, to| d.encode(to));
        self.identity.encode(to);
    }
}

impl Decode for Header {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let header = Self {
            size: decode_size(from)?,
            offset: from.u64()?,
            length: from.u64()?,
            block_size: from.u32()?,
            mtime: FileTime::decode(from)?,
            executable: from.bool()?,
            version: from.option()?,
            digest: from.option()?,
            identity: Identity::decode(from)?,
        };
        match header.offset.checked_add(header.length) {
            Some(end) if end <= header.size => {}
            _ => return Err(WireError::OverCap { what: "end of the content", len: header.length, cap: header.size }),
        }
        if header.block_size == 0 || header.block_size > limits::BLOCK_MAX {
            return Err(WireError::BadValue { what: "block size", value: header.block_size.into() });
        }
        Ok(header)
    }
}

impl Request {
    /// The type of its frame.
    #[must_use]
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::Hello(_) => FrameType::Hello,
            Self::Login(_) => FrameType::Login,
            Self::Ticket { .. } => FrameType::Ticket,
            Self::List { .. } => FrameType::List,
            Self::Stat(_) => FrameType::Stat,
            Self::Hash(_) => FrameType::Hash,
            Self::Get(_) => FrameType::Get,
            Self::Pieces { .. } => FrameType::Pieces,
            Self::Status => FrameType::Status,
            Self::Ping => FrameType::Ping,
        }
    }

    /// Appends the whole frame.
    pub fn encode(&self, to: &mut Vec<u8>) {
        encode_frame(to, self.frame_type(), |to| {
            let to = &mut Encoder::new(to);
            match self {
                Self::Hello(hello) => hello.encode(to),
                Self::Login(login) => {
                    to.short_text(&login.user).short_bytes(&login.password);
                    login.mark.encode(to);
                    to.list(&login.avoid, SlaveId::encode).option(login.prefer.as_ref(), SlaveId::encode);
                }
                Self::Ticket { ticket, mark } => {
                    to.short_bytes(ticket);
                    mark.encode(to);
                }
                Self::List { path, after } => {
                    to.path(path).short_text(after);
                }
                Self::Stat(path) | Self::Hash(path) => {
                    to.path(path);
                }
                Self::Get(get) => {
                    to.path(&get.path).u64(get.offset).u64(get.length);
                    get.wanted.encode(to);
                }
                Self::Pieces { path, wanted, first, count } => {
                    to.path(path);
                    wanted.encode(to);
                    to.u64(*first).u32(*count);
                }
                Self::Status | Self::Ping => {}
            }
        });
    }

    /// Reads the payload of a frame of type `kind`.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] where `kind` is none of a client's, or what is wrong with the payload.
    pub fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(payload);
        let request = match kind {
            FrameType::Hello => Self::Hello(Hello::decode(&mut from)?),
            FrameType::Login => Self::Login(Login {
                user: from.short_text("user name", limits::USER)?.to_owned(),
                password: from.short_bytes("password", limits::PASSWORD)?.to_vec(),
                mark: Mark::decode(&mut from)?,
                avoid: from.list("slaves to avoid", limits::AVOID)?,
                prefer: from.option()?,
            }),
            FrameType::Ticket => {
                Self::Ticket { ticket: from.short_bytes("ticket", limits::TICKET)?.to_vec(), mark: Mark::decode(&mut from)? }
            }
            FrameType::List => Self::List { path: from.path()?, after: from.short_text("name", limits::NAME_PART)?.to_owned() },
            FrameType::Stat => Self::Stat(from.path()?),
            FrameType::Hash => Self::Hash(from.path()?),
            FrameType::Get => {
                Self::Get(GetRequest { path: from.path()?, offset: from.u64()?, length: from.u64()?, wanted: Wanted::decode(&mut from)? })
            }
            FrameType::Pieces => {
                let (path, wanted) = (from.path()?, Wanted::decode(&mut from)?);
                let (first, count) = (from.u64()?, from.u32()?);
                if count > limits::PIECES_PER_PAGE {
                    return Err(WireError::OverCap { what: "piece count", len: count.into(), cap: limits::PIECES_PER_PAGE.into() });
                }
                check_pieces(first, count.into())?;
                Self::Pieces { path, wanted, first, count }
            }
            FrameType::Status => Self::Status,
            FrameType::Ping => Self::Ping,
            other => return Err(WireError::Unexpected(other.number())),
        };
        from.finish()?;
        Ok(request)
    }
}

impl Reply {
    /// The type of its frame.
    #[must_use]
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::Welcome { .. } => FrameType::Welcome,
            Self::Redirect { .. } => FrameType::Redirect,
            Self::Opened { .. } => FrameType::Opened,
            Self::Wait(_) => FrameType::Wait,
            Self::AskMaster(_) => FrameType::AskMaster,
            Self::Error(_) => FrameType::Error,
            Self::Entries(_) => FrameType::Entries,
            Self::Done { .. } => FrameType::Done,
            Self::Details { .. } => FrameType::Details,
            Self::Header(_) => FrameType::Header,
            Self::End { .. } => FrameType::End,
            Self::PieceValues { .. } => FrameType::PieceValues,
            Self::StatusReport { .. } => FrameType::StatusReport,
            Self::Pong => FrameType::Pong,
        }
    }

    /// Appends the whole frame.
    pub fn encode(&self, to: &mut Vec<u8>) {
        encode_frame(to, self.frame_type(), |to| {
            let to = &mut Encoder::new(to);
            match self {
                Self::Welcome { version, role, cluster, agent } => {
                    to.u16(*version);
                    role.encode(to);
                    cluster.encode(to);
                    to.message(agent);
                }
                Self::Redirect { ticket, mark, slaves } => {
                    to.short_bytes(ticket);
                    mark.encode(to);
                    to.list(slaves, Endpoint::encode);
                }
                Self::Opened { slave, mark, writable } => {
                    slave.encode(to);
                    mark.encode(to);
                    to.bool(*writable);
                }
                Self::Wait(reason) => reason.encode(to),
                Self::AskMaster(addr) => {
                    to.message(addr);
                }
                Self::Error(refusal) => encode_refusal(refusal, to),
                Self::Entries(page) => {
                    to.bytes(&page.0);
                }
                Self::Done { mark } => mark.encode(to),
                Self::Details { entry, digest, holders, mark } => {
                    entry.encode(to);
                    to.option(digest.as_ref(), Digest::encode).list(holders, Endpoint::encode);
                    mark.encode(to);
                }
                Self::Header(header) => header.encode(to),
                Self::End { digest } => digest.encode(to),
                Self::PieceValues { first, values } => {
                    to.u64(*first).list(values, Digest::encode);
                }
                Self::StatusReport { slave, mark, counters, last_error } => {
                    slave.encode(to);
                    mark.encode(to);
                    counters.encode(to);
                    to.message(last_error);
                }
                Self::Pong => {}
            }
        });
    }

    /// Reads the payload of a frame of type `kind`. Blocks are not messages: whoever reads
    /// content takes the block's payload itself.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] where `kind` is none of a server's, or what is wrong with the payload.
    pub fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(payload);
        let from_ = &mut from;
        let reply = match kind {
            FrameType::Welcome => Self::Welcome {
                version: from_.u16()?,
                role: ServerRole::decode(from_)?,
                cluster: ClusterId::decode(from_)?,
                agent: from_.short_text("agent", limits::TEXT)?.to_owned(),
            },
            FrameType::Redirect => Self::Redirect {
                ticket: from_.short_bytes("ticket", limits::TICKET)?.to_vec(),
                mark: Mark::decode(from_)?,
                slaves: decode_slaves(from_)?,
            },
            FrameType::Opened => Self::Opened { slave: SlaveId::decode(from_)?, mark: Mark::decode(from_)?, writable: from_.bool()? },
            FrameType::Wait => Self::Wait(WaitReason::decode(from_)?),
            FrameType::AskMaster => Self::AskMaster(from_.short_text("address", limits::TEXT)?.to_owned()),
            FrameType::Error => Self::Error(decode_refusal(from_)?),
            FrameType::Entries => Self::Entries(EntriesPage::decode_all(from_)?),
            FrameType::Done => Self::Done { mark: Mark::decode(from_)? },
            FrameType::Details => Self::Details {
                entry: Entry::decode(from_)?,
                digest: from_.option()?,
                holders: from_.list("holders", limits::REDIRECT_SLAVES)?,
                mark: Mark::decode(from_)?,
            },
            FrameType::Header => Self::Header(Header::decode(from_)?),
            FrameType::End => Self::End { digest: Digest::decode(from_)? },
            FrameType::PieceValues => {
                let (first, values) = (from_.u64()?, from_.list("piece values", limits::PIECES_PER_PAGE as usize)?);
                check_pieces(first, values.len() as u64)?;
                Self::PieceValues { first, values }
            }
            FrameType::StatusReport => Self::StatusReport {
                slave: SlaveId::decode(from_)?,
                mark: Mark::decode(from_)?,
                counters: Counters::decode(from_)?,
                last_error: from_.short_text("last error", limits::TEXT)?.to_owned(),
            },
            FrameType::Pong => Self::Pong,
            other => return Err(WireError::Unexpected(other.number())),
        };
        from.finish()?;
        Ok(reply)
    }
}

/// The slaves of a redirect: there is one at least, and each has an address.
fn decode_slaves(from: &mut Decoder<'_>) -> Result<Vec<Endpoint>, WireError> {
    let slaves: Vec<Endpoint> = from.list("slaves", limits::REDIRECT_SLAVES)?;
    if slaves.is_empty() {
        return Err(WireError::BadValue { what: "number of slaves", value: 0 });
    }
    if slaves.iter().any(|slave| slave.addrs.is_empty()) {
        return Err(WireError::BadValue { what: "number of addresses", value: 0 });
    }
    Ok(slaves)
}

/// Checks that the pieces end where the longest content ends, so that a piece's
/// number times its size is never more than a file offset can be.
fn check_pieces(first: u64, count: u64) -> Result<(), WireError> {
    match first.checked_add(count) {
        Some(end) if end <= limits::PIECES => Ok(()),
        _ => Err(WireError::OverCap { what: "piece number", len: first, cap: limits::PIECES }),
    }
}

pub(crate) fn encode_refusal(refusal: &Refusal, to: &mut Encoder<'_>) {
    to.u16(refusal.code.number()).message(&refusal.message).u16(refusal.retry_after);
}

pub(crate) fn decode_refusal(from: &mut Decoder<'_>) -> Result<Refusal, WireError> {
    let number = from.u16()?;
    Ok(Refusal {
        code: ErrorCode::from_number(number).ok_or(WireError::BadValue { what: "error code", value: number.into() })?,
        message: from.short_text("message", limits::TEXT)?.to_owned(),
        retry_after: from.u16()?,
    })
}
