//! Frames: four bytes of payload length, one byte of type, the payload.

use crate::{WireError, limits};

/// Bytes before a frame's payload.
pub const HEADER_LEN: usize = 5;

macro_rules! frame_types {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        /// Type of a frame. Bit 7 is set in frames that a server sends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum FrameType { $($(#[$doc])* $name = $number,)* }

        impl FrameType {
            /// All frame types.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the byte of the type on the wire.
            #[must_use]
            pub fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// Returns the type with this byte.
            ///
            /// # Errors
            /// [`WireError::UnknownType`].
            pub fn from_number(number: u8) -> Result<Self, WireError> {
                match number {
                    $($number => Ok(Self::$name),)*
                    other => Err(WireError::UnknownType(other)),
                }
            }
        }
    };
}

frame_types! {
    /// First frame of every connection.
    Hello = 0x01;
    /// User and password; answered by a redirect or an open session.
    Login = 0x02;
    /// Ticket for a slave.
    Ticket = 0x03;
    /// Requests the names in a folder.
    List = 0x10;
    /// Requests one entry.
    Stat = 0x11;
    /// Requests the digest of a file.
    Hash = 0x12;
    /// Requests content from an offset.
    Get = 0x13;
    /// Requests the hashes of single pieces.
    Pieces = 0x14;
    /// Requests the server's status.
    Status = 0x15;
    /// Requests a `Pong`.
    Ping = 0x16;
    /// Lowest change that the following answers must include.
    Seen = 0x17;
    /// Requests several entries.
    StatMany = 0x18;
    /// Requests the changes below a path as they happen.
    Watch = 0x19;
    /// Opens an upload; `Data` and `PutEnd` follow.
    Put = 0x20;
    /// Bytes of an upload.
    Data = 0x21;
    /// Ends an upload.
    PutEnd = 0x22;
    /// Requests the offset of a partial upload.
    Resume = 0x23;
    /// Makes a folder.
    MakeFolder = 0x24;
    /// Removes a file or a folder.
    Remove = 0x25;
    /// Renames a file or a folder.
    Move = 0x26;
    /// Sets permission bits and time of a file or a folder.
    SetAttributes = 0x27;
    /// Copies a file on the server.
    Copy = 0x28;
    /// The transfer continues what another server began. Servers that do not know it skip it.
    FailedOver = 0x30;
    /// First step of a cluster link: id and nonce.
    LinkOpen = 0x40;
    /// Third step of a cluster link: proof of the cluster key.
    LinkProof = 0x41;
    /// Registers a slave.
    Register = 0x42;
    /// A slave's heartbeat.
    Heartbeat = 0x43;
    /// Requests the state of all slaves.
    AskReport = 0x44;
    /// Replication message of a slave.
    ToMaster = 0x45;
    /// One page of a slave's tree.
    TreePage = 0x46;
    /// Command of an operator.
    Operate = 0x47;
    /// Requests a certificate for a slave.
    AskCertificate = 0x48;
    /// One page of a slave's path list.
    PathPage = 0x49;
    /// Login of a client that has sent its password to a slave.
    ForwardedLogin = 0x4a;
    /// Requests a new ticket for an old one.
    TicketRenewal = 0x4b;
    /// Unfinished uploads by path of a slave.
    PathUploads = 0x4c;
    /// Log-outs at a slave.
    LogOuts = 0x4d;
    /// Answer to `Hello`.
    Welcome = 0x81;
    /// Slaves for the client, and a ticket for them.
    Redirect = 0x82;
    /// The session is open.
    Opened = 0x83;
    /// The server is still working on the answer.
    Wait = 0x84;
    /// Names the master of the slave's cluster.
    AskMaster = 0x85;
    /// Refuses a request.
    Error = 0x8f;
    /// One page of a folder's entries.
    Entries = 0x90;
    /// End of a listing.
    Done = 0x91;
    /// One entry, with what `stat` and `hash` add.
    Details = 0x92;
    /// Header of the content that follows.
    ContentHeader = 0x93;
    /// A block of content.
    Block = 0x94;
    /// End of content.
    End = 0x95;
    /// Hashes of single pieces.
    PieceValues = 0x96;
    /// Status of a slave.
    StatusReport = 0x97;
    /// Answer to `Ping`.
    Pong = 0x98;
    /// Offset of a partial upload.
    Staged = 0x99;
    /// A change is committed.
    Committed = 0x9a;
    /// Names the holders of content that is not here yet.
    Elsewhere = 0x9b;
    /// The slave cannot reach its master; an answer follows.
    MasterUnreachable = 0x9c;
    /// Some of several entries.
    EntryResults = 0x9d;
    /// Changes below a watched path.
    Events = 0x9e;
    /// Ends a watch that has missed changes.
    EventsLost = 0x9f;
    /// Second step of a cluster link: the master's proof.
    LinkChallenge = 0xc1;
    /// The slave is registered.
    Registered = 0xc2;
    /// Answer to a heartbeat.
    HeartbeatAck = 0xc3;
    /// State of one slave.
    SlaveReport = 0xc4;
    /// End of the slaves' states.
    ReportEnd = 0xc5;
    /// Replication message of a master.
    ToSlave = 0xc6;
    /// The slaves of the cluster.
    Peers = 0xc7;
    /// Requests a slave's tree.
    AskTree = 0xc8;
    /// Announces the recovery of the cluster.
    Recovering = 0xc9;
    /// One line of output for an operator.
    Line = 0xca;
    /// End of the output for an operator.
    LineEnd = 0xcb;
    /// Certificate for a slave.
    Certificate = 0xcc;
    /// Requests a list of a slave's paths.
    AskPaths = 0xcd;
    /// Ticket for a login or a renewal.
    TicketIssued = 0xce;
    /// Refuses a login or a renewal.
    LoginRefused = 0xcf;
    /// Unfinished uploads by path of the other slaves.
    OtherUploads = 0xd0;
    /// Has a slave hash a content.
    HashContent = 0xd1;
    /// Log-outs at the other servers of the cluster.
    OtherLogOuts = 0xd2;
}

