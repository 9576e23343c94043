//! What a master, its slaves and its operators say to each other.
//!
//! A link begins with `Hello` and `LinkOpen`, sent together. The master
//! answers `Welcome` and `LinkChallenge`, which proves first that it has the
//! cluster key; then the other side sends `LinkProof`, and behind it what it wants.

use std::net::SocketAddr;

use crate::message::{decode_addrs, encode_addrs};
use crate::{ClusterId, Counters, Decode, Decoder, Encoder, FolderId, FrameType, Mark, SlaveId, WireError, encode_frame, limits};

/// A state in which the master has a slave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlaveState {
    /// It gets sessions.
    InService,
    /// It is there and not ready for sessions yet.
    CatchingUp,
    /// It gets no new sessions.
    Draining,
    /// It does not answer, or none of its workers does.
    Down,
}

impl SlaveState {
    /// The state's name, as in `status --json`.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::InService => "in-service",
            Self::CatchingUp => "catching-up",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }

    fn encode(self, to: &mut Encoder<'_>) {
        to.u8(match self {
            Self::InService => 0,
            Self::CatchingUp => 1,
            Self::Draining => 2,
            Self::Down => 3,
        });
    }
}

impl Decode for SlaveState {
    fn decode(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        match from.u8()? {
            0 => Ok(Self::InService),
            1 => Ok(Self::CatchingUp),
            2 => Ok(Self::Draining),
            3 => Ok(Self::Down),
            other => Err(WireError::BadValue { what: "slave state", value: other.into() }),
        }
    }
}

/// What a slave says of itself when it registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The folder that it serves.
    pub folder: FolderId,
    /// Where it listens; the unspecified address means all interfaces.
    pub listen: Vec<SocketAddr>,
    /// Where clients shall be sent instead, `HOST:PORT`; empty: nowhere else.
    pub advertise: String,
    /// The latest change that it has.
    pub mark: Mark,
}

/// A slave's heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// What the slave thinks of itself; never `Down`.
    pub state: SlaveState,
    /// The latest change that it has.
    pub mark: Mark,
    /// Pool and folder.
    pub counters: Counters,
    /// Its last error; empty where there was none.
    pub last_error: String,
}

/// One slave as the master sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlaveReport {
    /// Which slave.
    pub id: SlaveId,
    /// Which folder it serves.
    pub folder: FolderId,
    /// Where clients on the asker's host are sent to; none while it is unknown.
    pub addrs: Vec<SocketAddr>,
    /// Its state.
    pub state: SlaveState,
    /// The latest change that it has.
    pub mark: Mark,
    /// Its counters.
    pub counters: Counters,
    /// Its last error; empty where there was none.
    pub last_error: String,
    /// Milliseconds since its last heartbeat.
    pub silent_ms: u64,
}

/// A message of a cluster link, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkMessage {
    /// Who we are, and a fresh nonce.
    LinkOpen {
        /// The slave's id; for an operator random.
        id: SlaveId,
        /// Fresh random bytes.
        nonce: [u8; 32],
    },
    /// The master's nonce and its proof.
    LinkChallenge {
        /// The cluster.
        cluster: ClusterId,
        /// Fresh random bytes.
        nonce: [u8; 32],
        /// Proof of the key over role, ids and both nonces.
        proof: [u8; 32],
    },
    /// The other side's proof.
    LinkProof {
        /// Proof of the key over role, ids and both nonces.
        proof: [u8; 32],
    },
    /// A slave offers its service.
    Register(Registration),
    /// It is known from now on.
    Registered {
        /// The latest change.
        mark: Mark,
        /// The master's time: milliseconds since 1970 UTC.
        time_ms: u64,
    },
    /// A slave's heartbeat.
    Beat(Beat),
    /// Answer to a heartbeat.
    BeatAck {
        /// The latest change.
        mark: Mark,
        /// The master's time: milliseconds since 1970 UTC.
        time_ms: u64,
        /// Generation of the accounts; tickets of older ones are refused.
        generation: u64,
    },
    /// An operator asks for all slaves.
    AskReport,
    /// One slave.
    SlaveReport(SlaveReport),
    /// All slaves were named.
    ReportEnd {
        /// The latest change.
        mark: Mark,
    },
}

