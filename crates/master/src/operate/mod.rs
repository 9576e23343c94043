//! Operators' operations. Each runs in the thread of the operator's link and prints lines to it.

mod diff;
mod drain;
mod export;
mod find;
mod forget;
mod paths;
mod recover;
mod scrub;
mod slave_tree;
mod slaves;

use log::{debug, info};
use relais_cluster::ConnectionAddrs;
use relais_net::Connection;
use relais_proto::{LinkMessage, Operation};

use crate::core::Core;

/// Size of the output from which it is sent.
const FLUSH_SIZE: usize = 64 * 1024;

/// The output of an operation to its operator.
pub(crate) struct OperatorOutput<'a> {
    connection: &'a mut Connection,
    gone: bool,
}

impl<'a> OperatorOutput<'a> {
    pub fn new(connection: &'a mut Connection) -> Self {
        Self { connection, gone: false }
    }

    /// Whether the operator has disconnected.
    pub fn is_gone(&self) -> bool {
        self.gone
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

    fn end(mut self, ok: bool) {
        self.connection.queue_link(&LinkMessage::LineEnd { ok });
        self.send();
    }

    fn send(&mut self) {
        if let Err(error) = self.connection.flush() {
            debug!("operator at {}: {error}", self.connection.peer());
            self.gone = true;
        }
    }
}

/// Runs an operation for the operator at `asker`; false if the operator has disconnected.
pub(crate) fn run(
    core: &Core,
    asker: ConnectionAddrs,
    operation: &Operation,
    connection: &mut Connection,
) -> bool {
    info!("operator at {}: {operation:?}", asker.peer);
    let mut output = OperatorOutput::new(connection);
    let done = match operation {
        Operation::Drain(slave) => drain::drain(core, asker, slave, &mut output),
        Operation::Ready(slave) => drain::ready(core, asker, slave),
        Operation::Forget(slave) => forget::forget(core, asker, slave),
        Operation::Diff => diff::diff(core, asker, &mut output),
        Operation::Scrub { wait } => scrub::scrub(core, asker, *wait, &mut output),
        Operation::Skipped => paths::skipped(core, asker, &mut output),
        Operation::Recover { go } => recover::recover(core, *go, &mut output),
        Operation::Export => export::export(core, &mut output),
    };
    let gone = output.is_gone();
    let ok = match done {
        Ok(Summary { said, ok }) => {
            said.into_iter().for_each(|line| output.line(line));
            ok
        }
        Err(why) => {
            output.line(why);
            false
        }
    };
    output.end(ok);
    !gone
}

/// The summary of an operation.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// The last line, if there is one.
    said: Option<String>,
    /// Whether the operation succeeded.
    ok: bool,
}

impl Summary {
    fn done(said: impl Into<String>) -> Self {
        Self { said: Some(said.into()), ok: true }
    }

    fn failed(said: impl Into<String>) -> Self {
        Self { said: Some(said.into()), ok: false }
    }
}

/// The summary of an operation, or the reason why it could not start.
type OperationResult = Result<Summary, String>;

/// The reason of an operation that failed because the order thread has ended.
fn ended() -> String {
    "the master is stopping".to_owned()
}
