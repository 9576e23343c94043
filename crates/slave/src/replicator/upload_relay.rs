//! Reports this slave's unfinished uploads by path to the master, and learns those of others.
//!
//! Its thread looks at the table of uploads when a worker says that one has begun or ended, at most
//! ten times a second, so short uploads are never reported. An upload that has begun on another
//! slave is discarded here.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{debug, error};
use parking_lot::Mutex;
use relais_os::Waker;
use relais_proto::{LinkMessage, UploadKeys, limits};
use relais_storage::{StagedName, Staging};
use relais_tree::TreeError;
use rustix::event::{PollFd, PollFlags};

use super::mailbox::OutgoingMessages;
use crate::context::SlaveContext;
use crate::poll::wait_for;
use crate::remote_uploads::UploadKey;
use crate::thread::OwnedThread;
use crate::worker_message::{WorkerMessage, notify};

/// Shortest time between two looks at the table.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// Longest time between two looks, because workers do not say when an upload was evicted.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The uploads that this slave and the others know of each other.
pub struct UploadRelay {
    context: Arc<SlaveContext>,
    outgoing: Arc<OutgoingMessages>,
    staging: Staging,
    state: Mutex<RelayState>,
    stop: AtomicBool,
    /// Wakes the thread for its end.
    waker: Waker,
}

#[derive(Default)]
struct RelayState {
    /// Number of links so far; the list of all is due if it differs from `listed`.
    links: u64,
    listed: u64,
    /// What the master was told on this link.
    reported: HashSet<UploadKey>,
    /// Uploads from before the start that may not be in the table yet.
    found: HashSet<UploadKey>,
    /// The list of others' uploads, while it is not complete.
    list: Option<HashSet<UploadKey>>,
    /// Uploads that have begun on another slave, and may be here too.
    lost: HashSet<UploadKey>,
    /// Uploads that have begun here instead of on another slave, and were not reported yet.
    taken_over: HashSet<UploadKey>,
}

impl UploadRelay {
    /// Makes a relay without a link.
    ///
    /// # Errors
    /// Those of the folder and of the system calls.
    pub fn new(context: Arc<SlaveContext>, outgoing: Arc<OutgoingMessages>) -> io::Result<Self> {
        let staging = Staging::open(&context.folder).map_err(io::Error::other)?;
        let found = staging.path_uploads().iter().map(|name| name.id.0).collect();
        let state = Mutex::new(RelayState { found, ..RelayState::default() });
        Ok(Self {
            context,
            outgoing,
            staging,
            state,
            stop: AtomicBool::default(),
            waker: Waker::new()?,
        })
    }

    /// Has all uploads be reported on a new link.
    pub fn link_began(&self) {
        {
            let mut state = self.state.lock();
            state.links += 1;
            state.list = None;
            state.lost.clear();
        }
        self.context.remote_uploads.changed.wake();
    }

    /// Records that others' uploads are not known any more.
    pub fn link_ended(&self) {
        self.context.remote_uploads.forget();
    }

    /// Takes what the master says about the uploads of other slaves.
    pub fn receive(&self, keys: UploadKeys) {
        let UploadKeys { all, pending, ended } = keys;
        let (remote, mut state) = (&self.context.remote_uploads, self.state.lock());
        if all {
            let list = state.list.get_or_insert_default();
            list.extend(pending.iter().take(limits::PATH_UPLOADS.saturating_sub(list.len())));
            return;
        }
        if let Some(list) = state.list.take() {
            remote.replace(&list);
        } else if !remote.is_known() {
            // The list is empty.
            remote.replace(&HashSet::new());
        }
        // A part of such an upload that is still here is old all the same.
        ended.iter().for_each(|key| remote.remove(key));
        for key in pending {
            remote.insert(&key);
            if self.staging.contains(&StagedName::of_key(key)) {
                state.lost.insert(key);
            }
        }
        if !state.lost.is_empty() {
            remote.changed.wake();
        }
    }

    fn run(&self) {
        let changed = &self.context.remote_uploads.changed;
        while !self.stop.load(Ordering::Relaxed) {
            let is_due = !self.state.lock().lost.is_empty();
            let pause = if is_due { REPORT_INTERVAL } else { LOOK_INTERVAL };
            let fds =
                &mut [PollFd::new(changed, PollFlags::IN), PollFd::new(&self.waker, PollFlags::IN)];
            if let Err(e) = wait_for(fds, Some(pause)) {
                return error!("cannot wait for uploads: {e}");
            }
            changed.clear();
            self.note_taken_over();
            self.discard_lost();
            self.report();
            let fds = &mut [PollFd::new(&self.waker, PollFlags::IN)];
            if let Err(e) = wait_for(fds, Some(REPORT_INTERVAL)) {
                return error!("cannot wait for uploads: {e}");
            }
        }
    }

