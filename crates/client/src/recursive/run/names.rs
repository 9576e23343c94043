//! Changes of names on the server, one request a name, sent ahead: folders made, names removed.

use std::net::SocketAddr;

use relais_proto::{ChangeId, ErrorCode, TreePath};
use relais_transfer::pipeline::{Answer, Ask, Conversation, PipelineError};

use super::Run;
use crate::Failure;
use crate::recursive::node::Node;
use crate::recursive::talk::{Follow, Ids, converse, stopped, under};

/// What each name is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A folder. One that is there already is as good.
    Folder,
    /// Gone. One that somebody else removed is not counted.
    Gone,
}

/// What a refusal comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    NotNeeded,
    Again,
    Refused,
}

impl Wanted {
    fn ask(self, id: ChangeId, path: TreePath) -> Ask {
        match self {
            Self::Folder => Ask::MakeFolder { id, path },
            Self::Gone => Ask::Remove { id, path, recursive: false },
        }
    }

    /// `waiting`: an earlier name is to be asked for again.
    fn refused(self, code: ErrorCode, waiting: bool) -> Verdict {
        match (self, code) {
            (_, ErrorCode::NoChanges) => Verdict::Again,
            (Self::Folder, ErrorCode::Exists) => Verdict::Done,
            (Self::Gone, ErrorCode::NotFound) => Verdict::NotNeeded,
            // Its parent is to be made first, or what it holds is to be removed first.
            (Self::Folder, ErrorCode::NotFound) | (Self::Gone, ErrorCode::NotEmpty) if waiting => {
                Verdict::Again
            }
            _ => Verdict::Refused,
        }
    }
}

/// What came of one round; names are told by their place among the nodes.
#[derive(Default)]
pub(super) struct Round {
    /// How many were made or removed.
    pub done: u64,
    /// Those to be asked for again later.
    pub again: Vec<usize>,
    pub refused: Vec<(usize, Failure)>,
}

impl Run<'_> {
    /// Asks for each pick once; what was answered stands also where the connection failed behind it.
    pub(super) fn ask_names(
        &mut self,
        nodes: &[Node],
        picks: &[usize],
        wanted: Wanted,
    ) -> (Round, Result<(), Failure>) {
        let follow = Follow::new(self.shell);
        let (ids, picks) = (&mut self.ids, picks.iter());
        let mut names =
            Names { nodes, base: self.base, picks, wanted, ids, round: Round::default(), follow };
        let ran = converse(&mut self.shell.session, &self.shell.notices, &mut names);
        (names.round, ran.map(drop))
    }
}

/// Asks for the changes; the tag is the place of the node.
struct Names<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    wanted: Wanted,
    ids: &'a mut Ids,
    round: Round,
    follow: Follow,
}

impl Conversation for Names<'_> {
    fn next(&mut self) -> Option<(u64, Ask)> {
        loop {
            let at = *self.picks.next()?;
            match under(self.base, &self.nodes[at].path) {
                Ok(path) => {
                    return Some((u64::try_from(at).ok()?, self.wanted.ask(self.ids.next(), path)));
                }
                Err(failure) => self.round.refused.push((at, failure)),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: Answer<'_>) -> Result<(), PipelineError> {
        let Ok(at) = usize::try_from(tag) else { return Err(wrong()) };
        let round = &mut self.round;
        match answer {
            Answer::Committed { .. } => round.done += 1,
            Answer::Refused(refusal) => {
                match self.wanted.refused(refusal.code, !round.again.is_empty()) {
                    Verdict::Done => round.done += 1,
                    Verdict::NotNeeded => {}
                    Verdict::Again => round.again.push(at),
                    Verdict::Refused => round.refused.push((at, refusal.into())),
                }
            }
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
    stopped(Failure::bad_server("a request for a change of names was answered with something else"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_are_none() {
        use ErrorCode::{Denied, Exists, NoChanges, NotEmpty, NotFound};
        for (wanted, code, waiting, verdict) in [
            (Wanted::Folder, Exists, false, Verdict::Done),
            (Wanted::Folder, NotFound, false, Verdict::Refused),
            (Wanted::Folder, NotFound, true, Verdict::Again),
            (Wanted::Gone, NotFound, true, Verdict::NotNeeded),
            (Wanted::Gone, NotEmpty, false, Verdict::Refused),
            (Wanted::Gone, NotEmpty, true, Verdict::Again),
            (Wanted::Gone, Exists, true, Verdict::Refused),
            (Wanted::Folder, NoChanges, false, Verdict::Again),
            (Wanted::Gone, NoChanges, false, Verdict::Again),
            (Wanted::Gone, Denied, true, Verdict::Refused),
        ] {
            assert_eq!(
                wanted.refused(code, waiting),
                verdict,
                "{wanted:?}, {code:?}, waiting: {waiting}"
            );
        }
    }
}
