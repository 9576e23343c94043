//! Writes the log-outs of this slave to its file, and exchanges them with the master.
//!
//! Its thread looks at the table when a worker says that a user has logged out, and after each
//! message of the master. On a new link all log-outs are sent, so none is lost without one. In a
//! standalone slave it writes the file alone.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{error, warn};
use parking_lot::Mutex;
use relais_auth::EndedTickets;
use relais_os::Waker;
use relais_proto::{LinkMessage, LogOut, limits};
use rustix::event::{PollFd, PollFlags};

use super::mailbox::OutgoingMessages;
use crate::context::SlaveContext;
use crate::poll::wait_for;
use crate::thread::OwnedThread;

/// Pause before a file that could not be written is written again.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// The log-outs between the table, the file and the master.
pub struct LogOutRelay {
    context: Arc<SlaveContext>,
    /// None in a standalone slave.
    outgoing: Option<Arc<OutgoingMessages>>,
    /// What the master knows on this link.
    known: Mutex<HashSet<LogOut>>,
    stop: AtomicBool,
    /// Wakes the thread for its end.
    waker: Waker,
}

impl LogOutRelay {
    /// Makes a relay without a link.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(
        context: Arc<SlaveContext>,
        outgoing: Option<Arc<OutgoingMessages>>,
    ) -> io::Result<Self> {
        let (known, stop) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { context, outgoing, known, stop, waker: Waker::new()? })
    }

    fn table(&self) -> EndedTickets<'_> {
        EndedTickets::new(self.context.scoreboard.ended_tickets)
    }

    /// Has all log-outs be sent on a new link.
    pub fn link_began(&self) {
        self.known.lock().clear();
        self.context.log_outs.changed.wake();
    }

    /// Takes log-outs that the master knows.
    pub fn receive(&self, rows: Vec<LogOut>) {
        rows.iter().for_each(|row| _ = self.table().insert(*row));
        self.known.lock().extend(rows);
        self.context.log_outs.changed.wake();
    }

    fn run(&self) {
        let changed = &self.context.log_outs.changed;
        let mut written = HashSet::new();
        loop {
            changed.clear();
            // What has come before the end is still written.
            let is_last = self.stop.load(Ordering::Relaxed);
            let rows = self.table().rows(self.context.scoreboard.master_ms());
            self.send(&rows);
            let pause = self.write(&rows, &mut written).err().map(|e| {
                warn!("cannot write the file of log-outs: {e}; they hold until a restart");
                RETRY_PAUSE
            });
            if is_last {
                return;
            }
            let fds =
                &mut [PollFd::new(changed, PollFlags::IN), PollFd::new(&self.waker, PollFlags::IN)];
            if let Err(e) = wait_for(fds, pause) {
                return error!("cannot wait for log-outs: {e}");
            }
        }
    }

    /// Sends the master what it does not know. Without a link that is sent on the next one.
    fn send(&self, rows: &[LogOut]) {
        let Some(outgoing) = &self.outgoing else { return };
        let mut known = self.known.lock();
        // What has expired is not kept.
        let present: HashSet<&LogOut> = rows.iter().collect();
        known.retain(|row| present.contains(row));
        let new: Vec<LogOut> = rows.iter().copied().filter(|row| !known.contains(row)).collect();
        for rows in new.chunks(limits::LOG_OUTS) {
            if outgoing.send_now(LinkMessage::LogOuts(rows.to_vec())) {
                known.extend(rows);
            }
        }
    }

    /// Writes the file if there are new log-outs.
    fn write(&self, rows: &[LogOut], written: &mut HashSet<LogOut>) -> io::Result<()> {
        if rows.iter().all(|row| written.contains(row)) {
            return Ok(());
        }
        self.context.log_outs.file.write(rows)?;
        *written = rows.iter().copied().collect();
        Ok(())
    }
}

/// The thread of a [`LogOutRelay`], which ends with this value.
pub struct LogOutRelayThread {
    relay: Arc<LogOutRelay>,
    thread: OwnedThread,
}

impl LogOutRelayThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn start(relay: Arc<LogOutRelay>) -> io::Result<Self> {
        let own = relay.clone();
        Ok(Self { thread: OwnedThread::spawn("log-outs", move || own.run())?, relay })
    }

    /// Whether the thread has ended without being asked to.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }
}

impl Drop for LogOutRelayThread {
    fn drop(&mut self) {
        self.relay.stop.store(true, Ordering::Relaxed);
        self.relay.waker.wake();
    }
}
