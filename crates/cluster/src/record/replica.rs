//! Recordings of a slave.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use relais_proto::{ChangeId, Decoder, Encoder, FolderId, Lsn, SlaveId, ToSlave, Wire, WireError};

use super::frame::Frames;
use super::machine::{EVENT, Machine, add_actions};
use super::parts::{decode_all, decode_asked, decode_lack, encode_all, encode_asked, encode_lack};
use crate::coordinator::many;
use crate::message_budget::ReplicaPosition;
use crate::replica::{Action, Event, FetchFault, MissingContent, Replica, SessionId};

/// Recorder of a [`Replica`]. It must not be used after an error.
#[derive(Debug, Clone)]
pub struct ReplicaRecorder(Frames);

impl ReplicaRecorder {
    /// Begins a recording with the arguments of [`Replica::new`].
    ///
    /// # Errors
    /// Errors of the writer.
    pub fn begin(
        slave: SlaveId,
        folder: FolderId,
        position: &ReplicaPosition,
        lacks: &[MissingContent],
        staged: &BTreeSet<ChangeId>,
        to: &mut dyn Write,
    ) -> io::Result<Self> {
        let mut frames = Frames::begin(to)?;
        frames.add(to, |to| {
            slave.encode(to.u8(Replica::KIND));
            folder.encode(to);
            position.encode(to);
            encode_all(lacks.iter(), to, encode_lack);
            encode_all(staged.iter(), to, ChangeId::encode);
        })?;
        Ok(Self(frames))
    }

    /// Records the next event for [`Replica::on`].
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn event(&mut self, event: &Event, now: Duration, to: &mut dyn Write) -> io::Result<()> {
        let now = u64::try_from(now.as_nanos())
            .map_err(|_| io::Error::other("the time cannot be noted"))?;
        self.0.add(to, |to| encode_event(event, to.u8(EVENT).u64(now)))
    }

    /// Records the actions after the last event.
    ///
    /// # Errors
    /// As for [`Self::begin`].
    pub fn actions(&mut self, actions: &[Action], to: &mut dyn Write) -> io::Result<()> {
        add_actions(&mut self.0, actions, to)
    }
}

impl Machine for Replica {
    const KIND: u8 = 2;
    type Event = Event;
    type Action = Action;

    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (slave, folder, position) =
            (SlaveId::decode(from)?, FolderId::decode(from)?, ReplicaPosition::decode(from)?);
        let (lacks, staged) = (many(from, decode_lack)?, decode_all(from)?);
        Ok(Self::new(slave, folder, position, lacks, staged.into_iter().collect()))
    }

    fn event(&mut self, from: &mut Decoder<'_>) -> Result<(Event, Vec<Action>), WireError> {
        let (now, event) = (Duration::from_nanos(from.u64()?), decode_event(from)?);
        let actions = self.on(event.clone(), now);
        Ok((event, actions))
    }

    fn other(&mut self, tag: u8, _from: &mut Decoder<'_>) -> Result<(), WireError> {
        Err(WireError::BadValue { what: "kind of record", value: tag.into() })
    }
}

fn encode_event(event: &Event, to: &mut Encoder<'_>) {
    match event {
        Event::Linked => {
            to.u8(0);
        }
        Event::Unlinked => {
            to.u8(1);
        }
        Event::Received(message) => message.encode(to.u8(2)),
        Event::MasterLsn(lsn) => lsn.encode(to.u8(3)),
        Event::Proposed { session, request, copies } => {
            to.u8(4).u16(*copies).option(*session, |session, to| {
                to.u64(session.0);
            });
            encode_asked(request, to);
        }
        Event::SessionClosed(session) => {
            to.u8(6).u64(session.0);
        }
        Event::Applied { lacks, failed } => {
            encode_all(lacks.iter(), to.u8(7), Lsn::encode);
            encode_all(failed.iter(), to, Lsn::encode);
        }
        Event::ApplyFailed => {
            to.u8(8);
        }
        Event::Adopted { lacks } => encode_all(lacks.iter(), to.u8(9), encode_lack),
        Event::AdoptFailed => {
            to.u8(10);
        }
        Event::Fetched { put, from, result } => {
            put.encode(to.u8(11).u8(match result {
                Ok(()) => 0,
                Err(FetchFault::Holder) => 1,
                Err(FetchFault::Local) => 2,
            }));
            from.encode(to);
        }
        Event::Published { id, put, ok } => {
            id.encode(to.u8(12).bool(*ok));
            put.encode(to);
        }
        Event::Missing(lack) => encode_lack(lack, to.u8(13)),
        Event::Recovering(epoch) => {
            to.u8(14).u32(*epoch);
        }
        Event::Tick => {
            to.u8(15);
        }
        Event::Refused { put, retry } => put.encode(to.u8(16).bool(*retry)),
        Event::Hidden { put } => put.encode(to.u8(17)),
    }
}

fn decode_event(from: &mut Decoder<'_>) -> Result<Event, WireError> {
    Ok(match from.u8()? {
        0 => Event::Linked,
        1 => Event::Unlinked,
        2 => Event::Received(ToSlave::decode(from)?),
        3 => Event::MasterLsn(Lsn::decode(from)?),
        4 => {
            let copies = from.u16()?;
            let session = if from.bool()? { Some(SessionId(from.u64()?)) } else { None };
            Event::Proposed { session, request: decode_asked(from)?, copies }
        }
        6 => Event::SessionClosed(SessionId(from.u64()?)),
        7 => Event::Applied { lacks: decode_all(from)?, failed: decode_all(from)? },
        8 => Event::ApplyFailed,
        9 => Event::Adopted { lacks: many(from, decode_lack)? },
        10 => Event::AdoptFailed,
        11 => {
            let result = match from.u8()? {
                0 => Ok(()),
                1 => Err(FetchFault::Holder),
                2 => Err(FetchFault::Local),
                other => {
                    return Err(WireError::BadValue {
                        what: "end of a fetch",
                        value: other.into(),
                    });
                }
            };
            Event::Fetched { put: Lsn::decode(from)?, from: FolderId::decode(from)?, result }
        }
        12 => {
            let ok = from.bool()?;
            Event::Published { id: ChangeId::decode(from)?, put: Lsn::decode(from)?, ok }
        }
        13 => Event::Missing(decode_lack(from)?),
        14 => Event::Recovering(from.u32()?),
        15 => Event::Tick,
        16 => {
            let retry = from.bool()?;
            Event::Refused { put: Lsn::decode(from)?, retry }
        }
        17 => Event::Hidden { put: Lsn::decode(from)? },
        other => return Err(WireError::BadValue { what: "event of a slave", value: other.into() }),
    })
}
