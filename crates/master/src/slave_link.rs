//! One slave's link, from its registration to its end: a thread that reads, and one that writes.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use relais_cluster::{ConnectionAddrs, Event, KnownSlave, LinkId};
use relais_net::Connection;
use relais_proto::{
    ErrorCode, LinkMessage, Refusal, Reply, SlaveId, SlaveState, ToMaster, WireError, limits,
};
use thiserror::Error;

use crate::core::Core;
use crate::lines::Place;
use crate::links::Linked;
use crate::login::refusal;
use crate::order::Job;
use crate::outbox::Outbox;

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
    let outbox = Outbox::new(Arc::clone(connection.stream()));
    let writing = connection.writer();
    let outbox = Arc::new(outbox);
    let end = beside_writer(&outbox, writing, || listen(core, &mut connection, &outbox, place, id));
    match end {
        End::Refused(refusal) => {
            warn!("slave {id} at {peer} refused: {refusal}");
            connection.close_gracefully(LAST_WORDS);
        }
        end => info!("the link of slave {id} at {peer} ended: {end}"),
    }
}

/// Cuts the link where its thread panics: without that the other thread of the link would wait for ever.
struct CutOnPanic<'a>(&'a Outbox);

impl Drop for CutOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cut();
        }
    }
}

/// Reads in this thread and writes in another, until the link ends; how it did.
fn beside_writer(outbox: &Outbox, writing: Connection, read: impl FnOnce() -> End) -> End {
    std::thread::scope(|scope| {
        let _cut = CutOnPanic(outbox);
        let written =
            std::thread::Builder::new().name("link writer".to_owned()).spawn_scoped(scope, || {
                let _cut = CutOnPanic(outbox);
                outbox.write(writing);
            });
        let end = match written {
            Ok(_) => read(),
            Err(error) => error.into(),
        };
        // Whoever is refused shall hear why; nobody else is waited for.
        if let End::Refused(refusal) = &end {
            outbox.reply(&Reply::Error(refusal.clone()));
            outbox.finish(LAST_WORDS);
        } else {
            outbox.cut();
        }
        end
    })
}

/// Says that the link has ended, however it does.
struct Registered<'a> {
    core: &'a Core,
    link: LinkId,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.core.closed(self.link);
    }
}

/// Registers the slave and deals with what it says until the link ends; how it did.
fn listen(
    core: &Core,
    connection: &mut Connection,
    outbox: &Arc<Outbox>,
    place: &Place,
    id: SlaveId,
) -> End {
    let slave = match register(core, connection, outbox, place, id) {
        Ok(slave) => slave,
        Err(end) => return end,
    };
    let _registered = Registered { core, link: place.link };
    let mut remembered = false;
    loop {
        if let Err(end) = answer(core, connection, outbox, place.link, &slave, &mut remembered) {
            return end;
        }
    }
}

fn register(
    core: &Core,
    connection: &mut Connection,
    outbox: &Arc<Outbox>,
    place: &Place,
    id: SlaveId,
) -> Result<KnownSlave, End> {
    let wish = match connection.read_link()?.ok_or(End::Closed)? {
        LinkMessage::Register(wish) => wish,
        other => return Err(unexpected(&other)),
    };
    let (peer, local) = (connection.peer().ip(), connection.local().ip());
    let at = core.register(id, place.link, &wish, peer, local).map_err(End::Refused)?;
    outbox.send(&LinkMessage::Registered { lsn: core.shown.lsn(), time_ms: core.time_ms() });
    core.orders.tell(Job::Linked {
        link: place.link,
        slave: id,
        folder: wish.folder,
        outbox: Arc::clone(outbox),
    });
    core.links.add(Linked {
        link: place.link,
        slave: id,
        folder: wish.folder,
        place: at.clone(),
        seen_from: ConnectionAddrs::new(peer, local),
        outbox: Arc::clone(outbox),
    });
    Ok(KnownSlave { id, folder: wish.folder, place: at })
}

fn answer(
    core: &Core,
    connection: &mut Connection,
    outbox: &Outbox,
    link: LinkId,
    slave: &KnownSlave,
    remembered: &mut bool,
) -> Result<(), End> {
    let (id, folder) = (slave.id, slave.folder);
    match connection.read_link()?.ok_or(End::Closed)? {
        LinkMessage::Heartbeat(beat) => {
            let serves = beat.state == SlaveState::InService;
            outbox.send(&core.beat(id, link, beat).ok_or(End::Replaced)?);
            // Not before: a slave that never came so far, such as one with the ids of another, is no loss.
            if serves && !std::mem::replace(remembered, true) {
                core.orders.tell(Job::Known(slave.clone()));
            }
        }
        LinkMessage::ToMaster(message) => {
            if let ToMaster::Join { slave, folder: joins, .. } = &message
                && (*slave, *joins) != (id, folder)
            {
                let why = format!(
                    "it joins as {slave} with the folder {joins}, and proved to be {id} and registered {folder}"
                );
                return Err(End::Refused(Refusal::new(ErrorCode::BadRequest, why)));
            }
            core.orders.tell(Job::Event(Event::Received { link, message }));
        }
        LinkMessage::AskCertificate { point } => {
            core.certifier.for_slave(&point).iter().for_each(|answer| outbox.send(answer))
        }
        LinkMessage::TreePage(part) => core.queries.came(link, part),
        LinkMessage::PathPage(part) => core.lists.came(link, part),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

fn unexpected(message: &LinkMessage) -> End {
    End::Refused(refusal(&WireError::Unexpected(message.frame_type().number())))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_panic_in_a_links_thread_closes_the_link() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut slave = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = Connection::new(listener.accept().unwrap().0).unwrap();
        let outbox = Outbox::new(Arc::clone(connection.stream()));
        let writing = connection.writer();
        // Without the cut this would wait for the writer for ever.
        let failed = catch_unwind(AssertUnwindSafe(|| {
            beside_writer(&outbox, writing, || panic!("a test wants it"))
        }));
        assert!(failed.is_err());
        let mut rest = Vec::new();
        assert_eq!(slave.read_to_end(&mut rest).unwrap(), 0, "the slave hears of it");
    }
}
