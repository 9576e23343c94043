//! Lists of slaves' paths that need attention: skipped names, and changes that a disk refuses.

use relais_proto::{LinkMessage, ListedPath, PathList, limits, pluralize};

use super::session::{OperationResult, OperatorSession};
use super::slaves::Slaves;
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// Gets a list of paths from a slave, and the number of further paths that it does not name.
///
/// It names at most [`limits::SHOWN_PATHS`].
///
/// # Errors
/// The reason why the answer is incomplete.
pub(super) fn ask(
    core: &Core,
    of: &LinkedSlave,
    list: PathList,
) -> Result<(Vec<ListedPath>, u64), String> {
    let (mut named, mut total) = (Vec::new(), 0);
    let question = |query| LinkMessage::AskPaths { query, list };
    core.lists
        .ask(&core.slaves, of, question, |part| {
            named.extend(part.paths);
            total = part.total;
            part.last
        })
        .map_err(|why| format!("cannot be asked: {why}"))?;
    named.truncate(limits::SHOWN_PATHS);
    let unnamed = total.saturating_sub(named.len() as u64);
    Ok((named, unnamed))
}

/// Lists the names in the slaves' folders that are not served, with the reasons.
pub(super) fn skipped(session: &mut OperatorSession<'_>) -> OperationResult {
    let slaves = Slaves::choose(session)?;
    let results = slaves.check_each(session, |session, of| {
        let (named, unnamed) = ask(session.core, of, PathList::Skipped)?;
        for note in &named {
            session.line(format!("{} {}: {}", of.slave, note.path, note.reason));
        }
        let all = pluralize(named.len() as u64 + unnamed, "name");
        let rest = match unnamed {
            0 => String::new(),
            rest => format!("; {rest} of them are not listed here"),
        };
        session.line_now(format!("slave {}: {all} skipped{rest}", of.slave));
        Ok(true)
    });
    slaves.result(results, String::new(), "", "could not be asked")
}
