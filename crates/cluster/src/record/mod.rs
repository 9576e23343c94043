//! Recordings of a [`Coordinator`] or [`Replica`]: its events, and a digest of its actions.
//!
//! The recorder writes the start of the machine, then each event before it is handled, and the
//! actions after it. A machine that gets the same events must produce the same actions. So a
//! recording of a real run shows each decision, and a later version can be compared with it. If a
//! run ends within an event, that event is the last one of the recording.
//!
//! Pure like the machines: it writes to the caller's writer, and reads bytes.

mod coordinator;
mod frame;
mod parts;
mod replica;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io::{self, Write};

use relais_proto::{Decoder, Digest, Encoder, Wire, WireError};
use thiserror::Error;

pub use self::coordinator::{CoordinatorRecorder, Trimmed};
use self::frame::{Frames, Reader};
pub use self::replica::ReplicaRecorder;
use crate::coordinator::Coordinator;
use crate::replica::Replica;

/// Tag of an event record.
const EVENT: u8 = 0;
/// Tag of the record with the digest of the actions after an event.
const ACTIONS: u8 = 1;

/// Result of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Number of events.
    pub events: u64,
    /// Whether the recording ends within a record, or before the actions of its last event.
    pub torn: bool,
}

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

/// A state machine that can be recorded and replayed.
trait Machine: Sized {
    /// Kind of the machine, at the start of its recordings.
    const KIND: u8;
    type Event: Debug;
    type Action: Debug;

    /// Decodes the machine at its start.
    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError>;
    /// Decodes and handles an event; returns the actions.
    fn event(
        &mut self,
        from: &mut Decoder<'_>,
    ) -> Result<(Self::Event, Vec<Self::Action>), WireError>;
    /// Decodes and applies another operation on the machine.
    fn other(&mut self, tag: u8, from: &mut Decoder<'_>) -> Result<(), WireError>;
    /// Encodes all parts of an action, for the digest.
    fn encode_action(action: &Self::Action, to: &mut Encoder<'_>);
}

/// Returns the digest of actions.
fn digest_of<M: Machine>(actions: &[M::Action]) -> Digest {
    let mut bytes = Vec::new();
    let mut to = Encoder::new(&mut bytes);
    actions.iter().for_each(|action| M::encode_action(action, &mut to));
    Digest(*blake3::hash(&bytes).as_bytes())
}

/// Writes the actions of the last event. Mostly there are none, which takes few bytes.
fn add_actions<M: Machine>(
    frames: &mut Frames,
    actions: &[M::Action],
    to: &mut dyn Write,
) -> io::Result<()> {
    let digest = (!actions.is_empty()).then(|| digest_of::<M>(actions));
    frames.add(to, |to| {
        to.u8(ACTIONS).option(digest, |digest, to| digest.encode(to));
    })
}

/// Replays the recording of a master.
///
/// # Errors
/// The first event whose actions differ, or the defect of the recording.
pub fn replay_coordinator(bytes: &[u8]) -> Result<Replayed, RecordError> {
    run::<Coordinator>(bytes)
}

/// Replays the recording of a slave.
///
/// # Errors
/// As for [`replay_coordinator`].
pub fn replay_replica(bytes: &[u8]) -> Result<Replayed, RecordError> {
    run::<Replica>(bytes)
}

/// Replays a recording of either machine.
///
/// # Errors
/// As for [`replay_coordinator`].
pub fn replay(bytes: &[u8]) -> Result<Replayed, RecordError> {
    match replay_coordinator(bytes) {
        Err(RecordError::Kind(Replica::KIND)) => replay_replica(bytes),
        result => result,
    }
}

fn run<M: Machine>(bytes: &[u8]) -> Result<Replayed, RecordError> {
    let mut reader = Reader::new(bytes)?;
    let mut offset = reader.at;
    let start = reader.next()?.ok_or(RecordError::NoStart)?;
    let mut machine = read(start, offset, |kind, from| {
        if kind == M::KIND {
            return M::start(from).map(Ok);
        }
        from.rest();
        Ok(Err(kind))
    })?
    .map_err(RecordError::Kind)?;
    let (mut events, mut last) = (0, None);
    loop {
        offset = reader.at;
        let Some(record) = reader.next()? else { break };
        let damaged = |why| RecordError::Damaged { offset, why };
        match record.first() {
            Some(&EVENT) if last.is_some() => {
                return Err(damaged("an event without what followed from it"));
            }
            Some(&EVENT) => last = Some(read(record, offset, |_, from| machine.event(from))?),
            Some(&ACTIONS) => {
                let (event, actions) =
                    last.take().ok_or_else(|| damaged("actions that followed from nothing"))?;
                let digest: Option<Digest> = read(record, offset, |_, from| from.option())?;
                let (recorded, replayed) =
                    (digest.unwrap_or_else(|| digest_of::<M>(&[])), digest_of::<M>(&actions));
                if recorded != replayed {
                    let (event, actions) = (format!("{event:?}"), format!("{actions:?}"));
                    return Err(RecordError::Differs(Box::new(Difference {
                        index: events,
                        event,
                        recorded,
                        replayed,
                        actions,
                    })));
                }
                events += 1;
            }
            _ => read(record, offset, |tag, from| machine.other(tag, from))?,
        }
    }
    let unanswered = u64::from(last.is_some());
    Ok(Replayed { events: events + unanswered, torn: reader.torn || unanswered > 0 })
}

/// Decodes a whole record: its tag, and the rest according to it.
fn read<'a, T>(
    record: &'a [u8],
    offset: usize,
    rest: impl FnOnce(u8, &mut Decoder<'a>) -> Result<T, WireError>,
) -> Result<T, RecordError> {
    let mut from = Decoder::new(record);
    let all = from.u8().and_then(|tag| {
        let all = rest(tag, &mut from)?;
        from.finish()?;
        Ok(all)
    });
    all.map_err(|source| RecordError::Record { offset, source })
}
