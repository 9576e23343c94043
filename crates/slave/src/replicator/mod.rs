//! The replicator process: keeps the catalogue up to date, and the link to the master.
//!
//! It is the only process of a slave that writes the catalogue. If another slave of this host
//! writes the catalogue of the same folder already, this replicator is a standby: it waits until
//! that slave ends, and takes over.

mod catalog_writer;
pub mod fetch;
mod fetch_context;
mod hasher;
mod holder_sessions;
mod holder_streams;
mod link;
pub mod local_coordinator;
mod log_out_relay;
mod login_relay;
pub mod mailbox;
mod replica_connections;
mod small_fetches;
mod small_jobs;
mod sweeper;
mod upload_relay;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info, warn};
use relais_engine::{DISPLACED, Protocol};
use relais_proto::{ClusterId, LinkMessage, PathList};
use relais_storage::{
    CatalogReader, CatalogStore, LinkEvent, ReplicaDriverConfig, WriterLock, discard_ids,
    ignore_sigio,
};

use self::catalog_writer::CatalogWriter;
use self::fetch::FetchPool;
use self::link::MasterLink;
use self::local_coordinator::{LocalCoordinator, StartError, forget_changes};
use self::mailbox::LinkMailbox;
use self::replica_connections::ReplicaConnections;
use crate::certificate::Certificate;
use crate::changes::channel::socket_identity;
use crate::context::SlaveContext;
use crate::poll::wait_readable;

/// Time between two attempts of a standby to take over.
const TAKEOVER_RETRY: Duration = Duration::from_millis(20);

/// Time between two checks whether the threads are alive.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the replicator until it is told to end, by a `control` socket that becomes readable.
///
/// The slave listens on `addresses`.
///
/// # Errors
/// Those that end it; [`io::ErrorKind::InvalidData`] if a retry is of no use.
pub fn run(
    context: &Arc<SlaveContext>,
    control: &OwnedFd,
    addresses: &[(Protocol, SocketAddr)],
) -> io::Result<()> {
    ignore_sigio()?;
    // Every file and folder is made with an explicit mode: that of its change, or one for
    // `.relais`. So the umask is empty. A chmod after the mkdir would drop the setgid bit of a
    // folder whose group this user is not in.
    rustix::process::umask(rustix::fs::Mode::empty());
    // The replicator has a channel to each session that makes changes, and opens each folder that a
    // batch concerns.
    let _ = relais_net::raise_fd_limit(0, 0);
    let (events, mut mailbox) = LinkMailbox::new()?;
    let outgoing = mailbox.outgoing.clone();
    let link = MasterLink::start(context, addresses, events.clone(), outgoing.clone())?;
    let SlaveContext { config, folder, own, scoreboard, hints, .. } = &**context;
    let (slave, folder_id) = (own.slave_id, own.folder_id);
    let mut is_logged = false;
    let mut reader = CatalogReader::new(&own.folder);
    let lock = loop {
        if let Some(lock) = WriterLock::try_acquire(&own.folder).map_err(io::Error::other)? {
            break lock;
        }
        if !std::mem::replace(&mut is_logged, true) {
            info!(
                "another slave writes the catalogue of {}; this one is on standby",
                config.root.display()
            );
        }
        if link.has_ended() {
            return Err(io::Error::other("the link's thread has failed"));
        }
        serve_standby(context, &mut mailbox, &mut reader);
        check(context)?;
        if wait_readable(control, TAKEOVER_RETRY)? {
            return Ok(());
        }
    };
    let store = CatalogStore::open(&own.folder).map_err(StartError::from)?;
    let (mut coordinator, mut fetch_pool) = (None, None);
    match &config.cluster {
        Some(cluster) => {
            if store.history().map_err(StartError::from)? == Some(ClusterId(folder_id.0)) {
                info!("this folder was served standalone; its files join the cluster as new files");
                forget_changes(&own.folder, &store).map_err(StartError::from)?;
            }
            fetch_pool = Some(FetchPool::start(context, cluster)?);
        }
        None => {
            let started =
                LocalCoordinator::start(&own.folder, folder_id, slave, &store, events, outgoing);
            coordinator = Some(started?);
        }
    }
    let root = folder.try_clone().map_err(io::Error::other)?;
    let driver_config = ReplicaDriverConfig {
        slave,
        folder: folder_id,
        progress: scoreboard.progress.clone(),
        uploads: scoreboard.uploads.clone(),
        is_sole: fetch_pool.is_none(),
        watch: config.watch,
        writer_token: lock.new_token().map_err(StartError::from)?,
    };
    let connections =
        ReplicaConnections::new(&own.folder, scoreboard.clone(), mailbox, fetch_pool)?;
    let writer = CatalogWriter::start(root, lock, store, driver_config, connections, hints.clone())
        .map_err(StartError::from)?;
    let socket = socket_identity(&own.folder)?;
    while !wait_readable(control, CHECK_INTERVAL)? {
        check(context)?;
        if socket_identity(&own.folder).ok() != Some(socket) {
            return Err(io::Error::other("the replicator's socket in .relais was removed"));
        }
        context
            .scoreboard
            .halted
            .set(coordinator.as_ref().is_some_and(LocalCoordinator::is_halted));
        let has_ended = coordinator.as_ref().is_some_and(LocalCoordinator::has_ended);
        if writer.has_ended() || link.has_ended() || has_ended {
            return Err(io::Error::other("a thread of the replicator has failed"));
        }
    }
    Ok(())
}