    /// Takes the uploads that have begun here instead of on another slave.
    fn note_taken_over(&self) {
        let mut state = self.state.lock();
        for taken in self.context.remote_uploads.taken_over.take() {
            state.lost.remove(&taken.0);
            state.taken_over.insert(taken.0);
        }
    }

    /// Discards uploads that have begun on another slave, and ends the sessions that receive them.
    fn discard_lost(&self) {
        let (uploads, mut state) = (&self.context.scoreboard.uploads, self.state.lock());
        state.lost.retain(|key| {
            let name = StagedName::of_key(*key);
            match self.staging.reopen(&name) {
                Ok(_locked) => {
                    debug!("discarding a cut upload that has begun again on another slave");
                    self.staging.discard(&name);
                    uploads.release(&name, &self.staging);
                    false
                }
                Err(TreeError::InUse) => {
                    notify(&self.context.mailboxes, &WorkerMessage::EndUpload(name));
                    true
                }
                Err(_) => false,
            }
        });
    }

    /// Sends the uploads of this slave, or what has changed.
    fn report(&self) {
        let mut state = self.state.lock();
        let staging = &self.staging;
        state.found.retain(|key| staging.contains(&StagedName::of_key(*key)));
        let table = self.context.scoreboard.uploads.path_uploads();
        let mut current: HashSet<UploadKey> = table.iter().map(|name| name.id.0).collect();
        current.extend(&state.found);
        // An upload that has ended already is reported, and its end at the next look.
        let taken_over = state.taken_over.clone();
        current.extend(&taken_over);
        let (links, is_new) = (state.links, state.links != state.listed);
        let mut messages = Vec::new();
        if is_new {
            // Of a list the master does not know what is newer than the uploads of others.
            state.reported = current.difference(&taken_over).copied().collect();
            messages = list(&state.reported);
        }
        let pending: Vec<_> = current.difference(&state.reported).chain(&taken_over).collect();
        let ended: Vec<_> = state.reported.difference(&current).collect();
        messages.extend(changes(&pending, &ended));
        drop(state);
        let sent =
            messages.into_iter().all(|keys| self.outgoing.send_now(LinkMessage::PathUploads(keys)));
        let mut state = self.state.lock();
        // On a later link all are reported again.
        if sent && state.links == links {
            (state.listed, state.reported) = (links, current);
            state.taken_over.retain(|key| !taken_over.contains(key));
            if !taken_over.is_empty() {
                self.context.remote_uploads.changed.wake();
            }
        }
    }
}

/// Returns the messages with all keys, the last of which completes the list.
fn list(keys: &HashSet<UploadKey>) -> Vec<UploadKeys> {
    let keys: Vec<UploadKey> = keys.iter().copied().collect();
    let page =
        |keys: &[UploadKey]| UploadKeys { all: true, pending: keys.to_vec(), ended: Vec::new() };
    keys.chunks(limits::UPLOAD_KEYS).map(page).chain([UploadKeys::default()]).collect()
}

fn changes(pending: &[&UploadKey], ended: &[&UploadKey]) -> Vec<UploadKeys> {
    let copied = |keys: &[&UploadKey]| keys.iter().copied().copied().collect();
    let ended = ended.chunks(limits::UPLOAD_KEYS);
    let ended = ended.map(|keys| UploadKeys { ended: copied(keys), ..UploadKeys::default() });
    let pending = pending.chunks(limits::UPLOAD_KEYS);
    let pending = pending.map(|keys| UploadKeys { pending: copied(keys), ..UploadKeys::default() });
    ended.chain(pending).collect()
}

/// The thread of an [`UploadRelay`], which ends with this value.
pub struct UploadRelayThread {
    relay: Arc<UploadRelay>,
    thread: OwnedThread,
}

impl UploadRelayThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn start(relay: Arc<UploadRelay>) -> io::Result<Self> {
        let own = relay.clone();
        Ok(Self { thread: OwnedThread::spawn("uploads", move || own.run())?, relay })
    }

    /// Whether the thread has ended without being asked to.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.has_ended()
    }
}

impl Drop for UploadRelayThread {
    fn drop(&mut self) {
        self.relay.stop.store(true, Ordering::Relaxed);
        self.relay.waker.wake();
    }
}
