//! Comparison of files of equal size by their digests, computed on both sides.

use std::collections::HashSet;
use std::io::ErrorKind;

use log::debug;
use relais_proto::{Digest, Request, TreePath};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest};
use relais_tree::hash_file;

use super::conversation::{Conversation, converse};
use super::local_tree::LocalTree;
use super::node::{Node, under};
use super::plan::files_of_equal_size;
use super::run::Sides;
use crate::interrupt::Interrupt;
use crate::output::Output;
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
    Sides { base, source, target, .. }: &Sides,
) -> Result<HashSet<TreePath>> {
    let files = files_of_equal_size(source, target);
    let mut query =
        DigestQuery { base, files: files.iter().enumerate(), digests: vec![None; files.len()] };
    converse(shell, &mut query)?;
    let mut equal = HashSet::new();
    for (node, digest) in files.iter().zip(query.digests) {
        if shell.interrupt.is_raised() {
            return Err(Failure::interrupted());
        }
        // Empty files need no digest.
        if node.size == 0 || digest.is_some() && digest == local(tree, node, &shell.interrupt) {
            equal.insert(node.path.clone());
        }
    }
    Ok(equal)
}

/// Computes the digest of a local file, if it still has the listed size.
fn local(tree: &mut LocalTree, node: &Node, interrupt: &Interrupt) -> Option<Digest> {
    let file = tree.open(&node.path).ok().filter(|file| file.meta.size == node.size)?;
    let mut go_on =
        |_| if interrupt.is_raised() { Err(ErrorKind::Interrupted.into()) } else { Ok(()) };
    match hash_file(&file.file, file.meta.size, &mut go_on) {
        Ok((digest, _)) => file.is_unchanged().ok()?.then_some(digest),
        Err(error) => {
            debug!("{}: no digest: {error}", node.path);
            None
        }
    }
}

/// Requests digests; a request's number is the index in the list.
struct DigestQuery<'a> {
    base: &'a TreePath,
    files: std::iter::Enumerate<std::slice::Iter<'a, &'a Node>>,
    digests: Vec<Option<Digest>>,
}

impl Conversation for DigestQuery<'_> {
    fn next(&mut self, _: &mut Output) -> Option<(usize, PipelineRequest)> {
        let mut files = self.files.by_ref().filter(|(_, node)| node.size > 0);
        files.find_map(|(at, node)| {
            Some((at, Request::Hash(under(self.base, &node.path).ok()?).into()))
        })
    }

    fn answer(&mut self, _: &mut Output, at: usize, answer: PipelineReply<'_>) -> Result<()> {
        match answer {
            PipelineReply::Details { digest, .. } => self.digests[at] = digest,
            PipelineReply::Refused(refusal) => debug!("no digest: {refusal}"),
            _ => {}
        }
        Ok(())
    }
}
