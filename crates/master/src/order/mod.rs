//! The thread that numbers changes. It alone owns the order and the journal.
//!
//! Other threads send it commands, and wait for none of its writes.

mod engine;
mod folders;
mod store;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use relais_cluster::{Event, KnownSlave, LinkId};
use relais_proto::{FolderId, SlaveId};

pub(crate) use self::engine::Engine;
pub use self::folders::MembersError;
pub use self::store::{Store, StoreError};
use crate::outbox::Outbox;

/// Capacity of the command queue. A full queue blocks senders, so links are read no faster than
/// their messages are handled.
const QUEUE: usize = 16 * 1024;

/// A command for the order thread.
pub(crate) enum OrderCommand {
    /// A slave has registered.
    Linked { link: LinkId, slave: SlaveId, folder: FolderId, outbox: Arc<Outbox> },
    /// A slave is in service for the first time on its link.
    Known(KnownSlave),
    /// An event for the order.
    Event(Event),
    /// A function to run in the thread.
    Run(Box<dyn FnOnce(&mut Engine) + Send>),
    /// The master stops.
    End,
}

/// The handle by which other threads send commands.
#[derive(Debug, Clone)]
pub(crate) struct OrderHandle(SyncSender<OrderCommand>);

impl OrderHandle {
    /// Makes a handle and the receiver of its commands.
    pub fn new() -> (Self, Receiver<OrderCommand>) {
        let (to, from) = sync_channel(QUEUE);
        (Self(to), from)
    }

    /// Sends a command. After the end of the thread it is dropped.
    pub fn send(&self, command: OrderCommand) {
        if self.0.send(command).is_err() {
            log::debug!("the order has ended");
        }
    }

    /// Runs `look` in the thread and returns its result; none if the thread has ended.
    pub fn call<T: Send + 'static>(
        &self,
        look: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let (to, answer) = sync_channel(1);
        self.send(OrderCommand::Run(Box::new(move |engine| {
            // The caller waits for the result, unless its thread has ended.
            let _ = to.send(look(engine));
        })));
        answer.recv().ok()
    }
}
