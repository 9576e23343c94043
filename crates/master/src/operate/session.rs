//! What an operation works with: the master's state, and the output to its operator.

use std::sync::atomic::Ordering;

use relais_cluster::ConnectionAddrs;
use relais_coordinator::CoordinatorDriver;
use relais_proto::SlaveReport;

use crate::core::Core;

/// Where the lines of an operation go.
pub(crate) trait OperatorOutput {
    /// Adds a line; false if the operator has gone.
    fn line(&mut self, line: String) -> bool;
    /// Has the operator see the lines at once; false if the operator has gone.
    fn flush(&mut self) -> bool;
}

/// An operation for one operator, with its output.
pub(super) struct OperatorSession<'a> {
    pub core: &'a Core,
    asker: ConnectionAddrs,
    output: &'a mut dyn OperatorOutput,
    /// Whether the operator has disconnected.
    pub is_gone: bool,
}

/// The last line of an operation, or the reason why it failed. An empty line is not printed.
pub(crate) type OperationResult = Result<String, String>;

impl<'a> OperatorSession<'a> {
    pub fn new(core: &'a Core, asker: ConnectionAddrs, output: &'a mut dyn OperatorOutput) -> Self {
        Self { core, asker, output, is_gone: false }
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
        self.is_gone |= !self.output.line(line.into());
    }

    /// Adds a line and sends the output at once.
    pub fn line_now(&mut self, line: impl Into<String>) {
        self.line(line);
        self.is_gone |= !self.output.flush();
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
