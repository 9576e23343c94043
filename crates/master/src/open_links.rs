//! The open links: their caps, and the means to end one from another thread.
//!
//! This module never reads or writes a frame.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use relais_auth::LinkRole;
use relais_cluster::LinkId;
use relais_net::Stream;

/// Cap on links of slaves; each has threads.
const SLAVES: usize = 1024;
/// Cap on links of operators, counted apart, so that `status` works when all slave links are taken.
const OPERATORS: usize = 32;

/// The kind of a peer that links to a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    Slave,
    /// An operator's command.
    Operator,
}

impl PeerKind {
    /// The role in which the peer proves the cluster key.
    pub fn role(self) -> LinkRole {
        match self {
            Self::Slave => LinkRole::Slave,
            Self::Operator => LinkRole::Operator,
        }
    }

    /// Names the peer in a sentence.
    pub fn text(self) -> &'static str {
        match self {
            Self::Slave => "a slave",
            Self::Operator => "an operator's command",
        }
    }
}

/// All open links.
#[derive(Debug, Default)]
pub(crate) struct OpenLinks {
    open: Mutex<LinkTable>,
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct LinkTable {
    last: u64,
    taken: HashMap<LinkId, OpenLink>,
}

#[derive(Debug)]
struct OpenLink {
    kind: PeerKind,
    stream: Option<Arc<Stream>>,
}

impl OpenLinks {
    /// Reserves a link; none if the cap is reached.
    pub fn reserve(self: &Arc<Self>, kind: PeerKind) -> Option<LinkSlot> {
        let mut open = self.open.lock();
        let most = match kind {
            PeerKind::Slave => SLAVES,
            PeerKind::Operator => OPERATORS,
        };
        if open.taken.values().filter(|link| link.kind == kind).count() >= most {
            return None;
        }
        open.last += 1;
        let link = LinkId(open.last);
        open.taken.insert(link, OpenLink { kind, stream: None });
        Some(LinkSlot { open_links: Arc::clone(self), link, kind })
    }

    /// Shuts down a link; its thread wakes up and ends.
    pub fn shut(&self, link: LinkId) {
        if let Some(link) = self.open.lock().taken.get(&link) {
            link.shut();
        }
    }

    /// Shuts down all links of this kind.
    pub fn shut_all(&self, kind: PeerKind) {
        self.open.lock().taken.values().filter(|link| link.kind == kind).for_each(OpenLink::shut);
    }

    /// Whether the peer has closed the link, even if its thread has not noticed that yet.
    pub fn has_ended(&self, link: LinkId) -> bool {
        match self.open.lock().taken.get(&link) {
            Some(OpenLink { stream: Some(stream), .. }) => stream.has_hung_up(),
            Some(_) => false,
            None => true,
        }
    }

    /// Waits until no link is open; false if some are left at `until`.
    pub fn wait_until_empty(&self, until: Instant) -> bool {
        let mut open = self.open.lock();
        while !open.taken.is_empty() {
            if self.fewer.wait_until(&mut open, until).timed_out() {
                return open.taken.is_empty();
            }
        }
        true
    }
}

impl OpenLink {
    fn shut(&self) {
        // It fails only if the peer has closed first.
        let _ = self.stream.as_ref().map(|stream| stream.shutdown(Shutdown::Both));
    }
}

/// A reserved link, which is freed when this is dropped.
#[derive(Debug)]
pub(crate) struct LinkSlot {
    open_links: Arc<OpenLinks>,
    pub link: LinkId,
    pub kind: PeerKind,
}

impl LinkSlot {
    /// Sets the stream, by which other threads can shut down the link.
    pub fn attach(&self, stream: Arc<Stream>) {
        if let Some(link) = self.open_links.open.lock().taken.get_mut(&self.link) {
            link.stream = Some(stream);
        }
    }
}

impl Drop for LinkSlot {
    fn drop(&mut self) {
        self.open_links.open.lock().taken.remove(&self.link);
        self.open_links.fewer.notify_all();
    }
}
