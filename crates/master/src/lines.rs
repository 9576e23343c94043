//! The links that are open: how many there may be, and the means to end one
//! from another thread. It never reads or writes a frame.

use std::collections::HashMap;
use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use relais_cluster::LinkId;
use relais_net::Socket;
use relais_state::LinkRole;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Most links of slaves at a time; each has a thread.
const SLAVES: usize = 256;
/// Most operators at a time. Counted apart, so that `status` works when all links are taken.
const OPERATORS: usize = 32;

/// Who links to a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A slave.
    Slave,
    /// An operator's command.
    Operator,
}

impl Kind {
    /// In which role it proves the cluster key.
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
pub(crate) struct Lines {
    open: Mutex<Open>,
    fewer: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    last: u64,
    taken: HashMap<LinkId, Line>,
}

#[derive(Debug)]
struct Line {
    kind: Kind,
    stream: Option<Arc<Socket>>,
}

impl Lines {
    /// A place for one more link; none where all are taken.
    pub fn reserve(self: &Arc<Self>, kind: Kind) -> Option<Place> {
        let mut open = self.open();
        let most = match kind {
            Kind::Slave => SLAVES,
            Kind::Operator => OPERATORS,
        };
        if open.taken.values().filter(|line| line.kind == kind).count() >= most {
            return None;
        }
        open.last += 1;
        let link = LinkId(open.last);
        open.taken.insert(link, Line { kind, stream: None });
        Some(Place { lines: Arc::clone(self), link, kind })
    }

    /// Ends a link: its thread wakes up and goes.
    pub fn shut(&self, link: LinkId) {
        if let Some(line) = self.open().taken.get(&link) {
            line.shut();
        }
    }

    /// Ends all links of this kind.
    pub fn shut_all(&self, kind: Kind) {
        self.open().taken.values().filter(|line| line.kind == kind).for_each(Line::shut);
    }

    /// Whether the other side has closed the link, also where its thread has not noticed yet.
    pub fn has_ended(&self, link: LinkId) -> bool {
        match self.open().taken.get(&link) {
            Some(Line { stream: Some(stream), .. }) => hung_up(stream),
            Some(_) => false,
            None => true,
        }
    }

    /// Waits until all links are gone; false where some are left at `until`.
    pub fn wait_until_empty(&self, until: Instant) -> bool {
        let mut open = self.open();
        while !open.taken.is_empty() {
            let Some(left) =
                until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return false;
            };
            (open, _) = self.fewer.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn shut(&self) {
        // It fails only where the other side was first.
        let _ = self.stream.as_ref().map(|stream| stream.shutdown(Shutdown::Both));
    }
}

fn hung_up(stream: &Socket) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1))
        && fds[0].revents().intersects(gone)
}

/// One link's place; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lines: Arc<Lines>,
    /// The link's number.
    pub link: LinkId,
    /// Who is on the other side.
    pub kind: Kind,
}

impl Place {
    /// From here on others can end the link.
    pub fn attach(&self, stream: Arc<Socket>) {
        if let Some(line) = self.lines.open().taken.get_mut(&self.link) {
            line.stream = Some(stream);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lines.open().taken.remove(&self.link);
        self.lines.fewer.notify_all();
    }
}
