//! The slaves that are linked: where each is, what it is sent through, and which others each is told of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relais_cluster::{ConnectionAddrs, LinkId, SlaveAddresses, endpoints_for};
use relais_proto::{FolderId, LinkMessage, PeerSlave, SlaveId, limits};

use crate::outbox::Outbox;

/// A slave that is linked.
#[derive(Debug, Clone)]
pub(crate) struct Linked {
    pub link: LinkId,
    pub slave: SlaveId,
    pub folder: FolderId,
    pub place: SlaveAddresses,
    /// Both ends of its link.
    pub seen_from: ConnectionAddrs,
    pub outbox: Arc<Outbox>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Links {
    open: Mutex<BTreeMap<LinkId, Linked>>,
}

impl Links {
    /// A slave is there: all hear of it, and it hears of all.
    pub fn add(&self, linked: Linked) {
        let mut open = self.open();
        open.insert(linked.link, linked);
        tell_all(&open);
    }

    /// Its link is gone, and all others hear of that.
    pub fn remove(&self, link: LinkId) {
        let mut open = self.open();
        if open.remove(&link).is_some() {
            tell_all(&open);
        }
    }

    /// Those that are there, oldest link first.
    pub fn all(&self) -> Vec<Linked> {
        self.open().values().cloned().collect()
    }

    /// Of each folder the one whose link is oldest.
    pub fn one_of_each_folder(&self) -> Vec<Linked> {
        let mut folders = std::collections::BTreeSet::new();
        self.all().into_iter().filter(|linked| folders.insert(linked.folder)).collect()
    }

    /// Whether this one is there.
    pub fn has(&self, link: LinkId) -> bool {
        self.open().contains_key(&link)
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<LinkId, Linked>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under the lock, so that no list overtakes a later one; it only appends to queues.
fn tell_all(open: &BTreeMap<LinkId, Linked>) {
    for to in open.values() {
        let peers: Vec<PeerSlave> = open
            .values()
            .map(|peer| PeerSlave {
                slave: peer.slave,
                folder: peer.folder,
                addrs: endpoints_for(&peer.place, to.seen_from),
            })
            .collect();
        let mut pages = peers.chunks(limits::PEERS).peekable();
        while let Some(page) = pages.next() {
            to.outbox
                .send(&LinkMessage::Peers { peers: page.to_vec(), last: pages.peek().is_none() });
        }
    }
}
