//! Sending of files: small ones through one pipeline, large ones one by one.

use std::collections::HashMap;
use std::net::SocketAddr;

use relais_proto::{ErrorCode, Expect, PutRequest, TreePath};
use relais_transfer::pipeline::{
    PipelineError, PipelineHandler, PipelineReply, PipelineRequest, SMALL,
};

use super::{MIN_LOGGED_SIZE, PlanRunner, about, failure, remote_name};
use crate::output::Output;
use crate::recursive::batch_progress::BatchProgress;
use crate::recursive::batch_report::BatchReport;
use crate::recursive::conversation::{
    ChangeIds, ConversationContext, run_conversation, stopped, under,
};
use crate::recursive::local_tree::{LocalTree, SmallFile};
use crate::recursive::node::Node;
use crate::send::{UploadJob, too_few_copies};
use crate::{Failure, Result};

impl PlanRunner<'_> {
    /// Sends files of the local tree.
    pub(super) fn store(&mut self, nodes: &[Node], picks: &[usize]) {
        let picks = self.open_picks(nodes, picks);
        let mut large = Vec::new();
        self.retry_in_rounds(picks, nodes, |run, picks| {
            let context = ConversationContext::new(run.shell);
            let mut store = SmallUploads {
                nodes,
                base: run.base,
                picks: picks.iter(),
                large: &mut large,
                again: Vec::new(),
                sizes: HashMap::new(),
                ids: &mut run.ids,
                tree: run.tree,
                report: run.report,
                output: &mut run.shell.output,
                progress: &mut run.progress,
                copies: run.shell.copies,
                context,
            };
            let ran = run_conversation(&mut run.shell.session, &run.shell.notices, &mut store)?;
            let again = store.again;
            run.report
                .summary
                .served_by(&ran.servers.iter().map(ToString::to_string).collect::<Vec<_>>());
            Ok(again)
        });
        for at in large {
            if self.report.is_over() || self.is_interrupted() {
                return;
            }
            self.store_large(&nodes[at]);
        }
    }

    fn store_large(&mut self, node: &Node) {
        self.progress.large(&node.path);
        match self.send_large(node) {
            Ok(bytes) => self.progress.done(&node.path, bytes),
            Err(failure) => {
                let name = self.remote_name(&node.path);
                self.fail(&node.path, about(&name, failure));
            }
        }
    }

    fn send_large(&mut self, node: &Node) -> Result<u64> {
        let remote = under(self.base, &node.path)?;
        let shown = self.tree.shown(&node.path);
        let file = self.tree.open(&node.path).map_err(|e| failure(&shown, &e))?;
        let (target, _) = self.tree.target(&node.path).map_err(|e| failure(&shown, &e))?;
        let log_name = if node.size > MIN_LOGGED_SIZE {
            self.shell.local.log_name(&target)?
        } else {
            String::new()
        };
        let sent = self.shell.send_open(
            &UploadJob {
                local: target.folder.join(&target.name),
                shown,
                remote,
                log_name,
                expect: Expect::Any,
                resumed: false,
            },
            &file,
        )?;
        self.report.summary.add_sent(&sent);
        Ok(sent.bytes)
    }
}

/// Sends the small files; the tag is the index of the node.
struct SmallUploads<'a> {
    nodes: &'a [Node],
    base: &'a TreePath,
    picks: std::slice::Iter<'a, usize>,
    /// Files that are too large for the pipeline.
    large: &'a mut Vec<usize>,
    /// Files to send again later.
    again: Vec<usize>,
    /// Sizes of the requests without a reply.
    sizes: HashMap<u64, u64>,
    ids: &'a mut ChangeIds,
    tree: &'a mut LocalTree,
    report: &'a mut BatchReport,
    output: &'a mut Output,
    progress: &'a mut BatchProgress,
    /// Number of disks that must hold each file.
    copies: u16,
    context: ConversationContext,
}

impl SmallUploads<'_> {
    fn fail(&mut self, path: &TreePath, failure: Failure) {
        self.report.fail(self.output, remote_name(self.base, path), failure);
    }

    /// Returns the request for a file; none if the file is too large or failed.
    fn ask(&mut self, at: usize) -> Option<(u64, PipelineRequest)> {
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
        let SmallFile { bytes, file } = match self.tree.read(&node.path, SMALL) {
            Ok(Some(content)) => content,
            Ok(None) => {
                self.large.push(at);
                return None;
            }
            Err(error) => {
                self.fail(&node.path, failure(&self.tree.shown(&node.path), &error));
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
        Some((tag, PipelineRequest::Put { request, content: bytes }))
    }
}

impl PipelineHandler for SmallUploads<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            let ask = self.ask(at);
            if ask.is_some() {
                return ask;
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        let nodes = self.nodes;
        let found = usize::try_from(tag)
            .ok()
            .and_then(|at| Some((at, nodes.get(at)?, self.sizes.remove(&tag)?)));
        let Some((at, node, size)) = found else { return Err(wrong()) };
        match answer {
            PipelineReply::Committed { .. } => {
                self.report.count(size);
                self.progress.done(&node.path, size);
            }
            PipelineReply::Refused(refusal) if refusal.code == ErrorCode::NoChanges => {
                self.again.push(at)
            }
            PipelineReply::Refused(refusal) => {
                let name = remote_name(self.base, &node.path);
                let failure = if refusal.code == ErrorCode::TooFewCopies {
                    too_few_copies(&refusal.message)
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
        self.context.moved(from, to);
    }

    fn interrupted(&self) -> bool {
        self.context.interrupted()
    }
}

fn wrong() -> PipelineError {
    stopped(failure!(BadServer, "an upload got a reply of another type"))
}
