//! Making of folders and removal of names on the target side, local or remote.

use relais_proto::{ErrorCode, Expect, Request};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest};
use relais_tree::TreeError;

use super::batch::{Batch, Direction};
use super::conversation::{Conversation, converse};
use super::node::Node;
use crate::Result;
use crate::output::Output;
use crate::shell::Shell;

/// A change of the target side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameChange {
    /// Makes folders, parents first; an existing folder is a success.
    MakeFolder,
    /// Removes names, deepest first; a name that vanished meanwhile is not counted.
    Remove,
}

impl NameChange {
    /// Returns how many names a refused change counts for; none if it failed.
    fn refused(self, code: ErrorCode) -> Option<u64> {
        match (self, code) {
            (Self::MakeFolder, ErrorCode::Exists) => Some(1),
            (Self::Remove, ErrorCode::NotFound) => Some(0),
            _ => None,
        }
    }
}

impl Batch<'_> {
    /// Changes names on the target side, and returns how many were changed.
    pub fn change_names(
        &mut self,
        shell: &mut Shell,
        nodes: &[Node],
        picks: &[usize],
        change: NameChange,
    ) -> u64 {
        let mut names = NameChanges { batch: self, nodes, picks: picks.iter(), change, done: 0 };
        if names.batch.direction == Direction::Down {
            names.change_local(shell);
        } else if let Err(failure) = converse(shell, &mut names) {
            // The changes that were answered before stay valid.
            names.batch.fail_remaining(&mut shell.output, failure);
        }
        names.done
    }
}

/// The changes of a step; the number of a remote request is the index of its node.
struct NameChanges<'a, 'b> {
    batch: &'a mut Batch<'b>,
    nodes: &'a [Node],
    picks: std::slice::Iter<'a, usize>,
    change: NameChange,
    /// Number of names that were made or removed.
    done: u64,
}

impl NameChanges<'_, '_> {
    fn change_local(&mut self, shell: &mut Shell) {
        while let Some(at) = self.batch.next_open(self.nodes, &mut self.picks) {
            if self.batch.is_over(shell) {
                return;
            }
            let Node { path, kind, .. } = &self.nodes[at];
            let changed = match self.change {
                NameChange::MakeFolder => self.batch.tree.make(path),
                NameChange::Remove => self.batch.tree.remove(path, *kind),
            };
            match changed {
                Ok(()) => self.done += 1,
                Err(TreeError::NotFound) if self.change == NameChange::Remove => {}
                Err(error) => {
                    self.batch.fail_local(&mut shell.output, path, &error);
                    self.block(at);
                }
            }
        }
    }

    /// Skips all names below a folder that could not be made.
    fn block(&mut self, at: usize) {
        if self.change == NameChange::MakeFolder {
            self.batch.blocked_folders.insert(self.nodes[at].path.clone());
        }
    }
}

impl Conversation for NameChanges<'_, '_> {
    fn next(&mut self, output: &mut Output) -> Option<(usize, PipelineRequest)> {
        let (at, path) = self.batch.next_remote(output, self.nodes, &mut self.picks)?;
        let id = self.batch.ids.next();
        let request = match self.change {
            NameChange::MakeFolder => Request::MakeFolder { id, path },
            NameChange::Remove => {
                Request::Remove { id, path, recursive: false, expect: Expect::Any }
            }
        };
        Some((at, request.into()))
    }

    fn answer(&mut self, output: &mut Output, at: usize, answer: PipelineReply<'_>) -> Result<()> {
        let PipelineReply::Refused(refusal) = answer else {
            self.done += 1;
            return Ok(());
        };
        if let Some(done) = self.change.refused(refusal.code) {
            self.done += done;
            return Ok(());
        }
        // Only the first refused folder is reported, not the folders below it.
        if self.batch.is_open(&self.nodes[at]) {
            self.batch.fail(output, &self.nodes[at].path, refusal.into());
        }
        self.block(at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_classified() {
        use ErrorCode::{Denied, Exists, NoChanges, NotEmpty, NotFound};
        for (change, code, action) in [
            (NameChange::MakeFolder, Exists, Some(1)),
            (NameChange::MakeFolder, NotFound, None),
            (NameChange::Remove, NotFound, Some(0)),
            (NameChange::Remove, NotEmpty, None),
            (NameChange::Remove, Exists, None),
            (NameChange::Remove, NoChanges, None),
            (NameChange::Remove, Denied, None),
        ] {
            assert_eq!(change.refused(code), action, "{change:?}, {code:?}");
        }
    }
}
