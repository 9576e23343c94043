//! Making folders, here and there. One that is there already is as good.

use std::net::SocketAddr;

use relais_proto::{ErrorCode, TreePath};
use relais_transfer::pipeline::{Answer, Ask, Conversation, PipelineError};

use super::{Run, about};
use crate::Failure;
use crate::recursive::node::{Node, is_covered};
use crate::recursive::talk::{Follow, Ids, converse, stopped, under};

impl Run<'_> {
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
            match self.place.make(path) {
                Ok(()) => self.tally.several.folders += 1,
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
            let follow = Follow::new(run.shell);
            let mut make = Make {
                nodes,
                base: run.base,
                picks: picks.iter(),
                ids: &mut run.ids,
                made: 0,
                again: Vec::new(),
                refused: Vec::new(),
                follow,
            };
            converse(&mut run.shell.session, &run.shell.notices, &mut make)?;
            let (made, again, refused) = (make.made, make.again, make.refused);
            run.tally.several.folders += made;
            for (at, failure) in refused {
                run.refused_folder(&nodes[at].path, failure);
            }
            Ok(again)
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
            let next = round(self, &picks).and_then(|again| {
                let more = again.is_empty() || self.shell.session.wait_for_changes(until)?;
                Ok((again, more))
            });
            match next {
                Ok((again, true)) => picks = again,
                Ok((again, false)) => {
                    for at in again {
                        let name = self.remote_name(&nodes[at].path);
                        self.fail(&nodes[at].path, Failure::new(ErrorCode::NoChanges, format!("{name}: changes are not possible now")));
                    }
                    return;
                }
                Err(failure) => return self.give_up(failure),
            }
        }
    }
}

/// Asks for folders; the tag is the place of the node.
struct Make<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    ids: &'a mut Ids,
    made: u64,
    /// Those to be asked for again later.
    again: Vec<usize>,
    refused: Vec<(usize, Failure)>,
    follow: Follow,
}

impl Conversation for Make<'_> {
    fn next(&mut self) -> Option<(u64, Ask)> {
        loop {
            let at = *self.picks.next()?;
            match under(self.base, &self.nodes[at].path) {
                Ok(path) => return Some((u64::try_from(at).ok()?, Ask::MakeFolder { id: self.ids.next(), path })),
                Err(failure) => self.refused.push((at, failure)),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: Answer<'_>) -> Result<(), PipelineError> {
        let Ok(at) = usize::try_from(tag) else { return Err(wrong()) };
        match answer {
            Answer::Committed { .. } => self.made += 1,
            Answer::Refused(refusal) => match refusal.code {
                ErrorCode::Exists => self.made += 1,
                ErrorCode::NoChanges => self.again.push(at),
                // Its parent is to be made again.
                ErrorCode::NotFound if !self.again.is_empty() => self.again.push(at),
                _ => self.refused.push((at, refusal.into())),
            },
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn moved(&mut self, from: SocketAddr, to: SocketAddr) {
        self.follow.moved(from, to);
    }

    fn interrupted(&self) -> bool {
        self.follow.interrupted()
    }
}

fn wrong() -> PipelineError {
    stopped(Failure::bad_server("a request for a folder was answered with something else"))
}
