//! The linked slaves: their addresses and outboxes, and the peer lists that they get.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use relais_cluster::{ConnectionAddrs, LinkId, SlaveAddresses, endpoints_for};
use relais_proto::{FolderId, Heartbeat, LinkMessage, PeerSlave, SlaveId, UploadKeys, limits};

use crate::outbox::Outbox;
use crate::path_uploads::{PathUploads, ReportingSlave, list_messages, messages_for};

/// A linked slave.
#[derive(Debug, Clone)]
pub(crate) struct LinkedSlave {
    pub link: LinkId,
    pub slave: SlaveId,
    pub folder: FolderId,
    pub place: SlaveAddresses,
    /// The addresses of both ends of its link.
    pub seen_from: ConnectionAddrs,
    pub outbox: Arc<Outbox>,
    /// Its program and version.
    pub agent: String,
    /// Its last heartbeat, unmodified; none before the first one.
    pub heartbeat: Option<Heartbeat>,
}

impl LinkedSlave {
    fn reporting(&self) -> ReportingSlave {
        ReportingSlave { slave: self.slave, folder: self.folder }
    }

    fn send_uploads(&self, messages: Vec<UploadKeys>) {
        for keys in messages {
            self.outbox.send(&LinkMessage::OtherUploads(keys));
        }
    }
}

/// Number of links up to which each gets a changed list of peers at once.
const FEW: usize = 32;
/// With more links, the pause between two lists is this for each link.
///
/// A list has as many entries as there are links, and each link gets it. So when all slaves of a
/// large cluster come back, a list for each of them would be too much.
const PAUSE_PER_LINK: Duration = Duration::from_millis(1);

/// When the list of peers was sent, and whether it has changed since.
#[derive(Debug, Default)]
struct PeerLists {
    sent: Option<Instant>,
    is_due: bool,
}

/// All linked slaves.
#[derive(Debug, Default)]
pub(crate) struct LinkedSlaves {
    open: Mutex<BTreeMap<LinkId, LinkedSlave>>,
    /// Locked while `open` is, so that no message overtakes a later one.
    uploads: Mutex<PathUploads>,
    /// Locked while `open` is.
    lists: Mutex<PeerLists>,
}

impl LinkedSlaves {
    /// Adds a slave, and sends the others' uploads to it. All get the new list of peers.
    pub fn add(&self, linked: LinkedSlave) {
        let mut open = self.open.lock();
        let others = self.uploads.lock().linked(linked.reporting(), Instant::now());
        linked.send_uploads(list_messages(&others));
        open.insert(linked.link, linked);
        self.lists.lock().is_due = true;
        self.send_due(&open);
    }

    /// Sends the list of peers to all if it has changed and its pause is over.
    pub fn send_peers(&self) {
        self.send_due(&self.open.lock());
    }

    fn send_due(&self, open: &BTreeMap<LinkId, LinkedSlave>) {
        let mut lists = self.lists.lock();
        let links = u32::try_from(open.len()).unwrap_or(u32::MAX);
        let pause = PAUSE_PER_LINK.saturating_mul(links);
        let is_early = lists.sent.is_some_and(|sent| sent.elapsed() < pause);
        if lists.is_due && (open.len() <= FEW || !is_early) {
            *lists = PeerLists { sent: Some(Instant::now()), is_due: false };
            send_peers(open);
        }
    }

    /// Removes a slave. All others get the new list of peers.
    pub fn remove(&self, link: LinkId) {
        let mut open = self.open.lock();
        if let Some(linked) = open.remove(&link) {
            if open.values().all(|other| other.slave != linked.slave) {
                self.uploads.lock().unlinked(linked.slave, Instant::now());
            }
            self.lists.lock().is_due = true;
            self.send_due(&open);
        }
    }

    /// Handles the report of a slave on its uploads, and tells those that it concerns.
    pub fn report_uploads(&self, link: LinkId, keys: &UploadKeys) {
        let open = self.open.lock();
        let Some(from) = open.get(&link) else { return };
        let news = self.uploads.lock().report(from.reporting(), keys);
        open.values().for_each(|to| to.send_uploads(messages_for(to.reporting(), &news)));
    }

    /// All linked slaves, oldest link first.
    pub fn all(&self) -> Vec<LinkedSlave> {
        self.open.lock().values().cloned().collect()
    }

    /// The slave on this link; none if the link has ended.
    pub fn get(&self, link: LinkId) -> Option<LinkedSlave> {
        self.open.lock().get(&link).cloned()
    }

    /// Stores the last heartbeat of a link.
    pub fn set_heartbeat(&self, link: LinkId, heartbeat: Heartbeat) {
        if let Some(linked) = self.open.lock().get_mut(&link) {
            linked.heartbeat = Some(heartbeat);
        }
    }
}

/// Sends the list of peers to all slaves.
///
/// It runs under the lock, so that no list overtakes a later one. It only appends to outboxes.
fn send_peers(open: &BTreeMap<LinkId, LinkedSlave>) {
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
