//! Sending files: small ones through one pipeline, large ones one by one.

use std::collections::HashMap;
use std::net::SocketAddr;

use relais_proto::{ErrorCode, Expect, PutRequest, TreePath};
use relais_transfer::pipeline::{Answer, Ask, Conversation, PipelineError, SMALL};

use super::{LOGGED, Run, about, failure, remote_name};
use crate::Failure;
use crate::output::Output;
use crate::recursive::node::Node;
use crate::recursive::place::{Content, Place};
use crate::recursive::progress::Whole;
use crate::recursive::talk::{Follow, Ids, converse, stopped, under};
use crate::recursive::tally::Tally;
use crate::send::{Job, too_few};

impl Run<'_> {
    /// Sends files of the place.
    pub(super) fn store(&mut self, nodes: &[Node], picks: &[usize]) {
        let picks = self.open_picks(nodes, picks);
        let mut large = Vec::new();
        self.in_rounds(picks, nodes, |run, picks| {
            let follow = Follow::new(run.shell);
            let mut store = Store {
                nodes,
                base: run.base,
                picks: picks.iter(),
                large: &mut large,
                again: Vec::new(),
                sizes: HashMap::new(),
                ids: &mut run.ids,
                place: run.place,
                tally: run.tally,
                output: &mut run.shell.output,
                whole: &mut run.whole,
                copies: run.shell.copies,
                follow,
            };
            let ran = converse(&mut run.shell.session, &run.shell.notices, &mut store)?;
            let again = store.again;
            run.tally
                .several
                .served_by(&ran.servers.iter().map(ToString::to_string).collect::<Vec<_>>());
            Ok(again)
        });
        for at in large {
            if self.tally.is_over() || self.is_interrupted() {
                return;
            }
            self.store_large(&nodes[at]);
        }
    }

    fn store_large(&mut self, node: &Node) {
        self.whole.large(&node.path);
        match self.send_large(node) {
            Ok(bytes) => self.whole.done(&node.path, bytes),
            Err(failure) => {
                let name = self.remote_name(&node.path);
                self.fail(&node.path, about(&name, failure));
            }
        }
    }

    fn send_large(&mut self, node: &Node) -> Result<u64, Failure> {
        let remote = under(self.base, &node.path)?;
        let shown = self.place.shown(&node.path);
        let file = self.place.open(&node.path).map_err(|e| failure(&shown, &e))?;
        let (target, _) = self.place.target(&node.path).map_err(|e| failure(&shown, &e))?;
        let logged =
            if node.size > LOGGED { self.shell.local.logged(&target)? } else { String::new() };
        let sent = self.shell.send_open(
            &Job {
                local: target.folder.join(&target.name),
                shown,
                remote,
                logged,
                expect: Expect::Any,
                resumed: false,
            },
            &file,
        )?;
        self.tally.several.add_sent(&sent);
        Ok(sent.bytes)
    }
}

/// Sends the small files; the tag is the place of the node.
struct Store<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    /// Those that are too large.
    large: &'a mut Vec<usize>,
    /// Those to be sent again later.
    again: Vec<usize>,
    /// Bytes of what is on the way.
    sizes: HashMap<u64, u64>,
    ids: &'a mut Ids,
    place: &'a mut Place,
    tally: &'a mut Tally,
    output: &'a mut Output,
    whole: &'a mut Whole,
    /// How many disks must hold each file.
    copies: u16,
    follow: Follow,
}

impl Store<'_> {
    fn fail(&mut self, path: &TreePath, failure: Failure) {
        self.tally.fail(self.output, remote_name(self.base, path), failure);
    }

    /// The request for a file; none where it is too large or failed.
    fn ask(&mut self, at: usize) -> Option<(u64, Ask)> {
        let node = &self.nodes[at];
        if node.size > SMALL {
            self.large.push(at);
            return None;
        }
        let path = match under(self.base, &node.path) {
            Ok(path) => path,
            Err(failure) => {
                self.fail(&node.path, failure);
                return None;
            }
        };
        let Content { bytes, file } = match self.place.read(&node.path, SMALL) {
            Ok(Some(content)) => content,
            Ok(None) => {
                self.large.push(at);
                return None;
            }
            Err(error) => {
                self.fail(&node.path, failure(&self.place.shown(&node.path), &error));
                return None;
            }
        };
        let tag = u64::try_from(at).ok()?;
        let size = bytes.len() as u64;
        self.sizes.insert(tag, size);
        let request = PutRequest {
            id: self.ids.next(),
            path,
            size: Some(size),
            offset: 0,
            mtime: Some(file.meta.mtime),
            mode: Some(file.meta.mode),
            expect: Expect::Any,
            copies: self.copies,
        };
        Some((tag, Ask::Put { request, content: bytes }))
    }
}

impl Conversation for Store<'_> {
    fn next(&mut self) -> Option<(u64, Ask)> {
        loop {
            let at = *self.picks.next()?;
            let ask = self.ask(at);
            if ask.is_some() {
                return ask;
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: Answer<'_>) -> Result<(), PipelineError> {
        let nodes = self.nodes;
        let found = usize::try_from(tag)
            .ok()
            .and_then(|at| Some((at, nodes.get(at)?, self.sizes.remove(&tag)?)));
        let Some((at, node, size)) = found else { return Err(wrong()) };
        match answer {
            Answer::Committed { .. } => {
                self.tally.count(size);
                self.whole.done(&node.path, size);
            }
            Answer::Refused(refusal) if refusal.code == ErrorCode::NoChanges => self.again.push(at),
            Answer::Refused(refusal) => {
                let name = remote_name(self.base, &node.path);
                let failure = if refusal.code == ErrorCode::TooFewCopies {
                    too_few(&refusal.message)
                } else {
                    refusal.into()
                };
                self.fail(&node.path, about(&name, failure));
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
    stopped(Failure::bad_server("an upload was answered with something else"))
}
