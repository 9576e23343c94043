//! The replicator process: keeps the catalogue up to date, and the link to the master.
//!
//! It is the only process of a slave that writes the catalogue. If another slave of this host
//! writes the catalogue of the same folder already, this replicator is a standby: it waits until
//! that slave ends, and takes over.

mod catalog_writer;
pub mod fetch;
mod hasher;
mod link;
pub mod local_coordinator;
pub mod mailbox;
mod replica_connections;
mod setup;
mod sweeper;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{debug, info, warn};
use relais_net::tls::Dialer;
use relais_os::MailboxSender;
use relais_proto::{ClusterId, LinkMessage, Lsn, PathList, PeerSlave};
use relais_storage::{
    CatalogError, CatalogReader, CatalogStore, LinkEvent, Staging, WriterLock, discard_ids,
    ignore_sigio,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::catalog_writer::{CatalogWriter, CatalogWriterConfig, ReplicationConfig};
use self::fetch::FetchPool;
pub use self::link::MasterLink;
use self::local_coordinator::{LocalCoordinator, forget_changes};
use self::mailbox::{LinkMailbox, OutgoingMessages};
pub use self::setup::ReplicatorSetup;
use crate::changes::channel::ProposalSocket;
use crate::changes::handoff::HandoffClient;
use relais_engine::DISPLACED;

/// Time between two attempts of a standby to take over.
const TAKEOVER_RETRY: Duration = Duration::from_millis(20);

/// Time between two checks whether the threads are alive.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the replicator until it is told to end.
///
/// # Errors
/// Those that end it; [`io::ErrorKind::InvalidData`] if a retry is of no use.
pub fn run(setup: ReplicatorSetup) -> io::Result<()> {
    ignore_sigio()?;
    // Every file and folder is made with an explicit mode: that of its change, or one for
    // `.relais`. So the umask is empty. A chmod after the mkdir would drop the setgid bit of a
    // folder whose group this user is not in.
    rustix::process::umask(rustix::fs::Mode::empty());
    // The replicator has a channel to each session that makes changes, and opens each folder that a
    // batch concerns.
    let _ = relais_net::raise_fd_limit(0, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let (events, mailbox, outgoing) = LinkMailbox::new()?;
    let link = MasterLink::start(&setup, stop.clone(), events.clone(), outgoing.clone())?;
    let result = run_writer(&setup, &link, mailbox, events, outgoing);
    stop.store(true, Ordering::Relaxed);
    link.end();
    result
}

/// Waits until no other slave writes the catalogue, and writes it until the end.
fn run_writer(
    setup: &ReplicatorSetup,
    link: &MasterLink,
    mailbox: LinkMailbox,
    events: MailboxSender<LinkEvent>,
    outgoing: Arc<OutgoingMessages>,
) -> io::Result<()> {
    let mut is_logged = false;
    let mut standby = StandbyReplicator::default();
    let lock = loop {
        if let Some(lock) = WriterLock::try_acquire(&setup.own).map_err(io::Error::other)? {
            break lock;
        }
        if !std::mem::replace(&mut is_logged, true) {
            info!(
                "another slave writes the catalogue of {}; this one is on standby",
                setup.config.root.display()
            );
        }
        if link.has_ended() {
            return Err(io::Error::other("the link's thread has failed"));
        }
        standby.serve(setup, &mailbox);
        check_displaced(setup);
        setup.certificate.iter().for_each(|certificate| certificate.tick());
        replace_cloned_ids(setup)?;
        if wait_for_stop(&setup.control, Some(TAKEOVER_RETRY), Some(&setup.proposal_socket))? {
            return Ok(());
        }
    };
    let config = CatalogWriterConfig {
        watch: setup.config.watch,
        folder: setup.folder_id,
        slave: setup.slave_id,
        scoreboard: setup.scoreboard.clone(),
        hints: setup.hints.clone(),
        proposal_socket: setup.proposal_socket.clone(),
    };
    let store = CatalogStore::open(&setup.own).map_err(start_error)?;
    let (mut coordinator, mut fetch_pool) = (None, None);
    match &setup.config.cluster {
        Some(cluster) => {
            if store.history().map_err(start_error)? == Some(ClusterId(setup.folder_id.0)) {
                info!("this folder was served standalone; its files join the cluster as new files");
                forget_changes(&setup.own, &store).map_err(start_error)?;
            }
            let dialer = Dialer::new(setup.config.tls.encrypt)?;
            let staging = Staging::open(&setup.folder).map_err(io::Error::other)?;
            let (slave, key_file) = (setup.slave_id, cluster.key_file.clone());
            fetch_pool = Some(FetchPool::start(slave, key_file, dialer, staging)?);
        }
        None => {
            let (own, folder, slave) = (&setup.own, setup.folder_id, setup.slave_id);
            let started = LocalCoordinator::start(own, folder, slave, &store, events, outgoing);
            coordinator = Some(started?);
        }
    }
    let replication = ReplicationConfig { mailbox, backlog: standby.backlog(), fetch_pool };
    let writer = CatalogWriter::start(&setup.folder, &config, lock, store, replication)
        .map_err(start_error)?;
    while !wait_for_stop(&setup.control, Some(CHECK_INTERVAL), None)? {
        check_displaced(setup);
        setup.certificate.iter().for_each(|certificate| certificate.tick());
        replace_cloned_ids(setup)?;
        let has_ended = coordinator.as_ref().is_some_and(LocalCoordinator::has_ended);
        if writer.has_ended() || link.has_ended() || has_ended {
            return Err(io::Error::other("a thread of the replicator has failed"));
        }
    }
    writer.stop();
    Ok(())
}

/// Converts an error of the catalogue; a retry does not help if it is damaged.
fn start_error(error: CatalogError) -> io::Error {
    let kind = match error {
        CatalogError::Damaged { .. } => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

/// Records whether the folder's path leads to the served folder, and logs each change of that.
fn check_displaced(setup: &ReplicatorSetup) {
    let Ok(served) = setup.folder.meta() else { return };
    let displaced = std::fs::metadata(&setup.config.root)
        .map_or(true, |there| (there.dev(), there.ino()) != (served.dev, served.ino));
    if displaced == setup.scoreboard.is_displaced() {
        return;
    }
    setup.scoreboard.set_displaced(displaced);
    let root = setup.config.root.display();
    if displaced {
        warn!("{root}: {DISPLACED}");
    } else {
        info!("{root} is the served folder again");
    }
}

/// Gives up the ids of this slave if another slave has them, because this folder is a copy.
fn replace_cloned_ids(setup: &ReplicatorSetup) -> io::Result<()> {
    if !setup.scoreboard.is_cloned() {
        return Ok(());
    }
    warn!(
        "another slave has the ids of this one: {} is a copy of its folder and gets new ids",
        setup.config.root.display()
    );
    discard_ids(&setup.own, setup.slave_id, setup.folder_id).map_err(io::Error::other)?;
    setup.scoreboard.set_cloned(false);
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "this slave restarts with new ids"))
}

/// A slave's replicator while another slave writes the catalogue of its folder.
///
/// It hands its sessions' changes to that slave. What that slave has applied is applied here too.
#[derive(Default)]
struct StandbyReplicator {
    reader: Option<CatalogReader>,
    handoff: HandoffClient,
    link: Option<(u64, ClusterId, Lsn)>,
    peers: Option<Vec<PeerSlave>>,
    master_lsn: Option<Lsn>,
}

impl StandbyReplicator {
    fn serve(&mut self, setup: &ReplicatorSetup, mailbox: &LinkMailbox) {
        if let Err(e) = self.update_applied_lsn(setup) {
            debug!("cannot read the catalogue: {e}");
        }
        while let Ok(Some(channel)) = setup.proposal_socket.receive() {
            // Without a catalogue writer the channel closes, and its session tries again.
            if let Err(e) = self.handoff.hand_off(&setup.folder, &channel) {
                debug!("cannot hand a session's changes to the other slave: {e}");
            }
        }
        for event in mailbox.receive() {
            match event {
                LinkEvent::Linked { link, cluster, latest } => {
                    self.link = Some((link, cluster, latest));
                }
                LinkEvent::Unlinked => self.link = None,
                LinkEvent::Peers(peers) => self.peers = Some(peers),
                LinkEvent::MasterLsn(lsn) => self.master_lsn = Some(lsn),
                LinkEvent::PathQuery { query, list } => self.send_paths(query, list, mailbox),
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
    fn send_paths(&mut self, query: u64, list: PathList, mailbox: &LinkMailbox) {
        let (Some((link, ..)), Some(reader)) = (self.link, &mut self.reader) else { return };
        match reader.ask(|store| store.path_listing(list)) {
            Ok(listing) => {
                let parts = listing.into_parts(query).into_iter();
                mailbox.send(&mut parts.map(|part| (link, LinkMessage::PathPage(part))).collect());
            }
            Err(e) => warn!("cannot read the catalogue: {e}"),
        }
    }

    fn update_applied_lsn(&mut self, setup: &ReplicatorSetup) -> Result<(), CatalogError> {
        let reader = self.reader.get_or_insert_with(|| CatalogReader::new(&setup.own));
        let applied = reader.ask(CatalogStore::applied)?.unwrap_or_default();
        setup.scoreboard.progress().set(applied);
        Ok(())
    }

    /// Returns the events that this slave's catalogue writer has to know when it takes over.
    fn backlog(self) -> Vec<LinkEvent> {
        let link =
            self.link.map(|(link, cluster, latest)| LinkEvent::Linked { link, cluster, latest });
        link.into_iter()
            .chain(self.peers.map(LinkEvent::Peers))
            .chain(self.master_lsn.map(LinkEvent::MasterLsn))
            .collect()
    }
}

/// Waits until the supervisor asks for the end or is gone, or until a session hands in changes.
///
/// Waits at most `timeout`. Returns whether the replicator has to end.
fn wait_for_stop(
    control: &OwnedFd,
    timeout: Option<Duration>,
    proposal_socket: Option<&ProposalSocket>,
) -> io::Result<bool> {
    let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
    let mut fds = vec![PollFd::new(control, PollFlags::IN)];
    fds.extend(
        proposal_socket.map(|proposal_socket| {
            PollFd::from_borrowed_fd(proposal_socket.as_fd(), PollFlags::IN)
        }),
    );
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
