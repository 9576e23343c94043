//! Recordings of a slave's part.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use relais_proto::{
    ChangeId, Decode, Decoder, Encoder, FolderId, Lsn, SlaveId, ToSlave, TreeEntry, WireError,
};

use super::frame::Frames;
use super::parts::{
    decode_all, decode_asked, decode_lack, encode_all, encode_asked, encode_lack, encode_refusal,
    encode_told,
};
use super::{EVENT, Machine, add_actions};
use crate::message::ReplicaPosition;
use crate::order::many;
use crate::replica::{Action, Answer, Blame, Event, Listing, MissingContent, Replica, Session};
use crate::timeline::Timeline;

/// Records what a [`Replica`] is given and does. After an error the recording is at its end.
#[derive(Debug, Clone)]
pub struct ReplicaRecorder(Frames);

impl ReplicaRecorder {
    /// Begins with what is given to [`Replica::new`].
    ///
    /// # Errors
    /// What was said to the bytes.
    pub fn begin(
        slave: SlaveId,
        folder: FolderId,
        standing: &ReplicaPosition,
        lacks: &[MissingContent],
        staged: &BTreeSet<ChangeId>,
        to: &mut dyn Write,
    ) -> io::Result<Self> {
        let mut frames = Frames::begin(to)?;
        frames.add(to, |to| {
            slave.encode(to.u8(Replica::KIND));
            folder.encode(to);
            standing.encode(to);
            encode_all(lacks.iter(), to, encode_lack);
            encode_all(staged.iter(), to, ChangeId::encode);
        })?;
        Ok(Self(frames))
    }

    /// Notes what is handed to [`Replica::on`] next.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn event(&mut self, event: &Event, now: Duration, to: &mut dyn Write) -> io::Result<()> {
        let now = u64::try_from(now.as_nanos())
            .map_err(|_| io::Error::other("the time cannot be noted"))?;
        self.0.add(to, |to| encode_event(event, to.u8(EVENT).u64(now)))
    }

    /// Notes what followed from it.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn actions(&mut self, actions: &[Action], to: &mut dyn Write) -> io::Result<()> {
        add_actions::<Replica>(&mut self.0, actions, to)
    }
}

impl Machine for Replica {
    const KIND: u8 = 2;
    type Event = Event;
    type Action = Action;

    fn start(from: &mut Decoder<'_>) -> Result<Self, WireError> {
        let (slave, folder, standing) =
            (SlaveId::decode(from)?, FolderId::decode(from)?, ReplicaPosition::decode(from)?);
        let (lacks, staged) = (many(from, decode_lack)?, decode_all(from)?);
        Ok(Self::new(slave, folder, standing, lacks, staged.into_iter().collect()))
    }

    fn event(&mut self, from: &mut Decoder<'_>) -> Result<(Event, Vec<Action>), WireError> {
        let (now, event) = (Duration::from_nanos(from.u64()?), decode_event(from)?);
        let actions = self.on(event.clone(), now);
        Ok((event, actions))
    }

    fn other(&mut self, tag: u8, _from: &mut Decoder<'_>) -> Result<(), WireError> {
        Err(WireError::BadValue { what: "kind of record", value: tag.into() })
    }

    fn encode_action(action: &Action, to: &mut Encoder<'_>) {
        match action {
            Action::Send(message) => message.encode(to.u8(0)),
            Action::Close(why) => encode_refusal(why, to.u8(1)),
            Action::Raise(epoch) => {
                to.u8(2).u32(*epoch);
            }
            Action::Begin(chain) => chain.encode(to.u8(3)),
            Action::Carry { changes, standing } => {
                standing.encode(to.u8(4));
                encode_all(changes.iter(), to, encode_told);
            }
            Action::Adopt { listing, standing } => {
                standing.encode(to.u8(5));
                encode_listing(listing, to);
            }
            Action::Fetch { put, lack, from } => {
                put.encode(to.u8(6));
                from.encode(to);
                encode_lack(lack, to);
            }
            Action::Place { id, put } => {
                id.encode(to.u8(7));
                put.encode(to);
            }
            Action::Discard(id) => id.encode(to.u8(8)),
            Action::SetAside { id, why } => {
                id.encode(to.u8(9));
                encode_refusal(why, to);
            }
            Action::Answer { session, id, answer } => {
                id.encode(to.u8(10).u64(session.0));
                encode_answer(answer, to);
            }
            Action::Serve(session) => {
                to.u8(11).u64(session.0);
            }
            Action::SendAway(session) => {
                to.u8(12).u64(session.0);
            }
            Action::Timelines(timelines) => {
                encode_all(timelines.iter(), to.u8(13), Timeline::encode);
            }
        }
    }
}

