//! Removing names, here and there: one by one, the deepest first, never a folder with what is in it.

use std::net::SocketAddr;

use relais_proto::{ErrorCode, TreePath};
use relais_transfer::pipeline::{Answer, Ask, Conversation, PipelineError};
use relais_tree::TreeError;

use super::{Run, about};
use crate::Failure;
use crate::recursive::node::Node;
use crate::recursive::talk::{Follow, Ids, converse, stopped, under};

impl Run<'_> {
    /// Removes names of the place; how many went.
    pub(super) fn remove_local(&mut self, nodes: &[Node], picks: &[usize]) -> u64 {
        let mut gone = 0;
        for at in picks {
            if self.is_interrupted() {
                break;
            }
            let node = &nodes[*at];
            match self.place.remove(&node.path, node.kind) {
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
            let follow = Follow::new(run.shell);
            let mut remove = Remove {
                nodes,
                base: run.base,
                picks: picks.iter(),
                ids: &mut run.ids,
                gone: 0,
                again: Vec::new(),
                refused: Vec::new(),
                follow,
            };
            let ran = converse(&mut run.shell.session, &run.shell.notices, &mut remove);
            let (now, again, refused) = (remove.gone, remove.again, remove.refused);
            gone += now;
            for (at, failure) in refused {
                let name = run.remote_name(&nodes[at].path);
                run.fail(&nodes[at].path, about(&name, failure));
            }
            ran.map(|_| again)
        });
        gone
    }
}

/// Asks for removals; the tag is the place of the node.
struct Remove<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    ids: &'a mut Ids,
    gone: u64,
    /// Those to be asked for again later.
    again: Vec<usize>,
    refused: Vec<(usize, Failure)>,
    follow: Follow,
}

impl Conversation for Remove<'_> {
    fn next(&mut self) -> Option<(u64, Ask)> {
        loop {
            let at = *self.picks.next()?;
            match under(self.base, &self.nodes[at].path) {
                Ok(path) => return Some((u64::try_from(at).ok()?, Ask::Remove { id: self.ids.next(), path, recursive: false })),
                Err(failure) => self.refused.push((at, failure)),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: Answer<'_>) -> Result<(), PipelineError> {
        let Ok(at) = usize::try_from(tag) else { return Err(wrong()) };
        match answer {
            Answer::Committed { .. } => self.gone += 1,
            Answer::Refused(refusal) => match refusal.code {
                // Somebody else removed it.
                ErrorCode::NotFound => {}
                ErrorCode::NoChanges => self.again.push(at),
                // What it holds is to be removed again first.
                ErrorCode::NotEmpty if !self.again.is_empty() => self.again.push(at),
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
    stopped(Failure::bad_server("a request to remove a name was answered with something else"))
}
