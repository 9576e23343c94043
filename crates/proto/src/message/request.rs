//! Requests of a client.

use super::{PutRequest, check_pieces};
use crate::types::decode_size;
use crate::{
    ChangeId, Decode, Decoder, Digest, Encoder, FrameType, GetRequest, Hello, IfMatch, Login, Lsn,
    SlaveId, TreePath, WireError, encode_frame, limits,
};

/// A request of a client.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Opens the connection.
    Hello(Hello),
    /// Logs in at a master or at a standalone slave.
    Login(Login),
    /// Opens a session on a slave of a cluster.
    Ticket {
        /// The master's ticket; at most [`limits::TICKET`] bytes.
        ticket: Vec<u8>,
        /// Highest change that the client has seen.
        lsn: Lsn,
    },
    /// Lists a folder in byte order of the names.
    List {
        path: TreePath,
        /// Only names after this one; empty for all.
        after: String,
        /// Highest number of names; 0 for all.
        most: u32,
    },
    /// Asks for one entry.
    Stat(TreePath),
    /// Asks for one file with its digest; the slave computes it if necessary.
    Hash(TreePath),
    /// Asks for content.
    Get(GetRequest),
    /// Asks for the values of `count` pieces from number `first` on.
    Pieces {
        path: TreePath,
        /// Condition on the content.
        if_match: IfMatch,
        /// Number of the first piece.
        first: u64,
        /// Number of pieces, at most [`limits::PIECES_PER_PAGE`].
        count: u32,
    },
    /// Asks for the server's status.
    Status,
    /// Asks for a `Pong`.
    Ping,
    /// Makes all following answers include this change and those before it. It has no answer.
    Seen {
        /// Highest change that the client has seen.
        lsn: Lsn,
    },
    /// Opens an upload. `Data` frames follow, and `PutEnd`.
    Put(PutRequest),
    /// Ends an upload.
    PutEnd {
        /// Digest of the whole content.
        digest: Digest,
    },
    /// Asks how much of an upload the slave has; ends an older connection that still sends it.
    Resume {
        id: ChangeId,
        path: TreePath,
        /// Size of the whole content in bytes.
        size: u64,
    },
    /// Makes a folder.
    MakeFolder {
        /// Id of the change; a repeated id is the same change.
        id: ChangeId,
        path: TreePath,
    },
    /// Removes a file or a folder.
    Remove {
        /// Id of the change; a repeated id is the same change.
        id: ChangeId,
        path: TreePath,
        /// Whether the entries below a folder are removed with it.
        recursive: bool,
    },
    /// Renames a file or a folder; a file at the new path is replaced.
    Move {
        /// Id of the change; a repeated id is the same change.
        id: ChangeId,
        from: TreePath,
        to: TreePath,
    },
}

impl Request {
    /// Returns the type of the request's frame.
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
            Self::Seen { .. } => FrameType::Seen,
            Self::Put(_) => FrameType::Put,
            Self::PutEnd { .. } => FrameType::PutEnd,
            Self::Resume { .. } => FrameType::Resume,
            Self::MakeFolder { .. } => FrameType::MakeFolder,
            Self::Remove { .. } => FrameType::Remove,
            Self::Move { .. } => FrameType::Move,
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
                    login.lsn.encode(to);
                    to.list(&login.avoid, SlaveId::encode)
                        .option(login.prefer.as_ref(), SlaveId::encode);
                }
                Self::Ticket { ticket, lsn } => {
                    to.short_bytes(ticket);
                    lsn.encode(to);
                }
                Self::List { path, after, most } => {
                    to.path(path).short_text(after).u32(*most);
                }
                Self::Stat(path) | Self::Hash(path) => {
                    to.path(path);
                }
                Self::Get(get) => {
                    to.path(&get.path).u64(get.offset).u64(get.length);
                    get.if_match.encode(to);
                }
                Self::Pieces { path, if_match, first, count } => {
                    to.path(path);
                    if_match.encode(to);
                    to.u64(*first).u32(*count);
                }
                Self::Status | Self::Ping => {}
                Self::Seen { lsn } => lsn.encode(to),
                Self::Put(put) => put.encode(to),
                Self::PutEnd { digest } => digest.encode(to),
                Self::Resume { id, path, size } => {
                    id.encode(to);
                    to.path(path).u64(*size);
                }
                Self::MakeFolder { id, path } => {
                    id.encode(to);
                    to.path(path);
                }
                Self::Remove { id, path, recursive } => {
                    id.encode(to);
                    to.path(path).bool(*recursive);
                }
                Self::Move { id, from, to: target } => {
                    id.encode(to);
                    to.path(from).path(target);
                }
            }
        });
    }

    /// Decodes the payload of a frame of type `kind`.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] if `kind` is not a type of a client, or the defect of the payload.
    pub fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(payload);
        let request = match kind {
            FrameType::Hello => Self::Hello(Hello::decode(&mut from)?),
            FrameType::Login => Self::Login(Login {
                user: from.short_text("user name", limits::USER)?.to_owned(),
                password: from.short_bytes("password", limits::PASSWORD)?.to_vec(),
                lsn: Lsn::decode(&mut from)?,
                avoid: from.list("slaves to avoid", limits::AVOID)?,
                prefer: from.option()?,
            }),
            FrameType::Ticket => Self::Ticket {
                ticket: from.short_bytes("ticket", limits::TICKET)?.to_vec(),
                lsn: Lsn::decode(&mut from)?,
            },
            FrameType::List => Self::List {
                path: from.path()?,
                after: from.short_text("name", limits::NAME_PART)?.to_owned(),
                most: from.u32()?,
            },
            FrameType::Stat => Self::Stat(from.path()?),
            FrameType::Hash => Self::Hash(from.path()?),
            FrameType::Get => Self::Get(GetRequest {
                path: from.path()?,
                offset: from.u64()?,
                length: from.u64()?,
                if_match: IfMatch::decode(&mut from)?,
            }),
            FrameType::Pieces => {
                let (path, if_match) = (from.path()?, IfMatch::decode(&mut from)?);
                let (first, count) = (from.u64()?, from.u32()?);
                if count > limits::PIECES_PER_PAGE {
                    return Err(WireError::OverCap {
                        what: "piece count",
                        len: count.into(),
                        cap: limits::PIECES_PER_PAGE.into(),
                    });
                }
                check_pieces(first, count.into())?;
                Self::Pieces { path, if_match, first, count }
            }
            FrameType::Status => Self::Status,
            FrameType::Ping => Self::Ping,
            FrameType::Seen => Self::Seen { lsn: Lsn::decode(&mut from)? },
            FrameType::Put => Self::Put(PutRequest::decode(&mut from)?),
            FrameType::PutEnd => Self::PutEnd { digest: Digest::decode(&mut from)? },
            FrameType::Resume => Self::Resume {
                id: ChangeId::decode(&mut from)?,
                path: from.path()?,
                size: decode_size(&mut from)?,
            },
            FrameType::MakeFolder => {
                Self::MakeFolder { id: ChangeId::decode(&mut from)?, path: from.path()? }
            }
            FrameType::Remove => Self::Remove {
                id: ChangeId::decode(&mut from)?,
                path: from.path()?,
                recursive: from.bool()?,
            },
            FrameType::Move => Self::Move {
                id: ChangeId::decode(&mut from)?,
                from: from.path()?,
                to: from.path()?,
            },
            other => return Err(WireError::Unexpected(other.number())),
        };
        from.finish()?;
        Ok(request)
    }
}
