//! Recordings of a [`Coordinator`] or [`Replica`]: its events, and a digest of its actions.
//!
//! The recorder writes the start of the machine, then each event before it is handled, and the
//! actions after it. A machine that gets the same events must produce the same actions. So a
//! recording of a real run shows each decision, and a later version can be compared with it. If a
//! run ends within an event, that event is the last one of the recording.
//!
//! Pure like the machines: it writes to the caller's writer, and reads bytes.

mod coordinator;
mod error;
mod frame;
mod machine;
mod parts;
mod replica;
#[cfg(test)]
mod tests;

use relais_proto::{Decoder, Digest, WireError};

pub use self::coordinator::{CoordinatorRecorder, Trimmed};
pub use self::error::{Difference, RecordError};
use self::frame::Reader;
use self::machine::{ACTIONS, EVENT, Machine, digest_of};
pub use self::replica::ReplicaRecorder;
use crate::coordinator::Coordinator;
use crate::replica::Replica;

/// Result of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Number of events.
    pub events: u64,
    /// Whether the recording ends within a record, or before the actions of its last event.
    pub torn: bool,
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
                    (digest.unwrap_or_else(|| digest_of::<M::Action>(&[])), digest_of(&actions));
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
