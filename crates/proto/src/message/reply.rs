//! Replies of a server.

use super::parts::{ContentHeader, Endpoint, ServerRole, WaitReason};
use super::{EntriesPage, check_pieces};
use crate::types::decode_size;
use crate::{
    ClusterId, Counters, Decode, Decoder, Digest, Encoder, Entry, ErrorCode, Expect, FrameType,
    Lsn, Refusal, SlaveId, WireError, encode_frame, limits,
};

/// A reply of a server.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Answer to `Hello`.
    Welcome {
        /// Version of the connection from here on.
        version: u16,
        /// Role of the server.
        role: ServerRole,
        /// Cluster of the server.
        cluster: ClusterId,
        /// Program and version, for logs.
        agent: String,
    },
    /// Sends the client to the first of these slaves; the others are alternatives.
    Redirect {
        /// Ticket for the slave.
        ticket: Vec<u8>,
        /// Latest change.
        lsn: Lsn,
        /// Between 1 and [`limits::REDIRECT_SLAVES`] slaves.
        slaves: Vec<Endpoint>,
    },
    /// The session is open.
    Opened {
        slave: SlaveId,
        /// Latest change of the slave.
        lsn: Lsn,
        /// Whether the user may change files.
        writable: bool,
    },
    /// The server is still working on the answer.
    Wait(WaitReason),
    /// This slave belongs to a cluster; the master is at this address (`HOST:PORT`).
    AskMaster(String),
    /// Refuses the request.
    Error(Refusal),
    /// One page of a folder's entries.
    Entries(EntriesPage),
    /// End of a listing.
    Done {
        /// Change at which the listing was computed.
        lsn: Lsn,
    },
    /// One entry.
    Details {
        entry: Entry,
        /// Digest of a file, if it is known.
        digest: Option<Digest>,
        /// Slaves that hold the content.
        holders: Vec<Endpoint>,
        /// Change at which the details were computed.
        lsn: Lsn,
    },
    /// Header of the content that follows.
    ContentHeader(ContentHeader),
    /// End of content that was sent completely.
    End {
        /// Digest of the whole content, including the bytes that were not sent.
        digest: Digest,
    },
    /// Values of single pieces.
    PieceValues {
        /// Number of the first piece.
        first: u64,
        /// Chaining values of the pieces.
        values: Vec<Digest>,
    },
    /// Status of the server.
    StatusReport {
        slave: SlaveId,
        /// Latest change of the slave.
        lsn: Lsn,
        counters: Counters,
        /// Last error; empty if there was none.
        last_error: String,
    },
    /// Answer to `Ping`.
    Pong,
    /// Progress of an upload.
    Staged {
        /// Offset where the upload resumes; 0 if no bytes are stored.
        offset: u64,
        /// Current entry at the path.
        current: Expect,
    },
    /// The content is not here yet. No holder is known if the list is empty.
    Elsewhere {
        /// At most [`limits::REDIRECT_SLAVES`]. Their addresses are in the client's redirect, else
        /// at its master.
        holders: Vec<Endpoint>,
    },
    /// The slave cannot reach its master, so the following answer may be old. Not an answer itself.
    MasterUnreachable {
        /// Milliseconds without the master.
        ms: u64,
    },
    /// A change is committed.
    Committed {
        /// Number of the change.
        version: Lsn,
        /// Number of disks that hold the content.
        copies: u16,
        /// Latest change.
        lsn: Lsn,
        /// Digest of the content that a put stored under this id.
        ///
        /// `None` for other changes, and if it is no longer known.
        digest: Option<Digest>,
        /// Whether the change is new, or its path has not changed since.
        ///
        /// If not, the change is an older one, and its path has another entry or none by now.
        current: bool,
    },
}

