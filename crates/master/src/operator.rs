//! The link of an operator: answers `ftpmaster status` and runs operations.

use log::debug;
use relais_cluster::ConnectionAddrs;
use relais_coordinator::OrderStatus;
use relais_net::Connection;
use relais_proto::{LinkMessage, Reply, WireError};

use crate::core::Core;
use crate::operate;

/// Serves an operator until the link ends.
pub(crate) fn serve(core: &Core, mut connection: Connection) {
    let peer = connection.peer();
    let asker = ConnectionAddrs::new(peer.ip(), connection.local().ip());
    while let Some(message) = next(&mut connection) {
        if let LinkMessage::Operate(operation) = &message {
            if operate::run(core, asker, operation, &mut connection) {
                continue;
            }
            return;
        }
        if message == LinkMessage::AskReport {
            core.reports(asker)
                .into_iter()
                .for_each(|report| connection.queue_link(&LinkMessage::SlaveReport(report)));
            let OrderStatus { lsn, halted, lost, removals } = core.order_status.get();
            let halted = halted.map_or_else(String::new, |halt| halt.why().to_owned());
            connection.queue_link(&LinkMessage::ReportEnd {
                lsn,
                halted,
                lost,
                removals: removals.0,
                removals_cap: removals.1,
            });
        } else {
            let unexpected = WireError::Unexpected(message.frame_type().number());
            connection.queue_reply(&Reply::Error(unexpected.into()));
        }
        if let Err(error) = connection.flush() {
            debug!("operator at {peer}: {error}");
            return;
        }
    }
}

fn next(connection: &mut Connection) -> Option<LinkMessage> {
    let peer = connection.peer();
    connection.read_link().unwrap_or_else(|error| {
        debug!("operator at {peer}: {error}");
        None
    })
}
