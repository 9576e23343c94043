//! Operators' operations. Each runs in a thread of its operator and prints lines to an output.

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

use relais_cluster::ConnectionAddrs;
use relais_proto::Operation;

pub(crate) use self::find::find_slave;
use self::session::OperatorSession;
pub(crate) use self::session::{OperationResult, OperatorOutput};
use crate::core::Core;

/// Runs an operation for the operator at `asker`, and returns its result.
///
/// The last line is not part of the output. It may be empty.
pub(crate) fn run(
    core: &Core,
    asker: ConnectionAddrs,
    operation: &Operation,
    output: &mut dyn OperatorOutput,
) -> OperationResult {
    let mut session = OperatorSession::new(core, asker, output);
    match operation {
        Operation::Drain(slave) => drain::drain(&mut session, slave),
        Operation::Ready(slave) => drain::ready(&session, slave),
        Operation::Forget(slave) => forget::forget(&session, slave),
        Operation::Diff => diff::diff(&mut session),
        Operation::Scrub { wait } => scrub::scrub(&mut session, *wait),
        Operation::Skipped => paths::skipped(&mut session),
        Operation::Recover { go } => recover::recover(&mut session, *go),
        Operation::Export => export::export(&mut session),
    }
}
