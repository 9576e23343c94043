//! Sending of files: small ones through one pipeline, large ones one by one.

use std::collections::HashMap;

use relais_proto::{ErrorCode, Expect, PutRequest, Request};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest, SMALL};

use super::batch::Batch;
use super::conversation::{Conversation, converse};
use super::local_tree::SmallFile;
use super::node::{Node, under};
use crate::Result;
use crate::local_file::tree_failure;
use crate::outcome::TransferredFile;
use crate::output::Output;
use crate::send::{UploadJob, send_open, too_few_copies};
use crate::shell::Shell;

/// Sends files of the local tree.
pub fn store(batch: &mut Batch<'_>, shell: &mut Shell, nodes: &[Node], picks: &[usize]) {
    let picks = batch.open_picks(nodes, picks);
    let mut large = Vec::new();
    let mut small = SmallUploads {
        nodes,
        picks: picks.iter(),
        large: &mut large,
        sizes: HashMap::new(),
        batch: &mut *batch,
        output: &mut shell.output,
        copies: shell.copies,
    };
    match converse(&mut shell.session, &shell.notices, &shell.interrupt, &mut small) {
        Ok(ran) => batch.report.served_by(&ran.servers),
        Err(failure) => batch.fail_remaining(&mut shell.output, failure),
    }
    batch.each_large(shell, nodes, &large, store_large);
}

fn store_large(batch: &mut Batch<'_>, shell: &mut Shell, node: &Node) -> Result<TransferredFile> {
    let (remote, shown) = (under(batch.base, &node.path)?, batch.tree.shown(&node.path));
    let file = batch.tree.open(&node.path).map_err(|e| tree_failure(&shown, &e))?;
    let (target, _) = batch.tree.target(&node.path).map_err(|e| tree_failure(&shown, &e))?;
    let log_name = batch.log_name(shell, node, &target)?;
    let job = UploadJob::new(target.folder.join(&target.name), remote, log_name);
    send_open(shell, &job, &file, batch.bar.clone())
}

/// Sends the small files; a request's number is the index of its node.
struct SmallUploads<'a, 'b> {
    nodes: &'a [Node],
    picks: std::slice::Iter<'a, usize>,
    /// Files that are too large for the pipeline.
    large: &'a mut Vec<usize>,
    /// Sizes of the files that are being sent.
    sizes: HashMap<usize, u64>,
    batch: &'a mut Batch<'b>,
    output: &'a mut Output,
    copies: u16,
}

impl Conversation for SmallUploads<'_, '_> {
    fn next(&mut self) -> Option<(usize, PipelineRequest)> {
        loop {
            let at = *self.picks.next()?;
            let node = &self.nodes[at];
            let path = match under(self.batch.base, &node.path) {
                Ok(path) => path,
                Err(failure) => {
                    self.batch.fail(self.output, &node.path, failure);
                    continue;
                }
            };
            let read = match node.size {
                0..=SMALL => self.batch.tree.read(&node.path, SMALL),
                _ => Ok(None),
            };
            let SmallFile { bytes, file } = match read {
                Ok(Some(content)) => content,
                Ok(None) => {
                    self.large.push(at);
                    continue;
                }
                Err(error) => {
                    self.batch.fail_local(self.output, &node.path, &error);
                    continue;
                }
            };
            let size = bytes.len() as u64;
            self.sizes.insert(at, size);
            let request = PutRequest {
                id: self.batch.ids.next(),
                path,
                size: Some(size),
                offset: 0,
                mtime: Some(file.meta.mtime),
                mode: Some(file.meta.mode),
                expect: Expect::Any,
                copies: self.copies,
            };
            let (request, content) = (Request::Put(request), Some(bytes));
            return Some((at, PipelineRequest { request, content }));
        }
    }

    fn answer(&mut self, at: usize, answer: PipelineReply<'_>) -> Result<bool> {
        let path = &self.nodes[at].path;
        let size = self.sizes.remove(&at).unwrap_or_default();
        match answer {
            PipelineReply::Committed { .. } => {
                self.batch.report.summary.count(size);
                self.batch.bar.finished(path, size);
            }
            PipelineReply::Refused(refusal) => match refusal.code {
                ErrorCode::TooFewCopies => {
                    self.batch.fail(self.output, path, too_few_copies(&refusal.message));
                }
                _ => self.batch.fail(self.output, path, refusal.into()),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }
}
