//! What the recorders of both machines share.

use std::fmt::Debug;
use std::io::{self, Write};

use relais_proto::{Decoder, Digest, Wire, WireError};

use super::frame::Frames;

/// Tag of an event record.
pub(super) const EVENT: u8 = 0;
/// Tag of the record with the digest of the actions after an event.
pub(super) const ACTIONS: u8 = 1;

/// A state machine that can be recorded and replayed.
pub(super) trait Machine: Sized {
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
}

/// Returns the digest of actions, with all their fields.
pub(super) fn digest_of<A: Debug>(actions: &[A]) -> Digest {
    Digest(*blake3::hash(format!("{actions:?}").as_bytes()).as_bytes())
}

/// Writes the actions of the last event. Mostly there are none, which takes few bytes.
pub(super) fn add_actions(
    frames: &mut Frames,
    actions: &[impl Debug],
    to: &mut dyn Write,
) -> io::Result<()> {
    let digest = (!actions.is_empty()).then(|| digest_of(actions));
    frames.add(to, |to| {
        to.u8(ACTIONS).option(digest, |digest, to| digest.encode(to));
    })
}