impl LinkMessage {
    /// The type of its frame.
    #[must_use]
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::LinkOpen { .. } => FrameType::LinkOpen,
            Self::LinkChallenge { .. } => FrameType::LinkChallenge,
            Self::LinkProof { .. } => FrameType::LinkProof,
            Self::Register(_) => FrameType::Register,
            Self::Registered { .. } => FrameType::Registered,
            Self::Beat(_) => FrameType::Beat,
            Self::BeatAck { .. } => FrameType::BeatAck,
            Self::AskReport => FrameType::AskReport,
            Self::SlaveReport(_) => FrameType::SlaveReport,
            Self::ReportEnd { .. } => FrameType::ReportEnd,
        }
    }

    /// Appends the whole frame.
    pub fn encode(&self, to: &mut Vec<u8>) {
        encode_frame(to, self.frame_type(), |to| {
            let to = &mut Encoder::new(to);
            match self {
                Self::LinkOpen { id, nonce } => {
                    id.encode(to);
                    to.bytes(nonce);
                }
                Self::LinkChallenge { cluster, nonce, proof } => {
                    cluster.encode(to);
                    to.bytes(nonce).bytes(proof);
                }
                Self::LinkProof { proof } => {
                    to.bytes(proof);
                }
                Self::Register(r) => {
                    r.folder.encode(to);
                    encode_addrs(&r.listen, to);
                    to.message(&r.advertise);
                    r.mark.encode(to);
                }
                Self::Registered { mark, time_ms } => {
                    mark.encode(to);
                    to.u64(*time_ms);
                }
                Self::Beat(beat) => {
                    beat.state.encode(to);
                    beat.mark.encode(to);
                    beat.counters.encode(to);
                    to.message(&beat.last_error);
                }
                Self::BeatAck { mark, time_ms, generation } => {
                    mark.encode(to);
                    to.u64(*time_ms).u64(*generation);
                }
                Self::AskReport => {}
                Self::SlaveReport(r) => {
                    r.id.encode(to);
                    r.folder.encode(to);
                    encode_addrs(&r.addrs, to);
                    r.state.encode(to);
                    r.mark.encode(to);
                    r.counters.encode(to);
                    to.message(&r.last_error).u64(r.silent_ms);
                }
                Self::ReportEnd { mark } => mark.encode(to),
            }
        });
    }

    /// Reads the payload of a frame of type `kind`.
    ///
    /// # Errors
    /// [`WireError::Unexpected`] where `kind` is none of a link's, or what is wrong with the payload.
    pub fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, WireError> {
        let mut decoder = Decoder::new(payload);
        let from = &mut decoder;
        let message = match kind {
            FrameType::LinkOpen => Self::LinkOpen { id: SlaveId::decode(from)?, nonce: from.array()? },
            FrameType::LinkChallenge => {
                Self::LinkChallenge { cluster: ClusterId::decode(from)?, nonce: from.array()?, proof: from.array()? }
            }
            FrameType::LinkProof => Self::LinkProof { proof: from.array()? },
            FrameType::Register => Self::Register(Registration {
                folder: FolderId::decode(from)?,
                listen: decode_addrs(from)?,
                advertise: from.short_text("advertised address", limits::TEXT)?.to_owned(),
                mark: Mark::decode(from)?,
            }),
            FrameType::Registered => Self::Registered { mark: Mark::decode(from)?, time_ms: from.u64()? },
            FrameType::Beat => Self::Beat(Beat {
                state: SlaveState::decode(from)?,
                mark: Mark::decode(from)?,
                counters: Counters::decode(from)?,
                last_error: from.short_text("last error", limits::TEXT)?.to_owned(),
            }),
            FrameType::BeatAck => Self::BeatAck { mark: Mark::decode(from)?, time_ms: from.u64()?, generation: from.u64()? },
            FrameType::AskReport => Self::AskReport,
            FrameType::SlaveReport => Self::SlaveReport(SlaveReport {
                id: SlaveId::decode(from)?,
                folder: FolderId::decode(from)?,
                addrs: decode_addrs(from)?,
                state: SlaveState::decode(from)?,
                mark: Mark::decode(from)?,
                counters: Counters::decode(from)?,
                last_error: from.short_text("last error", limits::TEXT)?.to_owned(),
                silent_ms: from.u64()?,
            }),
            FrameType::ReportEnd => Self::ReportEnd { mark: Mark::decode(from)? },
            other => return Err(WireError::Unexpected(other.number())),
        };
        decoder.finish()?;
        Ok(message)
    }
}
