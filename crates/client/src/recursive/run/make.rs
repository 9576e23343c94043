//! Making of folders, local or remote. An existing folder is a success.

use relais_proto::TreePath;

use super::names::NameChange;
use super::{PlanRunner, about};
use crate::recursive::node::{Node, is_covered};
use crate::{Failure, Result};

impl PlanRunner<'_> {
    /// Makes local folders, parents first.
    pub(super) fn make_local(&mut self, nodes: &[Node], picks: &[usize]) {
        for at in picks {
            let path = &nodes[*at].path;
            if self.is_interrupted() {
                return;
            }
            if is_covered(&self.blocked_folders, path) {
                continue;
            }
            match self.tree.make(path) {
                Ok(()) => self.report.summary.folders += 1,
                Err(error) => {
                    self.blocked_folders.insert(path.clone());
                    self.fail_local(path, &error);
                }
            }
        }
    }

    /// Makes remote folders, parents first.
    pub(super) fn make_remote(&mut self, nodes: &[Node], picks: &[usize]) {
        self.retry_in_rounds(picks.to_vec(), nodes, |run, picks| {
            let picks = run.open_picks(nodes, picks);
            let (round, ran) = run.ask_names(nodes, &picks, NameChange::MakeFolder);
            run.report.summary.folders += round.done;
            for (at, failure) in round.refused {
                run.refused_folder(&nodes[at].path, failure);
            }
            ran.map(|()| round.again)
        });
    }

    fn refused_folder(&mut self, path: &TreePath, failure: Failure) {
        // Only the first refused folder is reported, not the folders below it.
        if !is_covered(&self.blocked_folders, path) {
            let name = self.remote_name(path);
            self.fail(path, about(&name, failure));
        }
        self.blocked_folders.insert(path.clone());
    }

    /// Repeats `round` with the names that it returns, while changes are not possible.
    ///
    /// The repetition ends when no name is left or the retry time is over.
    pub(super) fn retry_in_rounds(
        &mut self,
        mut picks: Vec<usize>,
        nodes: &[Node],
        mut round: impl FnMut(&mut Self, &[usize]) -> Result<Vec<usize>>,
    ) {
        let until = std::time::Instant::now() + self.shell.session.retry();
        while !picks.is_empty() {
            let mut why = String::new();
            let next = round(self, &picks).and_then(|again| {
                why = self.shell.session.why_no_changes("changes are not possible now");
                let more = again.is_empty() || self.shell.session.wait_for_changes(until)?;
                Ok((again, more))
            });
            match next {
                Ok((again, true)) => picks = again,
                Ok((again, false)) => {
                    for at in again {
                        let name = self.remote_name(&nodes[at].path);
                        self.fail(&nodes[at].path, failure!(NoChanges, "{name}: {why}"));
                    }
                    return;
                }
                Err(failure) => return self.fail_remaining(failure),
            }
        }
    }
}