impl Reply {
    /// Returns the type of the reply's frame.
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
            Self::ContentHeader(_) => FrameType::ContentHeader,
            Self::End { .. } => FrameType::End,
            Self::PieceValues { .. } => FrameType::PieceValues,
            Self::StatusReport { .. } => FrameType::StatusReport,
            Self::Pong => FrameType::Pong,
            Self::Elsewhere { .. } => FrameType::Elsewhere,
            Self::MasterUnreachable { .. } => FrameType::MasterUnreachable,
            Self::Staged { .. } => FrameType::Staged,
            Self::Committed { .. } => FrameType::Committed,
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
                Self::Redirect { ticket, lsn, slaves } => {
                    to.short_bytes(ticket);
                    lsn.encode(to);
                    to.list(slaves, Endpoint::encode);
                }
                Self::Opened { slave, lsn, writable } => {
                    slave.encode(to);
                    lsn.encode(to);
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
                Self::Done { lsn } => lsn.encode(to),
                Self::Details { entry, digest, holders, lsn } => {
                    entry.encode(to);
                    to.option(digest.as_ref(), Digest::encode).list(holders, Endpoint::encode);
                    lsn.encode(to);
                }
                Self::ContentHeader(header) => header.encode(to),
                Self::End { digest } => digest.encode(to),
                Self::PieceValues { first, values } => {
                    to.u64(*first).list(values, Digest::encode);
                }
                Self::StatusReport { slave, lsn, counters, last_error } => {
                    slave.encode(to);
                    lsn.encode(to);
                    counters.encode(to);
                    to.message(last_error);
                }
                Self::Pong => {}
                Self::Elsewhere { holders } => {
                    to.list(holders, Endpoint::encode);
                }
                Self::MasterUnreachable { ms } => {
                    to.u64(*ms);
                }
                Self::Staged { offset, current } => {
                    to.u64(*offset);
                    current.encode(to);
                }
                Self::Committed { version, copies, lsn, digest, current } => {
                    version.encode(to);
                    to.u16(*copies);
                    lsn.encode(to);
                    to.option(digest.as_ref(), Digest::encode).bool(*current);
                }
            }
        });
    }

    /// Decodes the payload of a frame of type `kind`.
    ///
    /// Blocks are not messages: a reader of content takes their payload itself.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] if `kind` is not a type of a server, or the defect of the payload.
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
                lsn: Lsn::decode(from_)?,
                slaves: decode_slaves(from_)?,
            },
            FrameType::Opened => Self::Opened {
                slave: SlaveId::decode(from_)?,
                lsn: Lsn::decode(from_)?,
                writable: from_.bool()?,
            },
            FrameType::Wait => Self::Wait(WaitReason::decode(from_)?),
            FrameType::AskMaster => {
                Self::AskMaster(from_.short_text("address", limits::TEXT)?.to_owned())
            }
            FrameType::Error => Self::Error(decode_refusal(from_)?),
            FrameType::Entries => Self::Entries(EntriesPage::decode_all(from_)?),
            FrameType::Done => Self::Done { lsn: Lsn::decode(from_)? },
            FrameType::Details => Self::Details {
                entry: Entry::decode(from_)?,
                digest: from_.option()?,
                holders: from_.list("holders", limits::REDIRECT_SLAVES)?,
                lsn: Lsn::decode(from_)?,
            },
            FrameType::ContentHeader => Self::ContentHeader(ContentHeader::decode(from_)?),
            FrameType::End => Self::End { digest: Digest::decode(from_)? },
            FrameType::PieceValues => {
                let (first, values) =
                    (from_.u64()?, from_.list("piece values", limits::PIECES_PER_PAGE as usize)?);
                check_pieces(first, values.len() as u64)?;
                Self::PieceValues { first, values }
            }
            FrameType::StatusReport => Self::StatusReport {
                slave: SlaveId::decode(from_)?,
                lsn: Lsn::decode(from_)?,
                counters: Counters::decode(from_)?,
                last_error: from_.short_text("last error", limits::TEXT)?.to_owned(),
            },
            FrameType::Pong => Self::Pong,
            FrameType::Elsewhere => {
                Self::Elsewhere { holders: from_.list("holders", limits::REDIRECT_SLAVES)? }
            }
            FrameType::MasterUnreachable => Self::MasterUnreachable { ms: from_.u64()? },
            FrameType::Staged => {
                Self::Staged { offset: decode_size(from_)?, current: Expect::decode(from_)? }
            }
            FrameType::Committed => Self::Committed {
                version: Lsn::decode(from_)?,
                copies: from_.u16()?,
                lsn: Lsn::decode(from_)?,
                digest: from_.option()?,
                current: from_.bool()?,
            },
            other => return Err(WireError::Unexpected(other.number())),
        };
        from.finish()?;
        Ok(reply)
    }
}

/// Decodes the slaves of a redirect: at least one, each with an address.
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

pub(crate) fn encode_refusal(refusal: &Refusal, to: &mut Encoder<'_>) {
    to.u16(refusal.code.number()).message(&refusal.message).u16(refusal.retry_after);
}

pub(crate) fn decode_refusal(from: &mut Decoder<'_>) -> Result<Refusal, WireError> {
    let number = from.u16()?;
    Ok(Refusal {
        code: ErrorCode::from_number(number)
            .ok_or(WireError::BadValue { what: "error code", value: number.into() })?,
        message: from.short_text("message", limits::TEXT)?.to_owned(),
        retry_after: from.u16()?,
        path: None,
    })
}
