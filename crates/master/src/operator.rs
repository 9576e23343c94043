//! The link of an operator: answers `ftpmaster status` and runs operations.

use log::{debug, info};
use relais_cluster::ConnectionAddrs;
use relais_net::Connection;
use relais_proto::{LinkMessage, Operation, Reply, WireError};

use crate::core::Core;
use crate::operate::{self, OperatorOutput};
use crate::status::Report;

/// Serves an operator until the link ends.
pub(crate) fn serve(core: &Core, mut connection: Connection) {
    if let Err(error) = answer_all(core, &mut connection) {
        debug!("operator at {}: {error}", connection.peer());
    }
}

/// Size of the output from which it is sent.
const FLUSH_SIZE: usize = 64 * 1024;

impl OperatorOutput for Connection {
    fn line(&mut self, line: String) -> bool {
        self.queue_link(&LinkMessage::Line(line));
        self.output().len() <= FLUSH_SIZE || OperatorOutput::flush(self)
    }

    fn flush(&mut self) -> bool {
        let sent = Self::flush(self);
        sent.inspect_err(|error| debug!("operator at {}: {error}", self.peer())).is_ok()
    }
}

/// Runs an operation; false if the operator has disconnected meanwhile.
fn operate(
    core: &Core,
    asker: ConnectionAddrs,
    operation: &Operation,
    connection: &mut Connection,
) -> bool {
    info!("operator at {}: {operation:?}", asker.peer);
    let result = operate::run(core, asker, operation, connection);
    let ok = result.is_ok();
    let (Ok(line) | Err(line)) = result;
    let is_there = line.is_empty() || connection.line(line);
    connection.queue_link(&LinkMessage::LineEnd { ok });
    is_there && OperatorOutput::flush(connection)
}

fn answer_all(core: &Core, connection: &mut Connection) -> Result<(), WireError> {
    let asker = ConnectionAddrs::new(connection.peer().ip(), connection.local().ip());
    while let Some(message) = connection.read_link()? {
        match message {
            LinkMessage::Operate(operation) => {
                if !operate(core, asker, &operation, connection) {
                    break;
                }
            }
            LinkMessage::AskReport => {
                let report = core.report(asker);
                for slave in report.slaves {
                    connection.queue_link(&LinkMessage::SlaveReport(slave));
                }
                let Report { lsn, halted, lost, removals, removals_cap, .. } = report;
                let end = LinkMessage::ReportEnd { lsn, halted, lost, removals, removals_cap };
                connection.queue_link(&end);
            }
            other => {
                let unexpected = WireError::Unexpected(other.frame_type().number());
                connection.queue_reply(&Reply::Error(unexpected.into()));
            }
        }
        connection.flush()?;
    }
    Ok(())
}
