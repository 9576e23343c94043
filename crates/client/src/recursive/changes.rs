//! Making of folders and removal of names, local or remote.

use relais_proto::{ChangeId, ErrorCode, Expect, Request, TreePath};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest};
use relais_tree::TreeError;

use super::batch::Batch;
use super::conversation::{ChangeIds, Conversation, converse};
use super::node::{Node, is_covered, under};
use crate::shell::Shell;
use crate::{Failure, Result};

/// Makes local folders, parents first. An existing folder is a success.
pub fn make_local(batch: &mut Batch<'_>, shell: &mut Shell, nodes: &[Node], picks: &[usize]) {
    for at in picks {
        let path = &nodes[*at].path;
        if batch.is_over(shell) {
            return;
        }
        if is_covered(&batch.blocked_folders, path) {
            continue;
        }
        match batch.tree.make(path) {
            Ok(()) => batch.report.summary.folders += 1,
            Err(error) => {
                batch.blocked_folders.insert(path.clone());
                batch.fail_local(&mut shell.output, path, &error);
            }
        }
    }
}

/// Makes remote folders, parents first. An existing folder is a success.
pub fn make_remote(batch: &mut Batch<'_>, shell: &mut Shell, nodes: &[Node], picks: &[usize]) {
    let picks = batch.open_picks(nodes, picks);
    let (changed, ran) = ask(batch, shell, nodes, &picks, NameChange::MakeFolder);
    batch.report.summary.folders += changed.done;
    for (at, failure) in changed.refused {
        let path = &nodes[at].path;
        // Only the first refused folder is reported, not the folders below it.
        if !is_covered(&batch.blocked_folders, path) {
            batch.fail(&mut shell.output, path, failure);
        }
        batch.blocked_folders.insert(path.clone());
    }
    if let Err(failure) = ran {
        batch.fail_remaining(&mut shell.output, failure);
    }
}

/// Removes local names, deepest first; returns the number of removed names.
pub fn remove_local(
    batch: &mut Batch<'_>,
    shell: &mut Shell,
    nodes: &[Node],
    picks: &[usize],
) -> u64 {
    let mut gone = 0;
    for at in picks {
        if batch.is_over(shell) {
            break;
        }
        let node = &nodes[*at];
        match batch.tree.remove(&node.path, node.kind) {
            Ok(()) => gone += 1,
            Err(TreeError::NotFound) => {}
            Err(error) => batch.fail_local(&mut shell.output, &node.path, &error),
        }
    }
    gone
}

/// Removes remote names, deepest first; returns the number of removed names.
pub fn remove_remote(
    batch: &mut Batch<'_>,
    shell: &mut Shell,
    nodes: &[Node],
    picks: &[usize],
) -> u64 {
    let (changed, ran) = ask(batch, shell, nodes, picks, NameChange::Remove);
    for (at, failure) in changed.refused {
        batch.fail(&mut shell.output, &nodes[at].path, failure);
    }
    if let Err(failure) = ran {
        batch.fail_remaining(&mut shell.output, failure);
    }
    changed.done
}

/// A change of the remote tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameChange {
    /// Makes a folder; an existing one is a success.
    MakeFolder,
    /// Removes a name; one that vanished meanwhile is not counted.
    Remove,
}

/// The consequence of a refusal.
#[derive(Debug, PartialEq, Eq)]
enum RefusalAction {
    Done,
    NotNeeded,
    Refused,
}

impl NameChange {
    fn ask(self, id: ChangeId, path: TreePath) -> Request {
        match self {
            Self::MakeFolder => Request::MakeFolder { id, path },
            Self::Remove => Request::Remove { id, path, recursive: false, expect: Expect::Any },
        }
    }

    /// Classifies a refusal.
    fn refused(self, code: ErrorCode) -> RefusalAction {
        match (self, code) {
            (Self::MakeFolder, ErrorCode::Exists) => RefusalAction::Done,
            (Self::Remove, ErrorCode::NotFound) => RefusalAction::NotNeeded,
            _ => RefusalAction::Refused,
        }
    }
}

/// The result of the requests; names are indices of nodes.
#[derive(Default)]
struct ChangedNames {
    /// Number of names that were made or removed.
    done: u64,
    refused: Vec<(usize, Failure)>,
}

/// Requests the change of each pick once.
///
/// Results stay valid if the connection fails afterwards.
fn ask(
    batch: &mut Batch<'_>,
    shell: &mut Shell,
    nodes: &[Node],
    picks: &[usize],
    change: NameChange,
) -> (ChangedNames, Result<()>) {
    let mut names = NameRequests {
        nodes,
        base: batch.base,
        picks: picks.iter(),
        change,
        ids: &mut batch.ids,
        changed: ChangedNames::default(),
    };
    let ran = converse(&mut shell.session, &shell.notices, &shell.interrupt, &mut names);
    (names.changed, ran.map(drop))
}

/// Requests the changes; a request's number is the index of its node.
struct NameRequests<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    change: NameChange,
    ids: &'a mut ChangeIds,
    changed: ChangedNames,
}

impl Conversation for NameRequests<'_> {
    fn next(&mut self) -> Option<(usize, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            match under(self.base, &self.nodes[at].path) {
                Ok(path) => return Some((at, self.change.ask(self.ids.next(), path).into())),
                Err(failure) => self.changed.refused.push((at, failure)),
            }
        }
    }

    fn answer(&mut self, at: usize, answer: PipelineReply<'_>) -> Result<bool> {
        let round = &mut self.changed;
        match answer {
            PipelineReply::Committed { .. } => round.done += 1,
            PipelineReply::Refused(refusal) => match self.change.refused(refusal.code) {
                RefusalAction::Done => round.done += 1,
                RefusalAction::NotNeeded => {}
                RefusalAction::Refused => round.refused.push((at, refusal.into())),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_classified() {
        use ErrorCode::{Denied, Exists, NoChanges, NotEmpty, NotFound};
        for (change, code, action) in [
            (NameChange::MakeFolder, Exists, RefusalAction::Done),
            (NameChange::MakeFolder, NotFound, RefusalAction::Refused),
            (NameChange::Remove, NotFound, RefusalAction::NotNeeded),
            (NameChange::Remove, NotEmpty, RefusalAction::Refused),
            (NameChange::Remove, Exists, RefusalAction::Refused),
            (NameChange::Remove, NoChanges, RefusalAction::Refused),
            (NameChange::Remove, Denied, RefusalAction::Refused),
        ] {
            assert_eq!(change.refused(code), action, "{change:?}, {code:?}");
        }
    }
}
