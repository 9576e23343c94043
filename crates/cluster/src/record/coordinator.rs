//! Recordings of a master.

use std::collections::BTreeSet;
use std::io::{self, Write};

use relais_proto::{Decoder, Encoder, FolderId, Lsn, ToMaster, Wire, WireError};

use super::frame::Frames;
use super::machine::{EVENT, Machine, add_actions};
use super::parts::{decode_all, decode_refusal, encode_all, encode_refusal};
use crate::coordinator::{Coordinator, CoordinatorAction, CoordinatorEvent, MasterState};
use crate::slave::LinkId;

/// Tag of a record about trimmed state.
const FORGOTTEN: u8 = 2;

/// State that was trimmed directly, with [`Coordinator::state_mut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// [`MasterState::forget_removed`] before this time.
    RemovalRecords(u64),
    /// [`MasterState::forget_ids`] up to this change.
    Ids(Lsn),
    /// [`MasterState::shorten`] up to this change.
    Changes(Lsn),
}

impl Trimmed {
    /// Trims the state.
    pub fn apply(self, state: &mut MasterState) {
        match self {
            Self::RemovalRecords(before_ms) => state.forget_removed(before_ms),
            Self::Ids(upto) => state.forget_ids(upto),
            Self::Changes(upto) => state.shorten(upto),
        }
    }
}

/// Recorder of a [`Coordinator`]. It must not be used after an error.
#[derive(Debug, Clone)]
pub struct CoordinatorRecorder(Frames);

impl CoordinatorRecorder {
    /// Begins a recording with the arguments of [`Coordinator::new`].
    ///
    /// # Errors
    /// Errors of the writer.
    pub fn begin(
        state: &MasterState,
        folders: &BTreeSet<FolderId>,
        to: &mut dyn Write,
    ) -> io::Result<Self> {
        let mut frames = Frames::begin(to)?;
        frames.add(to, |to| {
            to.u8(Coordinator::KIND);
            encode_all(folders.iter(), to, FolderId::encode);
            to.bytes(&state.to_bytes());
        })?;
        Ok(Self(frames))
    }

    /// Records the next event for [`Coordinator::on`].
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn event(
        &mut self,
        event: &CoordinatorEvent,
        now_ms: u64,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        self.0.add(to, |to| encode_event(event, to.u8(EVENT).u64(now_ms)))
    }

    /// Records the actions after the last event.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn actions(&mut self, actions: &[CoordinatorAction], to: &mut dyn Write) -> io::Result<()> {
        add_actions(&mut self.0, actions, to)
    }

    /// Records trimmed state.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn forgotten(&mut self, forgotten: Trimmed, to: &mut dyn Write) -> io::Result<()> {
        self.0.add(to, |to| {
            to.u8(FORGOTTEN);
            match forgotten {
                Trimmed::RemovalRecords(before_ms) => {
                    to.u8(0).u64(before_ms);
                }
                Trimmed::Ids(upto) => upto.encode(to.u8(1)),
                Trimmed::Changes(upto) => upto.encode(to.u8(2)),
            }
        })
    }
}

impl Machine for Coordinator {
    const KIND: u8 = 1;
    type Event = CoordinatorEvent;
    type Action = CoordinatorAction;

    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let folders: Vec<FolderId> = decode_all(from)?;
        Ok(Self::new(MasterState::from_bytes(from.rest())?, folders.into_iter().collect()))
    }

    fn event(
        &mut self,
        from: &mut Decoder<'_>,
    ) -> Result<(CoordinatorEvent, Vec<CoordinatorAction>), WireError> {
        let (now_ms, event) = (from.u64()?, decode_event(from)?);
        let actions = self.on(event.clone(), now_ms);
        Ok((event, actions))
    }

    fn other(&mut self, tag: u8, from: &mut Decoder<'_>) -> Result<(), WireError> {
        if tag != FORGOTTEN {
            return Err(WireError::BadValue { what: "kind of record", value: tag.into() });
        }
        let forgotten = match from.u8()? {
            0 => Trimmed::RemovalRecords(from.u64()?),
            1 => Trimmed::Ids(Lsn::decode(from)?),
            2 => Trimmed::Changes(Lsn::decode(from)?),
            other => {
                return Err(WireError::BadValue {
                    what: "what was forgotten",
                    value: other.into(),
                });
            }
        };
        forgotten.apply(self.state_mut());
        Ok(())
    }
}

fn encode_event(event: &CoordinatorEvent, to: &mut Encoder<'_>) {
    match event {
        CoordinatorEvent::Received { link, message } => message.encode(to.u8(0).u64(link.0)),
        CoordinatorEvent::LinkClosed { link } => {
            to.u8(1).u64(link.0);
        }
        CoordinatorEvent::Written => {
            to.u8(2);
        }
        CoordinatorEvent::WriteFailed { for_good, refusal } => {
            encode_refusal(refusal, to.u8(3).bool(*for_good))
        }
        CoordinatorEvent::GraceEnded => {
            to.u8(4);
        }
        CoordinatorEvent::Forget { folder } => folder.encode(to.u8(5)),
    }
}

fn decode_event(from: &mut Decoder<'_>) -> Result<CoordinatorEvent, WireError> {
    Ok(match from.u8()? {
        0 => CoordinatorEvent::Received {
            link: LinkId(from.u64()?),
            message: ToMaster::decode(from)?,
        },
        1 => CoordinatorEvent::LinkClosed { link: LinkId(from.u64()?) },
        2 => CoordinatorEvent::Written,
        3 => {
            CoordinatorEvent::WriteFailed { for_good: from.bool()?, refusal: decode_refusal(from)? }
        }
        4 => CoordinatorEvent::GraceEnded,
        5 => CoordinatorEvent::Forget { folder: FolderId::decode(from)? },
        other => {
            return Err(WireError::BadValue { what: "event of a master", value: other.into() });
        }
    })
}
