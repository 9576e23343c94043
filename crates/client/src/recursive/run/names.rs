//! Pipelined changes of remote names: folders are made, names are removed.

use std::net::SocketAddr;

use relais_proto::{ChangeId, ErrorCode, TreePath};
use relais_transfer::pipeline::{PipelineError, PipelineHandler, PipelineReply, PipelineRequest};

use super::PlanRunner;
use crate::recursive::conversation::{
    ChangeIds, ConversationContext, run_conversation, stopped, under,
};
use crate::recursive::node::Node;
use crate::{Failure, Result};

/// The change of each name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameChange {
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
pub(super) struct RoundResult {
    /// Number of names that were made or removed.
    pub done: u64,
    /// Names to retry later.
    pub again: Vec<usize>,
    pub refused: Vec<(usize, Failure)>,
}

impl PlanRunner<'_> {
    /// Requests the change of each pick once.
    ///
    /// Results stay valid if the connection fails afterwards.
    pub(super) fn ask_names(
        &mut self,
        nodes: &[Node],
        picks: &[usize],
        change: NameChange,
    ) -> (RoundResult, Result<()>) {
        let context = ConversationContext::new(self.shell);
        let (ids, picks) = (&mut self.ids, picks.iter());
        let mut names = NameRequests {
            nodes,
            base: self.base,
            picks,
            change,
            ids,
            round: RoundResult::default(),
            context,
        };
        let ran = run_conversation(&mut self.shell.session, &self.shell.notices, &mut names);
        (names.round, ran.map(drop))
    }
}

/// Requests the changes; the tag is the index of the node.
struct NameRequests<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    change: NameChange,
    ids: &'a mut ChangeIds,
    round: RoundResult,
    context: ConversationContext,
}

impl PipelineHandler for NameRequests<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            match under(self.base, &self.nodes[at].path) {
                Ok(path) => {
                    return Some((u64::try_from(at).ok()?, self.change.ask(self.ids.next(), path)));
                }
                Err(failure) => self.round.refused.push((at, failure)),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        let Ok(at) = usize::try_from(tag) else { return Err(wrong()) };
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
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        self.context.moved(from, to);
    }

    fn interrupted(&self) -> bool {
        self.context.interrupted()
    }
}

fn wrong() -> PipelineError {
    stopped(failure!(BadServer, "a request for a change of names got a reply of another type"))
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
