//! Removing names, here and there: one by one, the deepest first, never a folder with what is in it.

use relais_tree::TreeError;

use super::names::NameChange;
use super::{PlanRunner, about};
use crate::recursive::node::Node;

impl PlanRunner<'_> {
    /// Removes names of the place; how many went.
    pub(super) fn remove_local(&mut self, nodes: &[Node], picks: &[usize]) -> u64 {
        let mut gone = 0;
        for at in picks {
            if self.is_interrupted() {
                break;
            }
            let node = &nodes[*at];
            match self.tree.remove(&node.path, node.kind) {
                Ok(()) => gone += 1,
                // Somebody else removed it.
                Err(TreeError::NotFound) => {}
                Err(error) => self.fail_local(&node.path, &error),
            }
        }
        gone
    }

    /// Removes names on the server; how many went.
    pub(super) fn remove_remote(&mut self, nodes: &[Node], picks: &[usize]) -> u64 {
        let mut gone = 0;
        self.in_rounds(picks.to_vec(), nodes, |run, picks| {
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