impl FrameType {
    /// Returns the longest payload of this type, in bytes.
    #[must_use]
    pub fn cap(self) -> u32 {
        match self {
            Self::Block | Self::Data => limits::BLOCK_MAX,
            Self::Hello | Self::Login | Self::LinkOpen | Self::LinkProof => limits::GREETING_FRAME,
            Self::Ticket => limits::TICKET_FRAME,
            Self::ToMaster | Self::TreePage | Self::PathPage => limits::CONTROL_FRAME,
            _ => Self::cap_of_unknown(self.number()),
        }
    }

    /// Returns the longest payload of an unknown type, in bytes.
    #[must_use]
    pub fn cap_of_unknown(number: u8) -> u32 {
        if number < 0x80 { limits::REQUEST_FRAME } else { limits::CONTROL_FRAME }
    }

    /// Returns whether a receiver skips frames of this type if it does not know the type.
    ///
    /// These are the last 16 types of each kind of message.
    #[must_use]
    pub fn is_ignorable(number: u8) -> bool {
        number & 0x30 == 0x30
    }
}

/// Decoded header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Type of the payload.
    pub kind: FrameType,
    /// Length of the payload in bytes, at most the type's cap.
    pub len: u32,
}

impl FrameHeader {
    /// Checks type and length.
    ///
    /// # Errors
    /// [`WireError::UnknownType`] or [`WireError::FrameTooLong`].
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, WireError> {
        let [a, b, c, d, number] = bytes;
        let kind = FrameType::from_number(number)?;
        let len = u32::from_be_bytes([a, b, c, d]);
        if len > kind.cap() {
            return Err(WireError::FrameTooLong { kind: number, len, cap: kind.cap() });
        }
        Ok(Self { kind, len })
    }

    /// Encodes the header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.len.to_be_bytes();
        [a, b, c, d, self.kind.number()]
    }
}

/// Appends a frame to `to`; `fill` appends the payload.
pub fn encode_frame(to: &mut Vec<u8>, kind: FrameType, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = to.len();
    to.extend_from_slice(&[0; HEADER_LEN]);
    fill(to);
    let len = u32::try_from(to.len() - start - HEADER_LEN).unwrap_or(u32::MAX);
    debug_assert!(len <= kind.cap(), "a {kind:?} frame of {len} bytes");
    to[start..start + HEADER_LEN].copy_from_slice(&FrameHeader { kind, len }.to_bytes());
}
