//! The link of a slave, from its registration to its end: a reader and a writer thread.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use relais_cluster::{ConnectionAddrs, CoordinatorEvent, KnownSlave, LinkId};
use relais_coordinator::OrderCommand;
use relais_net::Connection;
use relais_proto::{
    ErrorCode, LinkMessage, Refusal, Reply, SlaveId, SlaveState, ToMaster, WireError, limits,
};
use thiserror::Error;

use crate::core::Core;
use crate::forwarded_logins::LoginQuery;
use crate::linked_slaves::LinkedSlave;
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

/// A slave's link in the thread that reads it.
struct SlaveLink<'a> {
    core: &'a Core,
    connection: Connection,
    outbox: Arc<Outbox>,
    link: LinkId,
    id: SlaveId,
    /// Its program and version.
    agent: String,
}

/// Serves the slave `id` until its link ends.
pub(crate) fn serve(
    core: &Core,
    mut connection: Connection,
    slot: &LinkSlot,
    (id, agent): (SlaveId, String),
) {
    let peer = connection.peer();
    connection.set_silence(silence());
    let outbox = Arc::new(Outbox::new(Arc::clone(connection.stream())));
    let writing = connection.writer();
    let mut link =
        SlaveLink { core, connection, outbox: outbox.clone(), link: slot.link, id, agent };
    let end = beside_writer(&outbox, writing, || {
        let Err(end) = link.listen();
        end
    });
    match end {
        LinkEnd::Refused(refusal) => {
            let text = format!("slave {id} at {peer} refused: {refusal}");
            core.events.record(Level::Warn, text);
            link.connection.close_gracefully(REFUSAL_TIME);
        }
        end => {
            let text = format!("the link of slave {id} at {peer} ended: {end}");
            core.events.record(Level::Info, text);
        }
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

impl SlaveLink<'_> {
    /// Registers the slave and handles its messages until the link ends.
    fn listen(&mut self) -> Result<Infallible, LinkEnd> {
        let slave = self.register()?;
        let _registered = CloseOnDrop { core: self.core, link: self.link };
        let mut remembered = false;
        loop {
            self.answer(&slave, &mut remembered)?;
        }
    }

    fn next(&mut self) -> Result<LinkMessage, LinkEnd> {
        self.connection.read_link()?.ok_or(LinkEnd::Closed)
    }

    fn register(&mut self) -> Result<KnownSlave, LinkEnd> {
        let wish = match self.next()? {
            LinkMessage::Register(wish) => wish,
            other => return Err(unexpected(&other)),
        };
        let Self { core, connection, outbox, link, id, agent } = self;
        let (link, id, folder) = (*link, *id, wish.folder);
        let (peer, local) = (connection.peer().ip(), connection.local().ip());
        let place = core.register(id, link, &wish, peer, local).map_err(LinkEnd::Refused)?;
        outbox.send(&LinkMessage::Registered {
            lsn: core.order_status.lsn(),
            time_ms: core.time_ms(),
        });
        let sender = Arc::<Outbox>::clone(outbox);
        core.order.send(OrderCommand::Linked { link, slave: id, folder, sender });
        core.slaves.add(LinkedSlave {
            link,
            slave: id,
            folder,
            place: place.clone(),
            seen_from: ConnectionAddrs::new(peer, local),
            outbox: Arc::clone(outbox),
            agent: agent.clone(),
            heartbeat: None,
        });
        core.send_log_outs(outbox);
        Ok(KnownSlave { id, folder, place })
    }

    fn answer(&mut self, slave: &KnownSlave, remembered: &mut bool) -> Result<(), LinkEnd> {
        let message = self.next()?;
        let Self { core, outbox, link, .. } = self;
        let (link, id, folder) = (*link, slave.id, slave.folder);
        match message {
            LinkMessage::Heartbeat(heartbeat) => {
                let serves = heartbeat.state == SlaveState::InService;
                outbox.send(&core.record_heartbeat(id, link, heartbeat).ok_or(LinkEnd::Replaced)?);
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
            LinkMessage::AskCertificate { point } => core
                .config
                .certifier
                .for_slave(&point)
                .iter()
                .for_each(|answer| outbox.send(answer)),
            LinkMessage::TreePage(part) => core.queries.came(link, part.query, part),
            LinkMessage::PathPage(part) => core.lists.came(link, part.query, part),
            LinkMessage::PathUploads(keys) => core.slaves.report_uploads(link, &keys),
            LinkMessage::LogOuts(rows) => core.add_log_outs(&rows, Some(link)),
            LinkMessage::ForwardedLogin(login) => {
                let query = LoginQuery { link, query: login.query, outbox: Arc::clone(outbox) };
                core.forward_login(id, query, &login);
            }
            LinkMessage::TicketRenewal(renewal) => {
                let query = LoginQuery { link, query: renewal.query, outbox: Arc::clone(outbox) };
                core.renew_ticket(&query, &renewal);
            }
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }
}

fn unexpected(message: &LinkMessage) -> LinkEnd {
    LinkEnd::Refused(WireError::Unexpected(message.frame_type().number()).into())
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
