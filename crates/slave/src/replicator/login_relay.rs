//! Passes logins from the workers to the link, and the master's answers back.
//!
//! Its thread reads the workers' mailbox. It keeps no password: a login is sent on the present
//! link, or refused at once if there is none.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{debug, error, warn};
use parking_lot::Mutex;
use relais_os::Waker;
use relais_proto::{ErrorCode, LinkMessage, Refusal};
use rustix::event::{PollFd, PollFlags};

use super::mailbox::OutgoingMessages;
use crate::context::SlaveContext;
use crate::login_message::LoginMessage;
use crate::poll::wait_for;
use crate::thread::OwnedThread;

/// Queries of this slave that wait for the master's answer.
const OPEN_QUERIES: usize = 4096;
/// Pause of a client in seconds before it tries again.
const RETRY_AFTER: u16 = 2;

/// The queries on their way to the master.
pub struct LoginRelay {
    context: Arc<SlaveContext>,
    outgoing: Arc<OutgoingMessages>,
    /// The queries that were sent on the present link and have no answer yet.
    open: Mutex<HashSet<u64>>,
}

impl LoginRelay {
    /// Makes a relay without queries.
    #[must_use]
    pub fn new(context: Arc<SlaveContext>, outgoing: Arc<OutgoingMessages>) -> Self {
        Self { context, outgoing, open: Mutex::default() }
    }

    /// Sends a query to the master, or refuses it.
    fn forward(&self, LoginMessage { query, message }: LoginMessage) {
        let is_full = {
            let mut open = self.open.lock();
            open.len() >= OPEN_QUERIES || !open.insert(query)
        };
        if is_full {
            return self.refuse(query, "too many logins wait");
        }
        // It is open before it is sent, so that the end of the link finds it.
        if !self.outgoing.send_now(message) {
            self.open.lock().remove(&query);
            self.refuse(query, "this slave cannot reach its master, which knows the users");
        }
    }

    /// Passes an answer of the master to the worker that asked.
    pub fn answer(&self, query: u64, message: LinkMessage) {
        if self.open.lock().remove(&query) {
            self.send(query, message);
        } else {
            debug!("the master has answered a login that is not open");
        }
    }

    /// Refuses all queries that the link's end leaves without an answer.
    pub fn link_ended(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for query in open {
            self.refuse(query, "this slave has lost the link to its master, which knows the users");
        }
    }

    fn refuse(&self, query: u64, why: &str) {
        let message = format!("{why}; try again in {RETRY_AFTER} s");
        let why = Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, message) };
        self.send(query, LinkMessage::LoginRefused { query, why });
    }

    fn send(&self, query: u64, message: LinkMessage) {
        let Some(mailbox) = self.context.logins.for_query(query) else { return };
        let sent = LoginMessage::new(message).map_or(Ok(()), |answer| mailbox.send(&answer));
        if let Err(e) = sent {
            // Its client is told when the time is over.
            warn!("a worker does not take the answer to a login: {e}");
        }
    }

    fn run(&self, stop: &LoginRelayStop) {
        let mailbox = &self.context.logins.to_master;
        while !stop.is_set.load(Ordering::Relaxed) {
            let fds =
                &mut [PollFd::new(mailbox, PollFlags::IN), PollFd::new(&stop.waker, PollFlags::IN)];
            if let Err(e) = wait_for(fds, None) {
                return error!("cannot wait for logins: {e}");
            }
            mailbox.take().for_each(|query| self.forward(query));
        }
    }
}

struct LoginRelayStop {
    is_set: AtomicBool,
    waker: Waker,
}

/// The thread of a [`LoginRelay`], which ends with this value.
pub struct LoginRelayThread {
    stop: Arc<LoginRelayStop>,
    thread: OwnedThread,
}

impl LoginRelayThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn start(relay: Arc<LoginRelay>) -> io::Result<Self> {
        let stop =
            Arc::new(LoginRelayStop { is_set: AtomicBool::new(false), waker: Waker::new()? });
        let own = stop.clone();
        let thread = OwnedThread::spawn("logins", move || relay.run(&own))?;
        Ok(Self { stop, thread })
    }

    /// Whether the thread has ended without being asked to.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }
}

impl Drop for LoginRelayThread {
    fn drop(&mut self) {
        self.stop.is_set.store(true, Ordering::Relaxed);
        self.stop.waker.wake();
    }
}
