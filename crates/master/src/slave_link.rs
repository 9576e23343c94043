//! One slave's link, from its registration to its end, in a thread of its own.

use std::time::Duration;

use log::{info, warn};
use relais_net::Connection;
use relais_proto::{LinkMessage, Refusal, Reply, SlaveId, WireError, limits};
use thiserror::Error;

use crate::core::{Core, MARK};
use crate::greeter::refusal;
use crate::lines::Place;

/// How long a slave that was refused may take to read why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Silence after which a link is given up: the missed heartbeats, and the time
/// that one may be late in a busy machine. The slave is out of service before.
fn silence() -> Duration {
    limits::BEAT_EVERY * (limits::BEATS_MISSED + 2)
}

/// How a link ended.
#[derive(Debug, Error)]
enum End {
    #[error("it closed its link")]
    Closed,
    #[error("another link of the same slave took its place")]
    Replaced,
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> Self {
        Self::Wire(error.into())
    }
}

/// Serves the slave `id` until its link ends.
pub(crate) fn serve(core: &Core, mut connection: Connection, place: &Place, id: SlaveId) {
    let peer = connection.peer();
    connection.set_silence(silence());
    let end = match register(core, &mut connection, place, id) {
        Ok(()) => {
            let end = listen(core, &mut connection, place);
            core.closed(place.link);
            end
        }
        Err(end) => end,
    };
    match end {
        End::Refused(refusal) => {
            warn!("slave {id} at {peer} refused: {refusal}");
            connection.queue_reply(&Reply::Error(refusal));
            connection.close_gently(LAST_WORDS);
        }
        end => info!("the link of slave {id} at {peer} ended: {end}"),
    }
}

fn register(core: &Core, connection: &mut Connection, place: &Place, id: SlaveId) -> Result<(), End> {
    let wish = match connection.read_link()?.ok_or(End::Closed)? {
        LinkMessage::Register(wish) => wish,
        other => return Err(End::Refused(refusal(&WireError::Unexpected(other.frame_type().number())))),
    };
    let (peer, local) = (connection.peer().ip(), connection.local().ip());
    core.register(id, place.link, &wish, peer, local).map_err(End::Refused)?;
    connection.queue_link(&LinkMessage::Registered { mark: MARK, time_ms: core.time_ms() });
    connection.flush().inspect_err(|_| core.closed(place.link))?;
    Ok(())
}

/// Answers heartbeats until the link ends; returns how it did.
fn listen(core: &Core, connection: &mut Connection, place: &Place) -> End {
    loop {
        if let Err(end) = answer(core, connection, place) {
            return end;
        }
    }
}

fn answer(core: &Core, connection: &mut Connection, place: &Place) -> Result<(), End> {
    match connection.read_link()?.ok_or(End::Closed)? {
        LinkMessage::Beat(beat) => connection.queue_link(&core.beat(place.link, beat).ok_or(End::Replaced)?),
        other => return Err(End::Refused(refusal(&WireError::Unexpected(other.frame_type().number())))),
    }
    Ok(connection.flush()?)
}