fn encode_listing(listing: &Listing, to: &mut Encoder<'_>) {
    let Listing { entries, ids, mark, timelines } = listing;
    encode_all(entries.iter(), to, |(path, entry), to| TreeEntry::encode(entry, to.path(path)));
    encode_all(ids.iter(), to, |(id, version), to| {
        id.encode(to);
        version.encode(to);
    });
    mark.encode(to);
    encode_all(timelines.iter(), to, Timeline::encode);
}

fn encode_answer(answer: &Answer, to: &mut Encoder<'_>) {
    match answer {
        Answer::Done { version, copies } => version.encode(to.u8(0).u16(*copies)),
        Answer::TooFewCopies { version, copies } => version.encode(to.u8(1).u16(*copies)),
        Answer::Refused(refusal) => encode_refusal(refusal, to.u8(2)),
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
        Event::Heard(message) => message.encode(to.u8(2)),
        Event::Marked(mark) => mark.encode(to.u8(3)),
        Event::ChangeRequest { session, asked, copies } => {
            to.u8(4).u16(*copies).option(*session, |session, to| {
                to.u64(session.0);
            });
            encode_asked(asked, to);
        }
        Event::Read { session, mark } => mark.encode(to.u8(5).u64(session.0)),
        Event::Gone(session) => {
            to.u8(6).u64(session.0);
        }
        Event::Carried { lacks, failed } => {
            encode_all(lacks.iter(), to.u8(7), Lsn::encode);
            encode_all(failed.iter(), to, Lsn::encode);
        }
        Event::NotCarried => {
            to.u8(8);
        }
        Event::Adopted { lacks } => encode_all(lacks.iter(), to.u8(9), encode_lack),
        Event::NotAdopted => {
            to.u8(10);
        }
        Event::Fetched { put, from, result } => {
            put.encode(to.u8(11).u8(match result {
                Ok(()) => 0,
                Err(Blame::Holder) => 1,
                Err(Blame::Here) => 2,
            }));
            from.encode(to);
        }
        Event::Placed { id, put, ok } => {
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
    }
}

fn decode_event(from: &mut Decoder<'_>) -> Result<Event, WireError> {
    Ok(match from.u8()? {
        0 => Event::Linked,
        1 => Event::Unlinked,
        2 => Event::Heard(ToSlave::decode(from)?),
        3 => Event::Marked(Lsn::decode(from)?),
        4 => {
            let copies = from.u16()?;
            let session = if from.bool()? { Some(Session(from.u64()?)) } else { None };
            Event::ChangeRequest { session, asked: decode_asked(from)?, copies }
        }
        5 => Event::Read { session: Session(from.u64()?), mark: Lsn::decode(from)? },
        6 => Event::Gone(Session(from.u64()?)),
        7 => Event::Carried { lacks: decode_all(from)?, failed: decode_all(from)? },
        8 => Event::NotCarried,
        9 => Event::Adopted { lacks: many(from, decode_lack)? },
        10 => Event::NotAdopted,
        11 => {
            let result = match from.u8()? {
                0 => Ok(()),
                1 => Err(Blame::Holder),
                2 => Err(Blame::Here),
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
            Event::Placed { id: ChangeId::decode(from)?, put: Lsn::decode(from)?, ok }
        }
        13 => Event::Missing(decode_lack(from)?),
        14 => Event::Recovering(from.u32()?),
        15 => Event::Tick,
        16 => {
            let retry = from.bool()?;
            Event::Refused { put: Lsn::decode(from)?, retry }
        }
        other => return Err(WireError::BadValue { what: "event of a slave", value: other.into() }),
    })
}
