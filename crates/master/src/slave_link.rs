//! The link of a slave, from its registration to its end: a reader and a writer thread.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use relais_cluster::{ConnectionAddrs, CoordinatorEvent, KnownSlave, LinkId};
use relais_coordinator::OrderCommand;
use relais_net::Connection;
use relais_proto::{
    ErrorCode, LinkMessage, Refusal, Reply, SlaveId, SlaveState, ToMaster, WireError, limits,
};
use thiserror::Error;

use crate::core::Core;
use crate::linked_slaves::LinkedSlave;
use crate::login::refusal;
use crate::open_links::LinkSlot;
use crate::outbox::Outbox;

/// Time that a rejected slave has to read the refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Silence after which a link is closed.
///
/// It is the time of the missed heartbeats, plus the delay of one on a busy machine. The slave is
/// out of service before.
fn silence() -> Duration {
    limits::BEAT_EVERY * (limits::BEATS_MISSED + 2)
}

/// The reason of the end of a link.
#[derive(Debug, Error)]
enum LinkEnd {
    #[error("it closed its link")]
    Closed,
    #[error("another link of the same slave took its place")]
    Replaced,
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<std::io::Error> for LinkEnd {
    fn from(error: std::io::Error) -> Self {
        Self::Wire(error.into())
    }
}

/// Serves the slave `id` until its link ends.
pub(crate) fn serve(core: &Core, mut connection: Connection, slot: &LinkSlot, id: SlaveId) {
    let peer = connection.peer();
    connection.set_silence(silence());
    let outbox = Outbox::new(Arc::clone(connection.stream()));
    let writing = connection.writer();
    let outbox = Arc::new(outbox);
    let end = beside_writer(&outbox, writing, || listen(core, &mut connection, &outbox, slot, id));
    match end {
        LinkEnd::Refused(refusal) => {
            warn!("slave {id} at {peer} refused: {refusal}");
            connection.close_gracefully(REFUSAL_TIME);
        }
        end => info!("the link of slave {id} at {peer} ended: {end}"),
    }
}

/// Shuts down the link if its thread panics; the other thread would otherwise wait without end.
struct CutOnPanic<'a>(&'a Outbox);

impl Drop for CutOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cut();
        }
    }
}

/// Reads in this thread and writes in another, until the link ends; returns the reason.
fn beside_writer(outbox: &Outbox, writing: Connection, read: impl FnOnce() -> LinkEnd) -> LinkEnd {
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
        // Only a refusal is still delivered.
        if let LinkEnd::Refused(refusal) = &end {
            outbox.reply(&Reply::Error(refusal.clone()));
            outbox.finish(REFUSAL_TIME);
        } else {
            outbox.cut();
        }
        end
    })
}

/// Reports the end of the link when dropped.
struct CloseOnDrop<'a> {
    core: &'a Core,
    link: LinkId,
}

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.core.closed(self.link);
    }
}

/// Registers the slave and handles its messages until the link ends; returns the reason.
fn listen(
    core: &Core,
    connection: &mut Connection,
    outbox: &Arc<Outbox>,
    slot: &LinkSlot,
    id: SlaveId,
) -> LinkEnd {
    let slave = match register(core, connection, outbox, slot, id) {
        Ok(slave) => slave,
        Err(end) => return end,
    };
    let _registered = CloseOnDrop { core, link: slot.link };
    let mut remembered = false;
    loop {
        if let Err(end) = answer(core, connection, outbox, slot.link, &slave, &mut remembered) {
            return end;
        }
    }
}

fn register(
    core: &Core,
    connection: &mut Connection,
    outbox: &Arc<Outbox>,
    slot: &LinkSlot,
    id: SlaveId,
) -> Result<KnownSlave, LinkEnd> {
    let wish = match connection.read_link()?.ok_or(LinkEnd::Closed)? {
        LinkMessage::Register(wish) => wish,
        other => return Err(unexpected(&other)),
    };
    let (peer, local) = (connection.peer().ip(), connection.local().ip());
    let at = core.register(id, slot.link, &wish, peer, local).map_err(LinkEnd::Refused)?;
    outbox.send(&LinkMessage::Registered { lsn: core.order_status.lsn(), time_ms: core.time_ms() });
    core.order.send(OrderCommand::Linked {
        link: slot.link,
        slave: id,
        folder: wish.folder,
        sender: Arc::<Outbox>::clone(outbox),
    });
    core.slaves.add(LinkedSlave {
        link: slot.link,
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
) -> Result<(), LinkEnd> {
    let (id, folder) = (slave.id, slave.folder);
    match connection.read_link()?.ok_or(LinkEnd::Closed)? {
        LinkMessage::Heartbeat(beat) => {
            let serves = beat.state == SlaveState::InService;
            outbox.send(&core.beat(id, link, beat).ok_or(LinkEnd::Replaced)?);
            // Only a slave that was in service is remembered, not, for example, a copied disk.
            if serves && !std::mem::replace(remembered, true) {
                core.order.send(OrderCommand::Known(slave.clone()));
            }
        }
        LinkMessage::ToMaster(message) => {
            if let ToMaster::Join { slave, folder: joins, .. } = &message
                && (*slave, *joins) != (id, folder)
            {
                let why = format!(
                    "it joins as {slave} with the folder {joins}, but it proved the id {id} \
                     and registered the folder {folder}"
                );
                return Err(LinkEnd::Refused(Refusal::new(ErrorCode::BadRequest, why)));
            }
            core.order
                .send(OrderCommand::Events(vec![CoordinatorEvent::Received { link, message }]));
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

fn unexpected(message: &LinkMessage) -> LinkEnd {
    LinkEnd::Refused(refusal(&WireError::Unexpected(message.frame_type().number())))
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
        // Without the shutdown this would wait for the writer without end.
        let failed = catch_unwind(AssertUnwindSafe(|| {
            beside_writer(&outbox, writing, || panic!("a test wants it"))
        }));
        assert!(failed.is_err());
        let mut rest = Vec::new();
        assert_eq!(slave.read_to_end(&mut rest).unwrap(), 0, "the slave gets the end of the link");
    }
}
