//! The one thread that gives changes their numbers: it alone has the order and the journal. Everybody else sends it jobs, and
//! waits for none of its writes.

mod engine;
mod folders;
mod store;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use relais_cluster::{Event, KnownSlave, LinkId};
use relais_proto::{FolderId, SlaveId};

pub(crate) use self::engine::Engine;
pub use self::folders::FoldersError;
pub use self::store::{Store, StoreError};
use crate::outbox::Outbox;

/// Jobs that wait. Whoever has one more waits until there is room: links are read no faster than their messages are dealt with.
const WAITING: usize = 16 * 1024;

/// What the thread is asked to do.
pub(crate) enum Job {
    /// A slave is linked.
    Linked {
        /// Its link.
        link: LinkId,
        /// Which slave.
        slave: SlaveId,
        /// The folder that it registered.
        folder: FolderId,
        /// What it is sent through.
        outbox: Arc<Outbox>,
    },
    /// A slave is in service for the first time on its link.
    Known(KnownSlave),
    /// Something has happened.
    Event(Event),
    /// Something wants to know, or do, what only this thread can.
    Look(Box<dyn FnOnce(&mut Engine) + Send>),
    /// The master stops.
    End,
}

/// The way to the thread.
#[derive(Debug, Clone)]
pub(crate) struct Orders(SyncSender<Job>);

impl Orders {
    /// The way, and what the thread takes its jobs from.
    pub fn new() -> (Self, Receiver<Job>) {
        let (to, from) = sync_channel(WAITING);
        (Self(to), from)
    }

    /// Gives the thread a job. After its end nothing comes of it.
    pub fn tell(&self, job: Job) {
        if self.0.send(job).is_err() {
            log::debug!("the order has ended");
        }
    }

    /// Has `look` run in the thread, and returns what came of it; none where the thread has ended.
    pub fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let (to, answer) = sync_channel(1);
        self.tell(Job::Look(Box::new(move |engine| {
            // Whoever asked waits for it, unless its thread is gone.
            let _ = to.send(look(engine));
        })));
        answer.recv().ok()
    }
}
