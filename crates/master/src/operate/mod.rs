//! Operators' operations. Each runs in the thread of the operator's link and prints lines to it.

mod diff;
mod drain;
mod export;
mod find;
mod forget;
mod paths;
mod recover;
mod scrub;
mod session;
mod slave_tree;
mod slaves;

use log::info;
use relais_cluster::ConnectionAddrs;
use relais_net::Connection;
use relais_proto::Operation;

use self::session::OperatorSession;
use crate::core::Core;

/// Runs an operation for the operator at `asker`; false if the operator has disconnected.
pub(crate) fn run(
    core: &Core,
    asker: ConnectionAddrs,
    operation: &Operation,
    connection: &mut Connection,
) -> bool {
    info!("operator at {}: {operation:?}", asker.peer);
    let mut session = OperatorSession::new(core, asker, connection);
    let done = match operation {
        Operation::Drain(slave) => drain::drain(&mut session, slave),
        Operation::Ready(slave) => drain::ready(&session, slave),
        Operation::Forget(slave) => forget::forget(&session, slave),
        Operation::Diff => diff::diff(&mut session),
        Operation::Scrub { wait } => scrub::scrub(&mut session, *wait),
        Operation::Skipped => paths::skipped(&mut session),
        Operation::Recover { go } => recover::recover(&mut session, *go),
        Operation::Export => export::export(&mut session),
    };
    session.end(done)
}
