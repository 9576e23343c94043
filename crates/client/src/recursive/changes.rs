//! Making of folders and removal of names, local or remote.

use relais_proto::{ChangeId, ErrorCode, TreePath};
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
    batch.retry_in_rounds(shell, nodes, picks.to_vec(), |batch, shell, picks| {
        let picks = batch.open_picks(nodes, picks);
        let (round, ran) = ask(batch, shell, nodes, &picks, NameChange::MakeFolder);
        batch.report.summary.folders += round.done;
        for (at, failure) in round.refused {
            let path = &nodes[at].path;
            // Only the first refused folder is reported, not the folders below it.
            if !is_covered(&batch.blocked_folders, path) {
                batch.fail(&mut shell.output, path, failure);
            }
            batch.blocked_folders.insert(path.clone());
        }
        ran.map(|()| round.again)
    });
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
    let mut gone = 0;
    batch.retry_in_rounds(shell, nodes, picks.to_vec(), |batch, shell, picks| {
        let (round, ran) = ask(batch, shell, nodes, picks, NameChange::Remove);
        gone += round.done;
        for (at, failure) in round.refused {
            batch.fail(&mut shell.output, &nodes[at].path, failure);
        }
        ran.map(|()| round.again)
    });
    gone
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
    Again,
    Refused,
}

impl NameChange {
    fn ask(self, id: ChangeId, path: TreePath) -> PipelineRequest {
        match self {
            Self::MakeFolder => PipelineRequest::MakeFolder { id, path },
            Self::Remove => PipelineRequest::Remove { id, path, recursive: false },
        }
    }

    /// Classifies a refusal; `waiting` means that an earlier name will be retried.
    fn refused(self, code: ErrorCode, waiting: bool) -> RefusalAction {
        match (self, code) {
            (_, ErrorCode::NoChanges) => RefusalAction::Again,
            (Self::MakeFolder, ErrorCode::Exists) => RefusalAction::Done,
            (Self::Remove, ErrorCode::NotFound) => RefusalAction::NotNeeded,
            // Its parent must be made first, or its content must be removed first.
            (Self::MakeFolder, ErrorCode::NotFound) | (Self::Remove, ErrorCode::NotEmpty)
                if waiting =>
            {
                RefusalAction::Again
            }
            _ => RefusalAction::Refused,
        }
    }
}

/// The result of one round; names are indices of nodes.
#[derive(Default)]
struct RoundResult {
    /// Number of names that were made or removed.
    done: u64,
    /// Names to retry later.
    again: Vec<usize>,
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
) -> (RoundResult, Result<()>) {
    let mut names = NameRequests {
        nodes,
        base: batch.base,
        picks: picks.iter(),
        change,
        ids: &mut batch.ids,
        round: RoundResult::default(),
    };
    let ran = converse(&mut shell.session, &shell.notices, &shell.interrupt, &mut names);
    (names.round, ran.map(drop))
}

/// Requests the changes; a request's number is the index of its node.
struct NameRequests<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    change: NameChange,
    ids: &'a mut ChangeIds,
    round: RoundResult,
}

impl Conversation for NameRequests<'_> {
    fn next(&mut self) -> Option<(usize, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            match under(self.base, &self.nodes[at].path) {
                Ok(path) => return Some((at, self.change.ask(self.ids.next(), path))),
                Err(failure) => self.round.refused.push((at, failure)),
            }
        }
    }

    fn answer(&mut self, at: usize, answer: PipelineReply<'_>) -> Result<bool> {
        let round = &mut self.round;
        match answer {
            PipelineReply::Committed { .. } => round.done += 1,
            PipelineReply::Refused(refusal) => {
                match self.change.refused(refusal.code, !round.again.is_empty()) {
                    RefusalAction::Done => round.done += 1,
                    RefusalAction::NotNeeded => {}
                    RefusalAction::Again => round.again.push(at),
                    RefusalAction::Refused => round.refused.push((at, refusal.into())),
                }
            }
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
        for (change, code, waiting, action) in [
            (NameChange::MakeFolder, Exists, false, RefusalAction::Done),
            (NameChange::MakeFolder, NotFound, false, RefusalAction::Refused),
            (NameChange::MakeFolder, NotFound, true, RefusalAction::Again),
            (NameChange::Remove, NotFound, true, RefusalAction::NotNeeded),
            (NameChange::Remove, NotEmpty, false, RefusalAction::Refused),
            (NameChange::Remove, NotEmpty, true, RefusalAction::Again),
            (NameChange::Remove, Exists, true, RefusalAction::Refused),
            (NameChange::MakeFolder, NoChanges, false, RefusalAction::Again),
            (NameChange::Remove, NoChanges, false, RefusalAction::Again),
            (NameChange::Remove, Denied, true, RefusalAction::Refused),
        ] {
            assert_eq!(
                change.refused(code, waiting),
                action,
                "{change:?}, {code:?}, waiting: {waiting}"
            );
        }
    }
}
