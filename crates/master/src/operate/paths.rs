//! Lists of slaves' paths that need attention: skipped names, and changes that a disk refuses.

use relais_cluster::ConnectionAddrs;
use relais_proto::{LinkMessage, ListedPath, PathList, pluralize};

use super::outcome::{OperationResult, OperatorOutput};
use super::slaves::{self, Slaves};
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// A slave's list of paths.
#[derive(Debug, Default)]
pub(super) struct PathListing {
    pub named: Vec<ListedPath>,
    /// The number of paths, the unnamed ones included.
    pub total: u64,
}

/// Gets a list of paths from a slave; it names at most [`relais_proto::limits::SHOWN_PATHS`].
///
/// # Errors
/// The reason why the answer is incomplete.
pub(super) fn ask(core: &Core, of: &LinkedSlave, list: PathList) -> Result<PathListing, String> {
    let mut paths = PathListing::default();
    core.lists.ask(
        &core.slaves,
        of,
        |query| LinkMessage::AskPaths { query, list },
        |part| {
            paths.named.extend(part.paths);
            paths.total = part.total;
        },
    )?;
    paths.named.truncate(relais_proto::limits::SHOWN_PATHS);
    Ok(paths)
}

/// Lists the names in the slaves' folders that are not served, with the reasons.
pub(super) fn skipped(
    core: &Core,
    asker: ConnectionAddrs,
    output: &mut OperatorOutput<'_>,
) -> OperationResult {
    let Slaves { linked, absent } = slaves::choose(core, asker, output)?;
    let mut unasked = absent;
    for of in &linked {
        match ask(core, of, PathList::Skipped) {
            Ok(PathListing { named, total }) => {
                for note in &named {
                    output.line(format!("{} {}: {}", of.slave, note.path, note.reason));
                }
                let rest = total.saturating_sub(named.len() as u64);
                let rest = if rest > 0 {
                    format!("; {rest} of them are not listed here")
                } else {
                    String::new()
                };
                output.line_now(format!(
                    "slave {}: {} skipped{rest}",
                    of.slave,
                    pluralize(total, "name")
                ));
            }
            Err(why) => {
                unasked += 1;
                output.line_now(format!("slave {}: cannot be asked: {why}", of.slave));
            }
        }
        if output.is_gone() {
            break;
        }
    }
    match unasked {
        0 => Ok(String::new()),
        n => {
            Err(format!("{n} of {} could not be asked", pluralize(linked.len() + absent, "slave")))
        }
    }
}
