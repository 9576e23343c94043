//! Transfers of files: small ones through one pipeline, large ones one by one.

use std::collections::HashMap;

use relais_proto::{ErrorCode, Expect, PutRequest, Request};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest, SMALL};

use super::batch::{Batch, Direction};
use super::conversation::{Conversation, converse};
use super::node::{Node, under};
use crate::Result;
use crate::local_file::tree_failure;
use crate::outcome::TransferredFile;
use crate::output::Output;
use crate::receive::{DownloadJob, receive_into};
use crate::send::{UploadJob, send_open, too_few_copies};
use crate::shell::Shell;

/// Size in bytes above which a file has its own entry in the `.log`.
const MIN_LOGGED_SIZE: u64 = 4 * 1024 * 1024;

impl Batch<'_> {
    /// Transfers files.
    pub fn transfer(&mut self, shell: &mut Shell, nodes: &[Node], picks: &[usize]) {
        let mut small = SmallFiles {
            nodes,
            picks: picks.iter(),
            large: Vec::new(),
            sizes: HashMap::new(),
            copies: shell.copies,
            batch: &mut *self,
        };
        let ran = converse(shell, &mut small);
        let large = small.large;
        match ran {
            Ok(ran) => self.report.served_by(&ran.servers),
            Err(failure) => return self.fail_remaining(&mut shell.output, failure),
        }
        for at in large {
            if self.is_over(shell) {
                return;
            }
            let node = &nodes[at];
            self.bar.name(&node.path);
            match self.transfer_large(shell, node) {
                Ok(file) => {
                    self.report.summary.add(&file);
                    self.bar.finished(&node.path, file.bytes);
                }
                Err(failure) => self.fail(&mut shell.output, &node.path, failure),
            }
        }
    }

    fn transfer_large(&mut self, shell: &mut Shell, node: &Node) -> Result<TransferredFile> {
        let (remote, shown) = (under(self.base, &node.path)?, self.tree.shown(&node.path));
        let (target, folder) =
            self.tree.target(&node.path).map_err(|e| tree_failure(&shown, &e))?;
        let log_name = match node.size > MIN_LOGGED_SIZE {
            true => shell.local.log_name(&target)?,
            false => String::new(),
        };
        if self.direction == Direction::Down {
            let job = DownloadJob { remote, target, log_name };
            return receive_into(shell, &job, folder, self.bar.clone());
        }
        let file = folder.open_read(&target.name).map_err(|e| tree_failure(&shown, &e))?;
        let job = UploadJob::new(target.path(), remote, log_name);
        send_open(shell, &job, &file, self.bar.clone())
    }
}

/// The transfer of small files; a request's number is the index of its node.
struct SmallFiles<'a, 'b> {
    nodes: &'a [Node],
    picks: std::slice::Iter<'a, usize>,
    /// Files that are too large for the pipeline.
    large: Vec<usize>,
    /// Sizes of the files that are being sent.
    sizes: HashMap<usize, u64>,
    copies: u16,
    batch: &'a mut Batch<'b>,
}

impl SmallFiles<'_, '_> {
    fn finished(&mut self, at: usize, size: u64) {
        self.batch.report.summary.count(size);
        self.batch.bar.finished(&self.nodes[at].path, size);
    }
}

impl Conversation for SmallFiles<'_, '_> {
    fn next(&mut self, output: &mut Output) -> Option<(usize, PipelineRequest)> {
        loop {
            let (at, path) = self.batch.next_remote(output, self.nodes, &mut self.picks)?;
            let node = &self.nodes[at];
            if node.size > SMALL {
                self.large.push(at);
                continue;
            }
            if self.batch.direction == Direction::Down {
                return Some((at, PipelineRequest::get(path)));
            }
            match self.batch.tree.read(&node.path, SMALL) {
                Ok(Some((content, meta))) => {
                    let size = content.len() as u64;
                    self.sizes.insert(at, size);
                    let request = PutRequest {
                        id: self.batch.ids.next(),
                        path,
                        size: Some(size),
                        offset: 0,
                        mtime: Some(meta.mtime),
                        mode: Some(meta.mode),
                        expect: Expect::Any,
                        copies: self.copies,
                    };
                    let (request, content) = (Request::Put(request), Some(content));
                    return Some((at, PipelineRequest { request, content }));
                }
                Ok(None) => self.large.push(at),
                Err(error) => self.batch.fail_local(output, &node.path, &error),
            }
        }
    }

    fn answer(&mut self, output: &mut Output, at: usize, answer: PipelineReply<'_>) -> Result<()> {
        let path = &self.nodes[at].path;
        let sent = self.sizes.remove(&at).unwrap_or_default();
        match answer {
            PipelineReply::Committed { .. } => self.finished(at, sent),
            PipelineReply::Content { header, bytes, .. } => {
                match self.batch.tree.store(path, header, bytes) {
                    Ok(()) => self.finished(at, header.size),
                    // The next file would fail in the same way.
                    Err(error) if error.is_full() => {
                        return Err(tree_failure(&self.batch.tree.shown(path), &error));
                    }
                    Err(error) => self.batch.fail_local(output, path, &error),
                }
            }
            PipelineReply::TooLarge { .. } => self.large.push(at),
            PipelineReply::Refused(refusal) if refusal.code == ErrorCode::TooFewCopies => {
                self.batch.fail(output, path, too_few_copies(&refusal.message));
            }
            PipelineReply::Refused(refusal) => self.batch.fail(output, path, refusal.into()),
            // No other request was sent.
            PipelineReply::Entry(_) | PipelineReply::Listed | PipelineReply::Details { .. } => {}
        }
        Ok(())
    }
}
