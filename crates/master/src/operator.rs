//! The link of an operator: answers `ftpmaster status` and runs operations.

use log::debug;
use relais_cluster::ConnectionAddrs;
use relais_net::Connection;
use relais_proto::{LinkMessage, Reply, WireError};

use crate::core::Core;
use crate::operate;
use crate::status::Report;

/// Serves an operator until the link ends.
pub(crate) fn serve(core: &Core, mut connection: Connection) {
    if let Err(error) = answer_all(core, &mut connection) {
        debug!("operator at {}: {error}", connection.peer());
    }
}

fn answer_all(core: &Core, connection: &mut Connection) -> Result<(), WireError> {
    let asker = ConnectionAddrs::new(connection.peer().ip(), connection.local().ip());
    while let Some(message) = connection.read_link()? {
        match message {
            LinkMessage::Operate(operation) => {
                if !operate::run(core, asker, &operation, connection) {
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