/// Does what a replicator does regularly, whether it writes or is on standby.
///
/// Fails if this slave has to restart with other ids.
fn check(context: &SlaveContext) -> io::Result<()> {
    check_displaced(context);
    context.certificate.iter().for_each(Certificate::tick);
    replace_cloned_ids(context)
}

/// Records whether the folder's path leads to the served folder, and logs each change of that.
fn check_displaced(context: &SlaveContext) {
    let Ok(served) = context.folder.meta() else { return };
    let displaced = std::fs::metadata(&context.config.root)
        .map_or(true, |there| (there.dev(), there.ino()) != (served.dev, served.ino));
    if displaced == context.scoreboard.displaced.get() {
        return;
    }
    context.scoreboard.displaced.set(displaced);
    let root = context.config.root.display();
    if displaced {
        warn!("{root}: {DISPLACED}");
    } else {
        info!("{root} is the served folder again");
    }
}

/// Gives up the ids of this slave if another slave has them, because this folder is a copy.
fn replace_cloned_ids(context: &SlaveContext) -> io::Result<()> {
    if !context.scoreboard.cloned.get() {
        return Ok(());
    }
    warn!(
        "another slave has the ids of this one: {} is a copy of its folder and gets new ids",
        context.config.root.display()
    );
    let own = &context.own;
    discard_ids(&own.folder, own.slave_id, own.folder_id).map_err(io::Error::other)?;
    context.scoreboard.cloned.set(false);
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "this slave restarts with new ids"))
}

/// Serves while another slave writes the catalogue of this folder.
///
/// What that slave has applied is applied here too. The mailbox keeps the events that this slave's
/// catalogue writer has to know when it takes over.
fn serve_standby(context: &SlaveContext, mailbox: &mut LinkMailbox, reader: &mut CatalogReader) {
    match reader.ask(CatalogStore::applied) {
        Ok(applied) => context.scoreboard.progress.set(applied.unwrap_or_default()),
        Err(e) => debug!("cannot read the catalogue: {e}"),
    }
    for event in mailbox.events.take() {
        match event {
            LinkEvent::PathQuery { query, list } => send_paths(query, list, mailbox, reader),
            LinkEvent::Linked { .. }
            | LinkEvent::Unlinked
            | LinkEvent::Peers(_)
            | LinkEvent::MasterLsn(_) => {
                mailbox.backlog.retain(|old| !replaces(&event, old));
                mailbox.backlog.push(event);
            }
            // The slave that writes the catalogue gets the same request.
            LinkEvent::Message(_)
            | LinkEvent::TreeQuery { .. }
            | LinkEvent::Recovering(_)
            | LinkEvent::Scrub(_)
            | LinkEvent::Retry => {}
        }
    }
}

/// Sends paths that the catalogue lists, whichever slave writes it.
fn send_paths(query: u64, list: PathList, mailbox: &LinkMailbox, reader: &mut CatalogReader) {
    let link = mailbox.backlog.iter().find_map(|event| match event {
        LinkEvent::Linked { link, .. } => Some(*link),
        _ => None,
    });
    let Some(link) = link else { return };
    match reader.ask(|store| store.path_listing(list)) {
        Ok(listing) => {
            let parts = listing.into_parts(query).into_iter();
            let messages = parts.map(|part| (link, LinkMessage::PathPage(part)));
            mailbox.outgoing.send(messages.collect());
        }
        Err(e) => warn!("cannot read the catalogue: {e}"),
    }
}

/// Whether an event tells all that an older one does.
fn replaces(new: &LinkEvent, old: &LinkEvent) -> bool {
    use LinkEvent::{Linked, MasterLsn, Peers, Unlinked};
    matches!(
        (new, old),
        (Linked { .. } | Unlinked, Linked { .. } | Unlinked)
            | (Peers(_), Peers(_))
            | (MasterLsn(_), MasterLsn(_))
    )
}
