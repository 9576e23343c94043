//! The replicator process: keeps the catalogue true, and talks to the master for the slave.
//!
//! It is the only process of a slave that writes the catalogue. Where another slave of this host keeps
//! the same folder already, it waits for that one to go and takes over.

pub mod fetch;
mod link;
pub mod mailbox;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{debug, info, warn};
use relais_net::tls::Dialer;
use relais_proto::{Lsn, PathList, Peer, SlaveId};
use relais_tree::Folder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use self::link::Link;
use self::mailbox::{LinkEvent, LinkMailbox};
use crate::catalogue::{
    CatalogError, CatalogReader, CatalogWriter, CatalogWriterConfig, MetadataFolder,
    ReplicationConfig, WriterLock, discard_ids,
};
use crate::certificate::Certificate;
use crate::changes::channel::ProposalSocket;
use crate::changes::handoff::HandoffClient;
use crate::config::Config;
use crate::serving::DISPLACED;
use crate::sys::fork::ignore_sigio;

/// Time between two tries to become the keeper of a folder that another slave keeps.
const TAKEOVER_RETRY: Duration = Duration::from_millis(20);

/// Time between two looks whether the threads still live.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What the replicator is given at its setup.
pub struct ReplicatorSetup {
    /// The slave's settings.
    pub config: Config,
    /// The served folder.
    pub folder: Folder,
    /// The slave's own folder in it.
    pub own: MetadataFolder,
    /// Which folder it is.
    pub folder_id: relais_proto::FolderId,
    /// Which slave this is.
    pub slave_id: SlaveId,
    /// What the processes share.
    pub scoreboard: Arc<crate::scoreboard::Scoreboard>,
    /// What workers found different from the catalogue.
    pub hints: Arc<crate::hints::Hints>,
    /// Where sessions bring their changes.
    pub proposal_socket: Arc<crate::changes::channel::ProposalSocket>,
    /// Where the slave listens.
    pub listen: std::net::SocketAddr,
    /// Can be read when the replicator shall end.
    pub control: OwnedFd,
    /// Where connections are encrypted.
    pub certificate: Option<Arc<Certificate>>,
}

