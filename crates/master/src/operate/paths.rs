//! Paths of the slaves that need an operator's eye: names that are not served, and what a disk refuses.

use relais_proto::{LinkMessage, ListedPath, PathList, pluralize};

use super::{Done, Outcome, Teller};
use crate::core::Core;
use crate::links::Linked;

/// A slave's list, as far as it names the paths.
#[derive(Debug, Default)]
pub(super) struct Paths {
    pub named: Vec<ListedPath>,
    /// How many there are.
    pub total: u64,
}

/// Asks a slave for a list of paths; at most [`relais_proto::limits::SHOWN_PATHS`] are named.
///
/// # Errors
/// Why it did not come whole.
pub(super) fn ask(core: &Core, of: &Linked, list: PathList) -> Result<Paths, String> {
    let mut paths = Paths::default();
    core.lists.ask(
        &core.links,
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

/// Names in the slaves' folders that are not served, each with its reason.
pub(super) fn skipped(core: &Core, tell: &mut Teller<'_>) -> Done {
    let linked = core.links.one_of_each_folder();
    if linked.is_empty() {
        return Err("no slave is linked".to_owned());
    }
    let mut unasked = 0;
    for of in &linked {
        match ask(core, of, PathList::Skipped) {
            Ok(Paths { named, total }) => {
                for note in &named {
                    tell.line(format!("{} {}: {}", of.slave, note.path, note.reason));
                }
                let rest = total.saturating_sub(named.len() as u64);
                let rest = if rest > 0 {
                    format!("; {rest} of them are not listed here")
                } else {
                    String::new()
                };
                tell.say(format!("slave {}: {} skipped{rest}", of.slave, pluralize(total, "name")));
            }
            Err(why) => {
                unasked += 1;
                tell.say(format!("slave {}: cannot be asked: {why}", of.slave));
            }
        }
        if tell.is_gone() {
            break;
        }
    }
    Ok(match unasked {
        0 => Outcome { said: None, ok: true },
        n => Outcome::failed(format!(
            "{n} of {} could not be asked",
            pluralize(linked.len(), "slave")
        )),
    })
}
