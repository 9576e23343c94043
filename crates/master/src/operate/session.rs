//! What an operation works with: the master's state, and the output to its operator.

use std::sync::atomic::Ordering;

use log::debug;
use relais_cluster::ConnectionAddrs;
use relais_coordinator::CoordinatorDriver;
use relais_net::Connection;
use relais_proto::{LinkMessage, SlaveReport};

use crate::core::Core;

/// Size of the output from which it is sent.
const FLUSH_SIZE: usize = 64 * 1024;

/// An operation for one operator, with its output.
pub(super) struct OperatorSession<'a> {
    pub core: &'a Core,
    asker: ConnectionAddrs,
    connection: &'a mut Connection,
    /// Whether the operator has disconnected.
    pub is_gone: bool,
}

/// The last line of an operation, or the reason why it failed. An empty line is not printed.
pub(super) type OperationResult = Result<String, String>;

impl<'a> OperatorSession<'a> {
    pub fn new(core: &'a Core, asker: ConnectionAddrs, connection: &'a mut Connection) -> Self {
        Self { core, asker, connection, is_gone: false }
    }

    /// Whether the master is stopping.
    pub fn is_stopping(&self) -> bool {
        self.core.stopping.load(Ordering::Relaxed)
    }

    /// Reports on all slaves, with addresses for this operator.
    pub fn reports(&self) -> Vec<SlaveReport> {
        self.core.reports(self.asker)
    }

    /// Adds a line to the output.
    pub fn line(&mut self, line: impl Into<String>) {
        self.connection.queue_link(&LinkMessage::Line(line.into()));
        if self.connection.output().len() > FLUSH_SIZE {
            self.send();
        }
    }

    /// Adds a line and sends the output at once.
    pub fn line_now(&mut self, line: impl Into<String>) {
        self.line(line);
        self.send();
    }

    /// Sends the last line and the result; false if the operator has disconnected.
    pub fn end(mut self, result: OperationResult) -> bool {
        let is_gone = self.is_gone;
        let ok = result.is_ok();
        let (Ok(line) | Err(line)) = result;
        if !line.is_empty() {
            self.line(line);
        }
        self.connection.queue_link(&LinkMessage::LineEnd { ok });
        self.send();
        !is_gone
    }

    fn send(&mut self) {
        if let Err(error) = self.connection.flush() {
            debug!("operator at {}: {error}", self.connection.peer());
            self.is_gone = true;
        }
    }
}

/// The reason of an operation that failed because the master ends.
pub(super) fn ended() -> String {
    "the master is stopping".to_owned()
}

/// Runs `look` in the order thread.
///
/// # Errors
/// The order thread has ended.
pub(super) fn ask_order<T: Send + 'static>(
    core: &Core,
    look: impl FnOnce(&mut CoordinatorDriver) -> T + Send + 'static,
) -> Result<T, String> {
    core.order.call(look).ok_or_else(ended)
}

/// Runs `act` in the order thread.
///
/// # Errors
/// The order thread has ended, or `act` failed.
pub(super) fn try_order<T: Send + 'static, E: ToString>(
    core: &Core,
    act: impl FnOnce(&mut CoordinatorDriver) -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    ask_order(core, |driver| act(driver).map_err(|error| error.to_string()))?
}
