//! A slave's tree, as it tells it when it is asked.

use std::collections::{BTreeMap, HashMap};

use relais_proto::{ChangeId, LinkMessage, Lsn, ReplicaPosition, Timeline, TreeEntry, TreePath};

use crate::core::Core;
use crate::links::Linked;

/// A tree, and where its folder stands.
#[derive(Debug, Default)]
pub(super) struct SlaveTree {
    /// Entries, and whether the content is there.
    pub entries: BTreeMap<TreePath, (TreeEntry, bool)>,
    pub ids: HashMap<ChangeId, Lsn>,
    pub position: ReplicaPosition,
    /// Which masters have numbered the changes that made it.
    pub timelines: Vec<Timeline>,
}

/// Asks a slave for its tree.
///
/// # Errors
/// Why it did not come whole.
pub(super) fn ask(core: &Core, of: &Linked, ids: bool) -> Result<SlaveTree, String> {
    let (mut tree, mut position, mut moved) = (SlaveTree::default(), None, false);
    let question = |query| LinkMessage::AskTree { query, ids };
    core.queries.ask(&core.links, of, question, |part| {
        moved |= *position.get_or_insert(part.position) != part.position;
        tree.entries
            .extend(part.entries.into_iter().map(|(path, entry, here)| (path, (entry, here))));
        tree.ids.extend(part.ids);
        tree.timelines.extend(part.timelines);
    })?;
    if moved {
        return Err("its tree changed while it was told".to_owned());
    }
    tree.position = position.unwrap_or_default();
    Ok(tree)
}
