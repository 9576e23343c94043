//! The handle by which other threads reach the order thread.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::driver::{CoordinatorDriver, OrderCommand};

/// Capacity of the command queue. A full queue blocks senders, so links are read no faster than
/// their messages are handled.
const QUEUE: usize = 16 * 1024;

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
