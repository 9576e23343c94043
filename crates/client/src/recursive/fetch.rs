//! Fetching of files: small ones through one pipeline, large ones one by one.

use relais_transfer::pipeline::{PipelineReply, PipelineRequest, SMALL};

use super::batch::Batch;
use super::conversation::{Conversation, converse};
use super::node::{Node, under};
use crate::Result;
use crate::local_file::tree_failure;
use crate::outcome::TransferredFile;
use crate::output::Output;
use crate::receive::{DownloadJob, receive_into};
use crate::shell::Shell;

/// Fetches files into the local tree.
pub fn fetch(batch: &mut Batch<'_>, shell: &mut Shell, nodes: &[Node], picks: &[usize]) {
    let picks = batch.open_picks(nodes, picks);
    let mut large = Vec::new();
    let mut small = SmallDownloads {
        nodes,
        picks: picks.iter(),
        large: &mut large,
        batch,
        output: &mut shell.output,
    };
    let ran = converse(&mut shell.session, &shell.notices, &shell.interrupt, &mut small);
    match ran {
        Ok(ran) => {
            batch.report.served_by(&ran.servers);
            batch.each_large(shell, nodes, &large, fetch_large);
        }
        Err(failure) => batch.fail_remaining(&mut shell.output, failure),
    }
}

fn fetch_large(batch: &mut Batch<'_>, shell: &mut Shell, node: &Node) -> Result<TransferredFile> {
    let (remote, shown) = (under(batch.base, &node.path)?, batch.tree.shown(&node.path));
    let target = batch.tree.target(&node.path).map_err(|e| tree_failure(&shown, &e))?.0;
    let log_name = batch.log_name(shell, node, &target)?;
    let (_, folder) = batch.tree.target(&node.path).map_err(|e| tree_failure(&shown, &e))?;
    receive_into(shell, &DownloadJob { remote, target, log_name }, folder, batch.bar.clone())
}

/// Requests the small files; a request's number is the index of its node.
struct SmallDownloads<'a, 'b> {
    nodes: &'a [Node],
    picks: std::slice::Iter<'a, usize>,
    /// Files that proved too large for the pipeline.
    large: &'a mut Vec<usize>,
    batch: &'a mut Batch<'b>,
    output: &'a mut Output,
}

impl Conversation for SmallDownloads<'_, '_> {
    fn next(&mut self) -> Option<(usize, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            let node = &self.nodes[at];
            if node.size > SMALL {
                self.large.push(at);
                continue;
            }
            match under(self.batch.base, &node.path) {
                Ok(path) => return Some((at, PipelineRequest::get(path))),
                Err(failure) => self.batch.fail(self.output, &node.path, failure),
            }
        }
    }

    fn answer(&mut self, at: usize, answer: PipelineReply<'_>) -> Result<bool> {
        let path = &self.nodes[at].path;
        match answer {
            PipelineReply::Content { header, bytes, .. } => {
                match self.batch.tree.store(path, header, bytes) {
                    Ok(()) => {
                        self.batch.report.summary.count(header.size);
                        self.batch.bar.finished(path, header.size);
                    }
                    // The next file would fail in the same way.
                    Err(error) if error.is_full() => {
                        return Err(tree_failure(&self.batch.tree.shown(path), &error));
                    }
                    Err(error) => self.batch.fail_local(self.output, path, &error),
                }
            }
            PipelineReply::TooLarge { .. } => self.large.push(at),
            PipelineReply::Refused(refusal) => self.batch.fail(self.output, path, refusal.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
