//! Fetching of files: small ones through one pipeline, large ones one by one.

use std::net::SocketAddr;

use relais_proto::TreePath;
use relais_transfer::pipeline::{
    PipelineError, PipelineHandler, PipelineReply, PipelineRequest, SMALL,
};

use super::{MIN_LOGGED_SIZE, PlanRunner, about, failure, remote_name};
use crate::output::Output;
use crate::receive::DownloadJob;
use crate::recursive::batch_progress::BatchProgress;
use crate::recursive::batch_report::BatchReport;
use crate::recursive::conversation::{ConversationContext, run_conversation, stopped, under};
use crate::recursive::local_tree::LocalTree;
use crate::recursive::node::Node;
use crate::{Failure, Result};

impl PlanRunner<'_> {
    /// Fetches files into the local tree.
    pub(super) fn fetch(&mut self, nodes: &[Node], picks: &[usize]) {
        let picks = self.open_picks(nodes, picks);
        let context = ConversationContext::new(self.shell);
        let mut fetch = SmallDownloads {
            nodes,
            base: self.base,
            picks: picks.iter(),
            large: Vec::new(),
            tree: self.tree,
            report: self.report,
            output: &mut self.shell.output,
            progress: &mut self.progress,
            context,
        };
        let ran = run_conversation(&mut self.shell.session, &self.shell.notices, &mut fetch);
        let large = fetch.large;
        match ran {
            Ok(ran) => self
                .report
                .summary
                .served_by(&ran.servers.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Err(failure) => return self.fail_remaining(failure),
        }
        for at in large {
            if self.report.is_over() || self.is_interrupted() {
                return;
            }
            self.fetch_large(&nodes[at]);
        }
    }

    fn fetch_large(&mut self, node: &Node) {
        self.progress.large(&node.path);
        match self.receive_large(node) {
            Ok(bytes) => self.progress.done(&node.path, bytes),
            Err(failure) => {
                let name = self.remote_name(&node.path);
                self.fail(&node.path, about(&name, failure));
            }
        }
    }

    fn receive_large(&mut self, node: &Node) -> Result<u64> {
        let remote = under(self.base, &node.path)?;
        let shown = self.tree.shown(&node.path);
        let (target, folder) = self.tree.target(&node.path).map_err(|e| failure(&shown, &e))?;
        let log_name = if node.size > MIN_LOGGED_SIZE {
            self.shell.local.log_name(&target)?
        } else {
            String::new()
        };
        let job = DownloadJob { remote, target, log_name };
        let received = self.shell.receive(&job, folder)?;
        self.report.summary.add(&received);
        Ok(received.bytes)
    }
}

/// Requests the small files; the tag is the index of the node.
struct SmallDownloads<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    /// Files that proved too large for the pipeline.
    large: Vec<usize>,
    tree: &'a mut LocalTree,
    report: &'a mut BatchReport,
    output: &'a mut Output,
    progress: &'a mut BatchProgress,
    context: ConversationContext,
}

impl SmallDownloads<'_> {
    fn fail(&mut self, path: &TreePath, failure: Failure) {
        self.report.fail(self.output, remote_name(self.base, path), failure);
    }
}

impl PipelineHandler for SmallDownloads<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            let node = &self.nodes[at];
            if node.size > SMALL {
                self.large.push(at);
                continue;
            }
            match under(self.base, &node.path) {
                Ok(path) => return Some((u64::try_from(at).ok()?, PipelineRequest::Get { path })),
                Err(failure) => self.fail(&node.path, failure),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        let nodes = self.nodes;
        let found = usize::try_from(tag).ok().and_then(|at| Some((at, nodes.get(at)?)));
        let Some((at, node)) = found else { return Err(wrong()) };
        match answer {
            PipelineReply::Content { header, bytes, .. } => match self
                .tree
                .store(&node.path, header, bytes)
            {
                Ok(()) => {
                    self.report.count(header.size);
                    self.progress.done(&node.path, header.size);
                }
                // The next file would fail in the same way.
                Err(error) if error.is_full() => {
                    return Err(stopped(failure(&self.tree.shown(&node.path), &error)));
                }
                Err(error) => self.fail(&node.path, failure(&self.tree.shown(&node.path), &error)),
            },
            PipelineReply::TooLarge { .. } => self.large.push(at),
            PipelineReply::Refused(refusal) => {
                let name = remote_name(self.base, &node.path);
                self.fail(&node.path, about(&name, refusal.into()));
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
    stopped(failure!(BadServer, "a request for content got a reply of another type"))
}
