//! The replicator process: keeps the catalogue true, and talks to the master for the slave.
//!
//! It is the only process of a slave that writes the catalogue. Where another slave of this host keeps
//! the same folder already, it waits for that one to go and takes over.

mod link;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::info;
use relais_proto::SlaveId;
use relais_tree::Folder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub use self::link::Link;
use crate::catalogue::{CatalogueError, Keeper, KeeperConfig, KeeperLock};
use crate::config::Config;
use crate::sys::fork::ignore_sigio;

/// Time between two tries to become the keeper of a folder that another slave keeps.
const TAKE_OVER: Duration = Duration::from_millis(250);

/// Time between two looks whether the threads still live.
const CHECK: Duration = Duration::from_secs(1);

/// What the replicator is given at its birth.
pub struct Birth {
    /// The slave's settings.
    pub config: Config,
    /// The served folder.
    pub folder: Folder,
    /// Which folder it is.
    pub folder_id: relais_proto::FolderId,
    /// Which slave this is.
    pub slave_id: SlaveId,
    /// What the processes share.
    pub board: Arc<crate::board::Board>,
    /// What workers found different from the catalogue.
    pub hints: Arc<crate::hints::Hints>,
    /// Where sessions bring their changes.
    pub desk: Arc<crate::changes::channel::Desk>,
    /// Where the slave listens.
    pub listen: std::net::SocketAddr,
    /// Can be read when the replicator shall end.
    pub control: OwnedFd,
}

/// Runs the replicator until it is told to end.
///
/// # Errors
/// Those that keep it from its work; [`io::ErrorKind::InvalidData`] where trying again is of no use.
pub fn run(birth: Birth) -> io::Result<()> {
    ignore_sigio()?;
    // It has a channel of each session that changes something, and opens every folder that a batch concerns.
    let _ = relais_net::room_beside(0, 0);
    let stop = Arc::new(AtomicBool::new(false));
    let link = Link::start(&birth, stop.clone())?;
    let result = keep(&birth, &link);
    stop.store(true, Ordering::Relaxed);
    link.end();
    result
}

/// Keeps the folder from the moment that nobody else does until the end.
fn keep(birth: &Birth, link: &Link) -> io::Result<()> {
    let mut said = false;
    let lock = loop {
        if let Some(lock) = KeeperLock::try_take(&birth.folder).map_err(io::Error::other)? {
            break lock;
        }
        if !std::mem::replace(&mut said, true) {
            info!("another slave keeps {}; this one reads its catalogue", birth.config.root.display());
        }
        if link.has_ended() {
            return Err(io::Error::other("the thread of the link has failed"));
        }
        if told_to_end(&birth.control, Some(TAKE_OVER))? {
            return Ok(());
        }
    };
    let config = KeeperConfig {
        watch: birth.config.watch,
        folder: birth.folder_id,
        standalone: birth.config.cluster.is_none(),
        board: birth.board.clone(),
        hints: birth.hints.clone(),
        desk: birth.desk.clone(),
    };
    let keeper = Keeper::start(&birth.folder, &birth.config.root, &config, lock).map_err(|e| {
        let kind = if matches!(e, CatalogueError::Damaged { .. } | CatalogueError::Journal(_)) {
            io::ErrorKind::InvalidData
        } else {
            io::ErrorKind::Other
        };
        io::Error::new(kind, e)
    })?;
    while !told_to_end(&birth.control, Some(CHECK))? {
        if keeper.has_ended() || link.has_ended() {
            return Err(io::Error::other("a thread of the replicator has failed"));
        }
    }
    keeper.stop();
    Ok(())
}

/// Waits until the supervisor says something or is gone, at most `timeout`.
fn told_to_end(control: &OwnedFd, timeout: Option<Duration>) -> io::Result<bool> {
    let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
    match poll(&mut [PollFd::new(control, PollFlags::IN)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}