/// Runs the replicator until it is told to end.
///
/// # Errors
/// Those that keep it from its work; [`io::ErrorKind::InvalidData`] where trying again is of no use.
pub fn run(setup: ReplicatorSetup) -> io::Result<()> {
    ignore_sigio()?;
    // A change says which mode its file or folder has. Where a chmod were needed behind the mkdir the system would take the setgid
    // from a folder whose group this user is not in. What this process makes in `.relais` says its mode, too.
    rustix::process::umask(rustix::fs::Mode::empty());
    // It has a channel of each session that changes something, and opens every folder that a batch concerns.
    let _ = relais_net::room_beside(0, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let (events, mailbox, outgoing) = LinkMailbox::new()?;
    let link = Link::start(&setup, stop.clone(), events, outgoing)?;
    let result = keep(&setup, &link, mailbox);
    stop.store(true, Ordering::Relaxed);
    link.end();
    result
}

/// Keeps the folder from the moment that nobody else does until the end.
fn keep(setup: &ReplicatorSetup, link: &Link, mailbox: LinkMailbox) -> io::Result<()> {
    let mut is_logged = false;
    let mut standby = StandbyReplicator::default();
    let lock = loop {
        if let Some(lock) = WriterLock::try_acquire(&setup.own).map_err(io::Error::other)? {
            break lock;
        }
        if !std::mem::replace(&mut is_logged, true) {
            info!(
                "another slave keeps {}; this one reads its catalogue",
                setup.config.root.display()
            );
        }
        if link.has_ended() {
            return Err(io::Error::other("the thread of the link has failed"));
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
    let dialer = Dialer::new(setup.config.tls.encrypt)?;
    let following = setup.config.cluster.as_ref().map(|cluster| ReplicationConfig {
        mailbox,
        backlog: standby.backlog(),
        key_file: cluster.key_file.clone(),
        dialer,
    });
    let keeper = CatalogWriter::start(&setup.folder, &setup.own, &config, lock, following)
        .map_err(|e| {
            let kind = if matches!(
                e,
                CatalogError::Damaged { .. } | CatalogError::Journal(_) | CatalogError::Snapshot(_)
            ) {
                io::ErrorKind::InvalidData
            } else {
                io::ErrorKind::Other
            };
            io::Error::new(kind, e)
        })?;
    while !wait_for_stop(&setup.control, Some(CHECK_INTERVAL), None)? {
        check_displaced(setup);
        setup.certificate.iter().for_each(|certificate| certificate.tick());
        replace_cloned_ids(setup)?;
        if keeper.has_ended() || link.has_ended() {
            return Err(io::Error::other("a thread of the replicator has failed"));
        }
    }
    keeper.stop();
    Ok(())
}

/// Notes, and logs once, whether the folder's path leads to another folder than the one that is served, or to none.
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

/// Where a slave elsewhere has our ids, this folder is a copy of its: it takes ids of its own.
fn replace_cloned_ids(setup: &ReplicatorSetup) -> io::Result<()> {
    if !setup.scoreboard.is_cloned() {
        return Ok(());
    }
    warn!(
        "another slave has the ids of this one: {} is a copy of its folder, and gets ids of its own",
        setup.config.root.display()
    );
    discard_ids(&setup.own, setup.slave_id, setup.folder_id).map_err(io::Error::other)?;
    setup.scoreboard.set_cloned(false);
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "this slave begins anew with other ids"))
}

/// What a slave does whose folder another one keeps: its sessions' changes go to that one, and what that one has applied is here too.
#[derive(Default)]
struct StandbyReplicator {
    reader: Option<CatalogReader>,
    handoff: HandoffClient,
    linked: Option<u64>,
    peers: Option<Vec<Peer>>,
    mark: Option<Lsn>,
}

impl StandbyReplicator {
    fn serve(&mut self, setup: &ReplicatorSetup, mailbox: &LinkMailbox) {
        if let Err(e) = self.follow(setup) {
            debug!("the catalogue cannot be read: {e}");
        }
        while let Ok(Some(channel)) = setup.proposal_socket.receive() {
            // Where there is no keeper the channel closes, and its session tries again.
            if let Err(e) = self.handoff.hand_off(&setup.folder, &channel) {
                debug!("a session's changes cannot be handed on: {e}");
            }
        }
        for event in mailbox.take() {
            match event {
                LinkEvent::Linked(link) => self.linked = Some(link),
                LinkEvent::Unlinked => self.linked = None,
                LinkEvent::Peers(peers) => self.peers = Some(peers),
                LinkEvent::MasterLsn(mark) => self.mark = Some(mark),
                LinkEvent::PathQuery { query, list } => self.send_paths(query, list, mailbox),
                // The slave that keeps the folder is asked the same.
                LinkEvent::Message(_)
                | LinkEvent::TreeQuery { .. }
                | LinkEvent::Recovering(_)
                | LinkEvent::Scrub(_)
                | LinkEvent::Retry => {}
            }
        }
    }

    /// The catalogue has them, whoever keeps it.
    fn send_paths(&mut self, query: u64, list: PathList, mailbox: &LinkMailbox) {
        let (Some(link), Some(reader)) = (self.linked, &mut self.reader) else { return };
        match reader.listed(list) {
            Ok(listed) => {
                listed
                    .into_parts(query)
                    .into_iter()
                    .for_each(|part| mailbox.send_paths(link, part));
            }
            Err(e) => warn!("the catalogue cannot be read: {e}"),
        }
    }

    fn follow(&mut self, setup: &ReplicatorSetup) -> Result<(), CatalogError> {
        if self.reader.is_none() {
            self.reader = Some(CatalogReader::open(&setup.own)?);
        }
        if let Some(reader) = &mut self.reader {
            let applied = reader.applied()?;
            setup.scoreboard.set_visible_lsn(applied);
            setup.scoreboard.set_applied_lsn(applied);
        }
        Ok(())
    }

    /// What is to be known where this slave keeps the folder from now on.
    fn backlog(self) -> Vec<LinkEvent> {
        let linked = self.linked.map(LinkEvent::Linked);
        linked
            .into_iter()
            .chain(self.peers.map(LinkEvent::Peers))
            .chain(self.mark.map(LinkEvent::MasterLsn))
            .collect()
    }
}

/// Waits until the supervisor says something or is gone, at most `timeout`, or until there is something on the proposal_socket.
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
