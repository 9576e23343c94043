//! The way between the thread that keeps the link and the one that keeps the folder.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{LinkMessage, Lsn, PathList, PathPart, Peer, ToMaster, ToSlave, TreePart};

use crate::scoreboard::Scoreboard;

/// Time after which a link that has our ids is not an older one of ours whose end nobody has seen.
const CONFLICT_CONFIRMED: Duration = Duration::from_secs(10);

/// Since when the master has said that another slave has ids of this one.
#[derive(Debug, Clone, Copy, Default)]
pub struct IdConflict(Option<Instant>);

impl IdConflict {
    /// It says so.
    pub fn note(&mut self, scoreboard: &Scoreboard) {
        if self.0.get_or_insert_with(Instant::now).elapsed() >= CONFLICT_CONFIRMED {
            scoreboard.set_cloned(true);
        }
    }
}

/// What comes from the master, and of the link itself.
#[derive(Debug)]
pub enum LinkEvent {
    /// There is a link with this number; both sides have proved the key.
    Linked(u64),
    /// It is gone.
    Unlinked,
    /// The master has said something about changes.
    Message(ToSlave),
    /// The master's last number.
    MasterLsn(Lsn),
    /// The slaves of the cluster, this one among them.
    Peers(Vec<Peer>),
    /// The master wants to know the tree here.
    TreeQuery {
        /// The number of its question.
        query: u64,
        /// Whether it wants the ids of changes too.
        ids: bool,
    },
    /// The cluster is recovered in this epoch.
    Recovering(u32),
    /// All contents are to be read and checked, by an order with this number.
    Scrub(u64),
    /// The master asks for paths that need an operator's eye.
    PathQuery {
        /// The number of its question.
        query: u64,
        /// Which ones.
        list: PathList,
    },
    /// What the disk has refused is to be tried again now.
    Retry,
}

/// Where the link's thread puts what has come. It wakes whoever takes it out.
#[derive(Debug, Clone)]
pub struct LinkEventSender {
    to: Sender<LinkEvent>,
    wake: Arc<OwnedFd>,
}

impl LinkEventSender {
    /// Puts something in; lost where nobody takes anything out any more.
    pub fn put(&self, what: LinkEvent) {
        if self.to.send(what).is_err() {
            return;
        }
        if let Err(e) = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()) {
            debug!("the keeper has been woken already: {e}");
        }
    }
}

/// The other end: what has come, and the way to the master.
#[derive(Debug)]
pub struct LinkMailbox {
    from: Receiver<LinkEvent>,
    wake: Arc<OwnedFd>,
    outgoing: Arc<OutgoingMessages>,
}

impl LinkMailbox {
    /// Both ends, and where the link's thread finds what is to be sent.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new() -> io::Result<(LinkEventSender, Self, Arc<OutgoingMessages>)> {
        let (to, from) = channel();
        let wake = Arc::new(relais_net::wake_fd()?);
        let outgoing = Arc::new(OutgoingMessages::default());
        Ok((
            LinkEventSender { to, wake: wake.clone() },
            Self { from, wake, outgoing: outgoing.clone() },
            outgoing,
        ))
    }

    /// What has come since.
    #[must_use]
    pub fn take(&self) -> Vec<LinkEvent> {
        // The counter starts anew; what comes meanwhile is taken as well.
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
        self.from.try_iter().collect()
    }

    /// Can be read when something has come.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Sends on the link with this number; nothing where that one is gone.
    pub fn send(&self, link: u64, message: ToMaster) {
        self.outgoing.send(link, LinkMessage::ToMaster(message));
    }

    /// Sends a part of the tree.
    pub fn send_part(&self, link: u64, part: TreePart) {
        self.outgoing.send(link, LinkMessage::TreePart(part));
    }

    /// Sends some paths of a list.
    pub fn send_paths(&self, link: u64, part: PathPart) {
        self.outgoing.send(link, LinkMessage::PathPart(part));
    }

    /// Closes the link with this number.
    pub fn close(&self, link: u64) {
        self.outgoing.close(link);
    }
}

/// What is to be sent on the link that is there.
#[derive(Debug, Default)]
pub struct OutgoingMessages {
    open: Mutex<Option<(u64, Sender<LinkMessage>)>>,
}

impl OutgoingMessages {
    fn open(&self) -> MutexGuard<'_, Option<(u64, Sender<LinkMessage>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link is there; what is to be sent on it comes out of the queue.
    pub fn begin(&self, link: u64) -> Receiver<LinkMessage> {
        let (to, from) = channel();
        *self.open() = Some((link, to));
        from
    }

    /// The link is gone.
    pub fn end(&self) {
        *self.open() = None;
    }

    fn send(&self, link: u64, message: LinkMessage) {
        if let Some((_, to)) = self.open().as_ref().filter(|(open, _)| *open == link) {
            // The link's thread has ended; it says so itself.
            let _ = to.send(message);
        }
    }

    fn close(&self, link: u64) {
        let mut open = self.open();
        if open.as_ref().is_some_and(|(number, _)| *number == link) {
            *open = None;
        }
    }
}
