//! Making folders, here and there. One that is there already is as good.

use relais_proto::{ErrorCode, TreePath};

use super::names::NameChange;
use super::{PlanRunner, about};
use crate::Failure;
use crate::recursive::node::{Node, is_covered};

impl PlanRunner<'_> {
    /// Makes folders in the place, parents first.
    pub(super) fn make_local(&mut self, nodes: &[Node], picks: &[usize]) {
        for at in picks {
            let path = &nodes[*at].path;
            if self.is_interrupted() {
                return;
            }
            if is_covered(&self.barred, path) {
                continue;
            }
            match self.tree.make(path) {
                Ok(()) => self.report.summary.folders += 1,
                Err(error) => {
                    self.barred.insert(path.clone());
                    self.fail_local(path, &error);
                }
            }
        }
    }

    /// Makes folders on the server, parents first.
    pub(super) fn make_remote(&mut self, nodes: &[Node], picks: &[usize]) {
        self.in_rounds(picks.to_vec(), nodes, |run, picks| {
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
        // What lies below a folder that was refused is refused for that alone.
        if !is_covered(&self.barred, path) {
            let name = self.remote_name(path);
            self.fail(path, about(&name, failure));
        }
        self.barred.insert(path.clone());
    }

    /// Does `round` on what is left until nothing comes back because changes are not possible at the
    /// moment, or the time for that is over.
    pub(super) fn in_rounds(
        &mut self,
        mut picks: Vec<usize>,
        nodes: &[Node],
        mut round: impl FnMut(&mut Self, &[usize]) -> Result<Vec<usize>, Failure>,
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
                        self.fail(
                            &nodes[at].path,
                            Failure::new(ErrorCode::NoChanges, format!("{name}: {why}")),
                        );
                    }
                    return;
                }
                Err(failure) => return self.give_up(failure),
            }
        }
    }
}
