//! Comparison of files of equal size by their digests, computed on both sides.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use log::debug;
use relais_proto::{Digest, TreePath};
use relais_transfer::pipeline::{PipelineError, PipelineHandler, PipelineReply, PipelineRequest};
use relais_tree::hash_file;

use super::conversation::{ConversationContext, run_conversation, stopped, under};
use super::local_tree::LocalTree;
use super::node::{Node, TreeListing};
use super::plan::pairs_of_equal_size;
use crate::interrupt::Interrupt;
use crate::shell::Shell;
use crate::{Failure, Result};

/// Returns the paths of the files with equal digests on both sides.
///
/// A file without a digest is left out. It is transferred then, which reports its error.
///
/// # Errors
/// No server answers, or the user interrupted.
pub fn equal(
    shell: &mut Shell,
    tree: &mut LocalTree,
    base: &TreePath,
    there: &TreeListing,
    here: &TreeListing,
) -> Result<HashSet<TreePath>> {
    // Empty files need no digest.
    let (empty, files): (Vec<&Node>, Vec<&Node>) = pairs_of_equal_size(there, here)
        .iter()
        .map(|(at, _)| &there.nodes[*at])
        .partition(|node| node.size == 0);
    let mut ask = DigestQuery {
        base,
        files: &files,
        next: 0,
        digests: vec![None; files.len()],
        context: ConversationContext::new(shell),
    };
    run_conversation(&mut shell.session, &shell.notices, &mut ask)?;
    let mut equal: HashSet<TreePath> = empty.iter().map(|node| node.path.clone()).collect();
    for (node, digest) in files.iter().zip(ask.digests) {
        if shell.interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        if digest.is_some() && digest == local(tree, node, &shell.interrupt) {
            equal.insert(node.path.clone());
        }
    }
    Ok(equal)
}

/// Computes the digest of a local file, if it still has the listed size.
fn local(tree: &mut LocalTree, node: &Node, interrupt: &Interrupt) -> Option<Digest> {
    let file = tree.open(&node.path).ok().filter(|file| file.meta.size == node.size)?;
    let mut go_on =
        |_| if interrupt.is_raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    match hash_file(&file.file, file.meta.size, &mut go_on) {
        Ok((digest, _)) => file.is_unchanged().ok()?.then_some(digest),
        Err(error) => {
            debug!("{}: no digest: {error}", node.path);
            None
        }
    }
}

/// Requests digests; the tag is the index in the list.
struct DigestQuery<'a> {
    base: &'a TreePath,
    files: &'a [&'a Node],
    next: usize,
    digests: Vec<Option<Digest>>,
    context: ConversationContext,
}

impl PipelineHandler for DigestQuery<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        loop {
            let at = self.next;
            let node = self.files.get(at)?;
            self.next += 1;
            if let Ok(path) = under(self.base, &node.path) {
                return Some((u64::try_from(at).ok()?, PipelineRequest::Hash(path)));
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        let tree = usize::try_from(tag).ok().and_then(|at| self.digests.get_mut(at));
        match (tree, answer) {
            (Some(tree), PipelineReply::Details { digest, .. }) => *tree = digest,
            (Some(_), PipelineReply::Refused(refusal)) => debug!("no digest: {refusal}"),
            _ => {
                return Err(stopped(failure!(
                    BadServer,
                    "a request for a digest got a reply of another type"
                )));
            }
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
