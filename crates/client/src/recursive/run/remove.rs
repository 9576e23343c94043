//! Removal of names, local or remote: one by one, deepest first, and only empty folders.

use relais_tree::TreeError;

use super::names::NameChange;
use super::{PlanRunner, about};
use crate::recursive::node::Node;

impl PlanRunner<'_> {
    /// Removes local names; returns how many were removed.
    pub(super) fn remove_local(&mut self, nodes: &[Node], picks: &[usize]) -> u64 {
        let mut gone = 0;
        for at in picks {
            if self.is_interrupted() {
                break;
            }
            let node = &nodes[*at];
            match self.tree.remove(&node.path, node.kind) {
                Ok(()) => gone += 1,
                // Another program removed it.
                Err(TreeError::NotFound) => {}
                Err(error) => self.fail_local(&node.path, &error),
            }
        }
        gone
    }

    /// Removes remote names; returns how many were removed.
    pub(super) fn remove_remote(&mut self, nodes: &[Node], picks: &[usize]) -> u64 {
        let mut gone = 0;
        self.retry_in_rounds(picks.to_vec(), nodes, |run, picks| {
            let (round, ran) = run.ask_names(nodes, picks, NameChange::Remove);
            gone += round.done;
            for (at, failure) in round.refused {
                let name = run.remote_name(&nodes[at].path);
                run.fail(&nodes[at].path, about(&name, failure));
            }
            ran.map(|()| round.again)
        });
        gone
    }
}
