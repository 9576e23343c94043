//! Reasons why a recording cannot be replayed.

use relais_proto::{Digest, WireError};
use thiserror::Error;

/// An event whose actions differ from the recorded ones.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Index of the event, from 0.
    pub index: u64,
    pub event: String,
    /// Digest of the recorded actions.
    pub recorded: Digest,
    /// Digest of the replayed actions.
    pub replayed: Digest,
    /// Replayed actions.
    pub actions: String,
}

/// Reason why a replay stopped early.
#[allow(missing_docs, reason = "the names of the fields say what they hold")]
#[derive(Debug, Error)]
pub enum RecordError {
    /// The bytes are not a recording, or have another layout.
    #[error("this is no recording that this program knows")]
    Foreign,
    /// The recording is of another machine.
    #[error("the recording is of a machine of kind {0}")]
    Kind(u8),
    /// The recording ends before the start of the machine.
    #[error("the recording ends before the start")]
    NoStart,
    /// The bytes are not as written.
    #[error("the recording is damaged at byte {offset}: {why}")]
    Damaged {
        /// Offset of the damaged record.
        offset: usize,
        why: &'static str,
    },
    /// A record cannot be decoded.
    #[error("the record at byte {offset} cannot be read: {source}")]
    Record {
        /// Offset of the record.
        offset: usize,
        source: WireError,
    },
    /// The replayed actions of an event differ.
    #[error(
        "event {}, {}, had actions with the digest {}; now they have {}: {}",
        .0.index, .0.event, .0.recorded, .0.replayed, .0.actions
    )]
    Differs(Box<Difference>),
}
