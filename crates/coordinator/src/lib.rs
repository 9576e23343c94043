//! The thread that numbers changes. It alone owns the coordinator and the journal.
//!
//! It runs in the master of a cluster, and in the replicator of a standalone slave. Other threads
//! send it commands, and wait for none of its writes. The crate opens no socket: messages leave by
//! a [`LinkSender`].

mod driver;
mod members;
mod status;
mod store;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use relais_cluster::{CoordinatorEvent, KnownSlave, LinkId};
use relais_proto::{FolderId, LinkMessage, SlaveId};

pub use self::driver::{Clock, CoordinatorDriver, Link};
pub use self::members::MembersError;
pub use self::status::{OrderStatus, SharedOrderStatus};
pub use self::store::{Store, StoreError};

/// Capacity of the command queue. A full queue blocks senders, so links are read no faster than
/// their messages are handled.
const QUEUE: usize = 16 * 1024;

/// The outgoing side of a link. Neither function waits.
pub trait LinkSender: Send + Sync {
    /// Queues a message. After the end of the link it is dropped.
    fn send(&self, message: LinkMessage);

    /// Ends the link at once.
    fn close(&self);
}

/// A command for the order thread.
pub enum OrderCommand {
    /// A slave has registered.
    Linked {
        /// Number of the link.
        link: LinkId,
        /// Id of the slave.
        slave: SlaveId,
        /// Id of its folder.
        folder: FolderId,
        /// The way of messages to it.
        sender: Arc<dyn LinkSender>,
    },
    /// A slave is in service for the first time on its link.
    Known(KnownSlave),
    /// An event for the order.
    Event(CoordinatorEvent),
    /// A function to run in the thread.
    Run(Box<dyn FnOnce(&mut CoordinatorDriver) + Send>),
    /// The thread ends after the last batch is written.
    End,
}

/// The handle by which other threads send commands.
#[derive(Debug, Clone)]
pub struct OrderHandle(SyncSender<OrderCommand>);

impl OrderHandle {
    /// Makes a handle and the receiver of its commands.
    #[must_use]
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
        look: impl FnOnce(&mut CoordinatorDriver) -> T + Send + 'static,
    ) -> Option<T> {
        let (to, answer) = sync_channel(1);
        self.send(OrderCommand::Run(Box::new(move |driver| {
            // The caller waits for the result, unless its thread has ended.
            let _ = to.send(look(driver));
        })));
        answer.recv().ok()
    }
}
