//! Recordings of a [`Coordinator`](crate::Coordinator) or [`Replica`](crate::replica::Replica): its
//! events, and a digest of its actions.
//!
//! The recorder writes the start of the machine, then each event before it is handled, and the
//! actions after it. A machine that gets the same events must produce the same actions. So a
//! recording of a real run shows each decision, and a later version can be compared with it. If a
//! run ends within an event, that event is the last one of the recording. `tests/replay` of this
//! crate replays recordings.
//!
//! Each record has its length, and a checksum over it and all before it. A changed, missing or
//! moved record is detected. A truncated end is detected because its last record is shorter than
//! its length. The length is stored twice, the second time inverted, so a damaged length does not
//! look like a truncated end. Counts have eight bytes; all other fields are encoded as in the
//! protocol.
//!
//! Pure like the machines: it writes to the caller's writer.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::{self, Write};

use relais_proto::{ChangeId, Digest, Encoder, FolderId, SlaveId, Wire};

use crate::coordinator::MasterState;
use crate::message_budget::ReplicaPosition;
use crate::replica::MissingContent;

/// First bytes of a recording. The last of them is the version of the layout.
pub const MAGIC: [u8; 8] = *b"\xffrelrec\x02";
/// Tag of the first record of a coordinator.
pub const COORDINATOR: u8 = 1;
/// Tag of the first record of a replica.
pub const REPLICA: u8 = 2;
/// Tag of an event record.
pub const EVENT: u8 = 0;
/// Tag of the record with the digest of the actions after an event.
pub const ACTIONS: u8 = 1;
/// Highest length of a record in bytes: the first one contains the whole tree.
pub const LONGEST: u32 = 1 << 30;
/// Bytes of the length, which is stored twice.
pub const HEAD: usize = 8;
/// Stored bytes of the checksum.
pub const SUM: usize = 8;

/// Recorder of a machine. It must not be used after an error.
#[derive(Debug, Clone)]
pub struct Recorder {
    sum: [u8; 32],
    bytes: Vec<u8>,
}

impl Recorder {
    /// Begins a recording with the arguments of [`Coordinator::new`](crate::Coordinator::new).
    ///
    /// # Errors
    /// Errors of the writer.
    pub fn coordinator(
        state: &MasterState,
        folders: &BTreeSet<FolderId>,
        to: &mut dyn Write,
    ) -> io::Result<Self> {
        Self::begin(to, |to| {
            to.u8(COORDINATOR).all(folders.iter(), FolderId::encode).bytes(&state.to_bytes());
        })
    }

    /// Begins a recording with the arguments of [`Replica::new`](crate::replica::Replica::new).
    ///
    /// # Errors
    /// As for [`Self::coordinator`].
    pub fn replica(
        slave: SlaveId,
        folder: FolderId,
        position: &ReplicaPosition,
        missing: &[MissingContent],
        staged: &BTreeSet<ChangeId>,
        to: &mut dyn Write,
    ) -> io::Result<Self> {
        Self::begin(to, |to| {
            (slave, folder, *position).encode(to.u8(REPLICA));
            to.all(missing.iter(), Wire::encode).all(staged.iter(), Wire::encode);
        })
    }

    /// Begins a recording with a first record that `start` encodes.
    ///
    /// # Errors
    /// As for [`Self::coordinator`].
    pub fn begin(to: &mut dyn Write, start: impl FnOnce(&mut Encoder<'_>)) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        let mut recorder = Self { sum: [0; 32], bytes: Vec::new() };
        recorder.add(to, start)?;
        Ok(recorder)
    }

    /// Records the next event of the machine, and the time that the machine gets with it.
    ///
    /// # Errors
    /// As for [`Self::coordinator`].
    pub fn event(
        &mut self,
        event: &impl Wire,
        now: impl TryInto<u64>,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let now = now.try_into().map_err(|_| io::Error::other("the time cannot be noted"))?;
        self.add(to, |to| event.encode(to.u8(EVENT).u64(now)))
    }

    /// Records the actions after the last event. Mostly there are none, which takes few bytes.
    ///
    /// # Errors
    /// As for [`Self::coordinator`].
    pub fn actions(&mut self, actions: &[impl Debug], to: &mut dyn Write) -> io::Result<()> {
        let digest = (!actions.is_empty()).then(|| digest_of(actions));
        self.add(to, |to| digest.encode(to.u8(ACTIONS)))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// As for [`Self::coordinator`].
    pub fn add(
        &mut self,
        to: &mut dyn Write,
        fill: impl FnOnce(&mut Encoder<'_>),
    ) -> io::Result<()> {
        self.bytes.clear();
        self.bytes.resize(HEAD, 0);
        fill(&mut Encoder::new(&mut self.bytes));
        let len = u32::try_from(self.bytes.len() - HEAD).ok().filter(|len| *len <= LONGEST);
        let len = len.ok_or_else(|| io::Error::other("a record would be too long"))?;
        self.bytes[..4].copy_from_slice(&len.to_be_bytes());
        self.bytes[4..HEAD].copy_from_slice(&(!len).to_be_bytes());
        self.sum = checksum(&self.sum, &self.bytes);
        self.bytes.extend_from_slice(&self.sum[..SUM]);
        to.write_all(&self.bytes)
    }
}

/// Returns the digest of actions, with all their fields.
pub fn digest_of<A: Debug>(actions: &[A]) -> Digest {
    Digest(*blake3::hash(format!("{actions:?}").as_bytes()).as_bytes())
}

/// Returns the checksum of a record after the record with the checksum `before`.
#[must_use]
pub fn checksum(before: &[u8; 32], record: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(before).update(record).finalize().as_bytes()
}
