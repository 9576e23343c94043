//! Replays recordings of masters and slaves through the current state machines.

use std::fmt::Debug;
use std::time::Duration;

use relais_cluster::record::{
    ACTIONS, COORDINATOR, EVENT, HEAD, LONGEST, MAGIC, REPLICA, SUM, checksum, digest_of,
};
use relais_cluster::replica::{self, MissingContent, Replica};
use relais_cluster::{
    Coordinator, CoordinatorAction, CoordinatorEvent, MasterState, ReplicaPosition,
};
use relais_proto::{
    Capped, ChangeId, Decoder, Digest, FolderId, SlaveId, Uncapped, Wire, WireError,
};

/// An event whose actions differ from the recorded ones.
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
#[allow(dead_code, reason = "the fields are for the messages of failed tests")]
#[derive(Debug)]
pub enum RecordError {
    /// The bytes are not a recording, or have another layout.
    Foreign,
    /// The recording is of another machine.
    Kind(u8),
    /// The recording ends before the start of the machine.
    NoStart,
    /// The bytes are not as written: the offset of the damaged record, and the damage.
    Damaged(usize, &'static str),
    /// The record at this offset cannot be decoded.
    Record(usize, WireError),
    /// The replayed actions of an event differ.
    Differs(Box<Difference>),
}

/// Result of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Number of events.
    pub events: u64,
    /// Whether the recording ends within a record, or before the actions of its last event.
    pub torn: bool,
}

/// Reader of records.
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Offset of the next record.
    pub at: usize,
    sum: [u8; 32],
    /// Whether the end is truncated.
    torn: bool,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of a recording.
    pub fn new(bytes: &'a [u8]) -> Result<Self, RecordError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(RecordError::Foreign);
        }
        Ok(Self { bytes, at: MAGIC.len(), sum: [0; 32], torn: false })
    }

    /// Returns the next record; `None` at the end.
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let rest = &self.bytes[self.at..];
        let damaged = |why| RecordError::Damaged(self.at, why);
        let mut from = Decoder::new(rest);
        let (Ok(len), Ok(inverted)) = (from.u32(), from.u32()) else {
            self.torn = !rest.is_empty();
            return Ok(None);
        };
        if len != !inverted || len > LONGEST {
            return Err(damaged("no record has this length"));
        }
        let len = usize::try_from(len).unwrap();
        let (Ok(payload), Ok(found)) = (from.take(len), from.array::<SUM>()) else {
            self.torn = true;
            return Ok(None);
        };
        self.sum = checksum(&self.sum, &rest[..HEAD + len]);
        if self.sum[..SUM] != found {
            return Err(damaged("a record is altered or missing"));
        }
        self.at += HEAD + len + SUM;
        Ok(Some(payload))
    }
}

/// A state machine whose recordings can be replayed.
pub trait Machine: Sized {
    /// Tag of the first record.
    const KIND: u8;
    type Event: Wire + Debug + Clone;
    type Action: Debug;

    /// Decodes the machine at its start.
    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError>;
    /// Handles an event.
    fn handle(&mut self, event: Self::Event, now: u64) -> Vec<Self::Action>;
}

impl Machine for Coordinator {
    const KIND: u8 = COORDINATOR;
    type Event = CoordinatorEvent;
    type Action = CoordinatorAction;

    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let folders: Vec<FolderId> = decode_all(from)?;
        Ok(Self::new(MasterState::from_bytes(from.rest())?, folders.into_iter().collect()))
    }

    fn handle(&mut self, event: CoordinatorEvent, now: u64) -> Vec<CoordinatorAction> {
        self.on(event, now)
    }
}

impl Machine for Replica {
    const KIND: u8 = REPLICA;
    type Event = replica::Event;
    type Action = replica::Action;

    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (slave, folder, position): (SlaveId, FolderId, ReplicaPosition) = Wire::decode(from)?;
        let missing: Vec<MissingContent> = decode_all(from)?;
        let staged: Vec<ChangeId> = decode_all(from)?;
        Ok(Self::new(slave, folder, position, missing, staged.into_iter().collect()))
    }

    fn handle(&mut self, event: replica::Event, now: u64) -> Vec<replica::Action> {
        self.on(event, Duration::from_nanos(now))
    }
}

fn decode_all<T: Wire>(from: &mut Decoder<'_>) -> Result<Vec<T>, WireError> {
    Capped::decode_capped(from, "", Uncapped)
}

/// Replays the recording of a master.
///
/// # Errors
/// The first event whose actions differ, or the defect of the recording.
pub fn replay_coordinator(bytes: &[u8]) -> Result<Replayed, RecordError> {
    run::<Coordinator>(bytes)
}

/// Replays the recording of a slave.
pub fn replay_replica(bytes: &[u8]) -> Result<Replayed, RecordError> {
    run::<Replica>(bytes)
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
        let damaged = |why| RecordError::Damaged(offset, why);
        match record.first() {
            Some(&EVENT) if last.is_some() => {
                return Err(damaged("an event without the actions of the one before"));
            }
            Some(&EVENT) => {
                let (now, event): (u64, M::Event) =
                    read(record, offset, |_, from| Wire::decode(from))?;
                last = Some((event.clone(), machine.handle(event, now)));
            }
            Some(&ACTIONS) => {
                let (event, actions) = last.take().ok_or_else(|| damaged("actions of no event"))?;
                let digest: Option<Digest> = read(record, offset, |_, from| from.option())?;
                let recorded = digest.unwrap_or_else(|| digest_of::<M::Action>(&[]));
                let replayed = digest_of(&actions);
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
            _ => return Err(damaged("no record has this tag")),
        }
    }
    let unanswered = u64::from(last.is_some());
    Ok(Replayed { events: events + unanswered, torn: reader.torn || unanswered > 0 })
}

/// Decodes a whole record: its tag, and the rest according to it.
pub fn read<'a, T>(
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
    all.map_err(|source| RecordError::Record(offset, source))
}
