//! Fetching files: small ones through one pipeline, large ones one by one.

use std::net::SocketAddr;

use relais_proto::TreePath;
use relais_transfer::pipeline::{Answer, Ask, Conversation, PipelineError, SMALL};

use super::{LOGGED, Run, about, failure, remote_name};
use crate::Failure;
use crate::output::Output;
use crate::receive::Job;
use crate::recursive::node::Node;
use crate::recursive::place::Place;
use crate::recursive::progress::Whole;
use crate::recursive::talk::{Follow, converse, stopped, under};
use crate::recursive::tally::Tally;

impl Run<'_> {
    /// Fetches files into the place.
    pub(super) fn fetch(&mut self, nodes: &[Node], picks: &[usize]) {
        let picks = self.open_picks(nodes, picks);
        let follow = Follow::new(self.shell);
        let mut fetch = Fetch {
            nodes,
            base: self.base,
            picks: picks.iter(),
            large: Vec::new(),
            place: self.place,
            tally: self.tally,
            output: &mut self.shell.output,
            whole: &mut self.whole,
            follow,
        };
        let ran = converse(&mut self.shell.session, &self.shell.notices, &mut fetch);
        let large = fetch.large;
        match ran {
            Ok(ran) => self
                .tally
                .several
                .served_by(&ran.servers.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Err(failure) => return self.give_up(failure),
        }
        for at in large {
            if self.tally.is_over() || self.is_interrupted() {
                return;
            }
            self.fetch_large(&nodes[at]);
        }
    }

    fn fetch_large(&mut self, node: &Node) {
        self.whole.large(&node.path);
        match self.receive_large(node) {
            Ok(bytes) => self.whole.done(&node.path, bytes),
            Err(failure) => {
                let name = self.remote_name(&node.path);
                self.fail(&node.path, about(&name, failure));
            }
        }
    }

    fn receive_large(&mut self, node: &Node) -> Result<u64, Failure> {
        let remote = under(self.base, &node.path)?;
        let shown = self.place.shown(&node.path);
        let (target, folder) = self.place.target(&node.path).map_err(|e| failure(&shown, &e))?;
        let logged =
            if node.size > LOGGED { self.shell.local.logged(&target)? } else { String::new() };
        let job = Job { remote, target, logged };
        let received = self.shell.receive(&job, folder)?;
        self.tally.several.add(&received);
        Ok(received.bytes)
    }
}

/// Asks for the small files; the tag is the place of the node.
struct Fetch<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    /// Those that turned out to be too large.
    large: Vec<usize>,
    place: &'a mut Place,
    tally: &'a mut Tally,
    output: &'a mut Output,
    whole: &'a mut Whole,
    follow: Follow,
}

impl Fetch<'_> {
    fn fail(&mut self, path: &TreePath, failure: Failure) {
        self.tally.fail(self.output, remote_name(self.base, path), failure);
    }
}

impl Conversation for Fetch<'_> {
    fn next(&mut self) -> Option<(u64, Ask)> {
        loop {
            let at = *self.picks.next()?;
            let node = &self.nodes[at];
            if node.size > SMALL {
                self.large.push(at);
                continue;
            }
            match under(self.base, &node.path) {
                Ok(path) => return Some((u64::try_from(at).ok()?, Ask::Get { path })),
                Err(failure) => self.fail(&node.path, failure),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: Answer<'_>) -> Result<(), PipelineError> {
        let nodes = self.nodes;
        let found = usize::try_from(tag).ok().and_then(|at| Some((at, nodes.get(at)?)));
        let Some((at, node)) = found else { return Err(wrong()) };
        match answer {
            Answer::Content { header, bytes, .. } => match self
                .place
                .store(&node.path, header, bytes)
            {
                Ok(()) => {
                    self.tally.count(header.size);
                    self.whole.done(&node.path, header.size);
                }
                // The next file would fail in the same way.
                Err(error) if error.is_full() => {
                    return Err(stopped(failure(&self.place.shown(&node.path), &error)));
                }
                Err(error) => self.fail(&node.path, failure(&self.place.shown(&node.path), &error)),
            },
            Answer::TooLarge { .. } => self.large.push(at),
            Answer::Refused(refusal) => {
                let name = remote_name(self.base, &node.path);
                self.fail(&node.path, about(&name, refusal.into()));
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
    stopped(Failure::bad_server("a request for content was answered with something else"))
}
