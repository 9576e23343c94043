//! What operators can have done: each operation is carried out in the thread of the operator's link, and tells it line by line.

mod diff;
mod drain;
mod export;
mod find;
mod forget;
mod paths;
mod recover;
mod scrub;
mod trees;

use log::{debug, info};
use relais_cluster::ConnectionAddrs;
use relais_net::Connection;
use relais_proto::{LinkMessage, Operation};

use crate::core::Core;

/// Bytes of lines that are sent together.
const TOGETHER: usize = 64 * 1024;

/// What an operator is told through.
pub(crate) struct Teller<'a> {
    connection: &'a mut Connection,
    gone: bool,
}

impl<'a> Teller<'a> {
    pub fn new(connection: &'a mut Connection) -> Self {
        Self { connection, gone: false }
    }

    /// Whether nobody listens any more.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// One of many lines.
    pub fn line(&mut self, line: impl Into<String>) {
        self.connection.queue_link(&LinkMessage::Line(line.into()));
        if self.connection.output().len() > TOGETHER {
            self.send();
        }
    }

    /// A line that is wanted at once.
    pub fn say(&mut self, line: impl Into<String>) {
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

/// Does what the operator at `asker` wants, and tells how it went. False where nobody listens any more.
pub(crate) fn run(
    core: &Core,
    asker: ConnectionAddrs,
    operation: &Operation,
    connection: &mut Connection,
) -> bool {
    info!("operator at {}: {operation:?}", asker.peer);
    let mut tell = Teller::new(connection);
    let done = match operation {
        Operation::Drain(slave) => drain::drain(core, asker, slave, &mut tell),
        Operation::Ready(slave) => drain::ready(core, asker, slave),
        Operation::Forget(slave) => forget::forget(core, asker, slave),
        Operation::Diff => diff::diff(core, asker, &mut tell),
        Operation::Scrub { wait } => scrub::scrub(core, *wait, &mut tell),
        Operation::Skipped => paths::skipped(core, &mut tell),
        Operation::Recover { go } => recover::recover(core, *go, &mut tell),
        Operation::Export => export::export(core, &mut tell),
    };
    let gone = tell.is_gone();
    let ok = match done {
        Ok(Outcome { said, ok }) => {
            said.into_iter().for_each(|line| tell.line(line));
            ok
        }
        Err(why) => {
            tell.line(why);
            false
        }
    };
    tell.end(ok);
    !gone
}

/// How an operation went, where it could be begun.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The last line, if there is one.
    said: Option<String>,
    /// Whether all is well.
    ok: bool,
}

impl Outcome {
    fn done(said: impl Into<String>) -> Self {
        Self { said: Some(said.into()), ok: true }
    }

    fn failed(said: impl Into<String>) -> Self {
        Self { said: Some(said.into()), ok: false }
    }
}

/// What an operation led to, or why it could not be begun.
type Done = Result<Outcome, String>;

/// The order's thread is gone: the master stops.
fn ended() -> String {
    "the master is stopping".to_owned()
}
