//! Gets the tree of a slave.

use std::collections::{BTreeMap, HashMap};

use relais_proto::{
    Annotations, ChangeId, LinkMessage, Lsn, ReplicaPosition, Timeline, TreeEntry, TreePath,
};

use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// The tree of a slave, with its position.
#[derive(Debug, Default)]
pub(super) struct SlaveTree {
    /// The entries, and whether the content is there.
    pub entries: BTreeMap<TreePath, (TreeEntry, bool)>,
    pub ids: HashMap<ChangeId, Lsn>,
    /// Properties, locks and hashes.
    pub annotations: Annotations,
    pub position: ReplicaPosition,
    /// The timelines of the changes that made it.
    pub timelines: Vec<Timeline>,
}

/// Gets the tree of a slave.
///
/// # Errors
/// The reason why the answer is incomplete.
pub(super) fn ask(core: &Core, of: &LinkedSlave, ids: bool) -> Result<SlaveTree, String> {
    let (mut tree, mut position, mut moved) = (SlaveTree::default(), None, false);
    let question = |query| LinkMessage::AskTree { query, ids };
    core.queries.ask(&core.slaves, of, question, |part| {
        moved |= *position.get_or_insert(part.position) != part.position;
        tree.entries
            .extend(part.entries.into_iter().map(|(path, entry, here)| (path, (entry, here))));
        tree.ids.extend(part.ids);
        tree.annotations.append(part.annotations);
        tree.timelines.extend(part.timelines);
        part.last
    })?;
    if moved {
        return Err("its tree changed during the query".to_owned());
    }
    tree.position = position.unwrap_or_default();
    Ok(tree)
}
