//! Recordings of what [`Coordinator`] and [`Replica`] did: all that went into one of them, and a digest of what came out.
//!
//! Whoever runs a machine writes down its start, then each event before it is handed over, and what followed from it. A machine that
//! is given the same again has to do the same again; so a recording of a real run shows, event by event, what the machine had to
//! decide upon, and a later machine can be held against it. Where a run ended within an event, for whatever reason, that event is
//! the last one of the recording.
//!
//! Pure as the machines are: it writes to where the caller says, and reads bytes.

mod coordinator;
mod frame;
mod parts;
mod replica;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io::{self, Write};

use relais_proto::{Decoder, Digest, Encoder, WireError};
use thiserror::Error;

pub use self::coordinator::{CoordinatorRecorder, Trimmed};
use self::frame::{Frames, Reader};
pub use self::replica::ReplicaRecorder;
use crate::coordinator::Coordinator;
use crate::replica::Replica;

/// The record before the actions that followed from it.
const EVENT: u8 = 0;
/// The digest of what followed from the event before.
const ACTIONS: u8 = 1;

/// What a recording was replayed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// How many events there were.
    pub events: u64,
    /// Whether the recording ends within a record, or before what followed from its last event.
    pub torn: bool,
}

/// An event from which something else follows now than when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which event, from 0.
    pub index: u64,
    /// The event.
    pub event: String,
    /// The digest of the actions then.
    pub recorded: Digest,
    /// The digest of the actions now.
    pub replayed: Digest,
    /// The actions now.
    pub actions: String,
}

/// Why a recording was not replayed to its end.
#[derive(Debug, Error)]
pub enum RecordError {
    /// These bytes are no recording, or one of another layout.
    #[error("this is no recording that this program knows")]
    Foreign,
    /// It is one of another machine.
    #[error("the recording is of a machine of kind {0}")]
    Kind(u8),
    /// It ends before the machine has started.
    #[error("the recording ends before the start")]
    NoStart,
    /// What is in it is not what was written.
    #[error("the recording is damaged at byte {offset}: {why}")]
    Damaged {
        /// Where the record begins that is wrong.
        offset: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A record does not say what it should.
    #[error("the record at byte {offset} cannot be read: {source}")]
    Record {
        /// Where it begins.
        offset: usize,
        /// What is wrong with it.
        source: WireError,
    },
    /// Something else follows from an event.
    #[error(
        "event {}, {}, had actions with the digest {}; now they have {}: {}",
        .0.index, .0.event, .0.recorded, .0.replayed, .0.actions
    )]
    Differs(Box<Difference>),
}

/// What can be recorded and replayed.
trait Machine: Sized {
    /// Stands at the start of its recordings.
    const KIND: u8;
    type Event: Debug;
    type Action: Debug;

    /// The machine as it was at the start.
    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError>;
    /// An event and what follows from it.
    fn event(
        &mut self,
        from: &mut Decoder<'_>,
    ) -> Result<(Self::Event, Vec<Self::Action>), WireError>;
    /// Something else that was done to the machine.
    fn other(&mut self, tag: u8, from: &mut Decoder<'_>) -> Result<(), WireError>;
    /// An action, for the digest: every part of it.
    fn encode_action(action: &Self::Action, to: &mut Encoder<'_>);
}

/// The digest of actions.
fn digest_of<M: Machine>(actions: &[M::Action]) -> Digest {
    let mut bytes = Vec::new();
    let mut to = Encoder::new(&mut bytes);
    actions.iter().for_each(|action| M::encode_action(action, &mut to));
    Digest(*blake3::hash(&bytes).as_bytes())
}

/// Writes down what followed from the last event. Mostly that is nothing, which takes few bytes.
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

/// Runs a master's part from its recording.
///
/// # Errors
/// The first event from which something else follows now, or what is wrong with the recording.
pub fn replay_coordinator(bytes: &[u8]) -> Result<Replayed, RecordError> {
    run::<Coordinator>(bytes)
}

/// Runs a slave's part from its recording.
///
/// # Errors
/// As [`replay_coordinator`].
pub fn replay_replica(bytes: &[u8]) -> Result<Replayed, RecordError> {
    run::<Replica>(bytes)
}

/// Runs whichever part the recording is of.
///
/// # Errors
/// As [`replay_coordinator`].
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

/// Reads a record whole: its first byte, and what that makes of the rest.
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
