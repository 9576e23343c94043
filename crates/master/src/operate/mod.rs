//! Operators' operations. Each runs in the thread of the operator's link and prints lines to it.

mod diff;
mod drain;
mod export;
mod find;
mod forget;
mod outcome;
mod paths;
mod recover;
mod scrub;
mod slave_tree;
mod slaves;

use log::info;
use relais_cluster::ConnectionAddrs;
use relais_net::Connection;
use relais_proto::Operation;

use self::outcome::OperatorOutput;
use crate::core::Core;

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
    output.end(done)
}
