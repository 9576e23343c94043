//! Expansion of a pattern into names, level by level, remote or local. Nothing is changed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use relais_proto::{Entry, ErrorCode, Kind, TreePath};
use relais_transfer::pipeline::{PipelineError, PipelineHandler, PipelineReply, PipelineRequest};
use relais_tree::{Folder, MetaKind, TreeError};

use super::conversation::{ConversationContext, run_conversation, stopped};
use super::listing_budget::ListingBudget;
use super::local_tree::failure;
use super::node::{Node, SkipReason};
use super::pattern::{Pattern, PatternPart};
use crate::local::openable;
use crate::shell::Shell;
use crate::{Failure, Result};

/// The names that match a pattern.
///
/// The path of a node is its own name, in the folder that is paired with it.
#[derive(Debug)]
pub struct PatternMatches<F> {
    /// Files and folders, in order.
    pub found: Vec<(F, Node)>,
    /// Matching names that are neither.
    pub skipped: Vec<String>,
}

/// Expands a pattern on the server, starting in the current remote folder.
///
/// # Errors
/// Nothing matches, or the search fails.
pub fn remote(shell: &mut Shell, pattern: &Pattern) -> Result<PatternMatches<TreePath>> {
    let mut folders = vec![if pattern.absolute { TreePath::root() } else { shell.cwd.clone() }];
    let mut found = Vec::new();
    for (at, part) in pattern.parts.iter().enumerate() {
        let is_last = at + 1 == pattern.parts.len();
        let mut next = Vec::new();
        match part {
            PatternPart::Up => {
                for folder in &folders {
                    let above = || failure!(BadName, "{} is above the root", pattern.quoted());
                    next.push(folder.split_last().ok_or_else(above)?.0);
                }
            }
            PatternPart::Name(name) if !is_last => {
                // A folder whose path is invalid contains nothing.
                next.extend(folders.iter().filter_map(|folder| folder.join(name).ok()));
            }
            part => {
                for (folder, entry) in query_folders(shell, &folders, part)? {
                    let Ok(path) = folder.join(&entry.name) else { continue };
                    match (is_last, TreePath::new(entry.name.as_str())) {
                        (true, Ok(name)) => found.push((folder, Node::new(name, &entry))),
                        (false, _) if entry.kind == Kind::Folder => next.push(path),
                        _ => {}
                    }
                }
            }
        }
        folders = next;
    }
    if found.is_empty() {
        fail!(NotFound, "nothing matches {}", pattern.quoted());
    }
    Ok(PatternMatches { found, skipped: Vec::new() })
}

/// Returns the matching entries directly in `folders`; missing folders are empty.
fn query_folders(
    shell: &mut Shell,
    folders: &[TreePath],
    part: &PatternPart,
) -> Result<Vec<(TreePath, Entry)>> {
    let mut query = PatternQuery {
        folders,
        part,
        next: 0,
        found: Vec::new(),
        budget: ListingBudget::default(),
        context: ConversationContext::new(shell),
    };
    run_conversation(&mut shell.session, &shell.notices, &mut query)?;
    Ok(query.found.into_iter().map(|(at, entry)| (folders[at].clone(), entry)).collect())
}

/// Lists folders or requests one name in each; the tag is the index of the folder.
struct PatternQuery<'a> {
    folders: &'a [TreePath],
    part: &'a PatternPart,
    next: usize,
    found: Vec<(usize, Entry)>,
    budget: ListingBudget,
    context: ConversationContext,
}

impl PipelineHandler for PatternQuery<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        loop {
            let (at, folder) = (self.next, self.folders.get(self.next)?);
            self.next += 1;
            let ask = match self.part {
                PatternPart::Name(name) => match folder.join(name) {
                    Ok(path) => PipelineRequest::Stat(path),
                    Err(_) => continue,
                },
                _ => PipelineRequest::List { path: folder.clone() },
            };
            return Some((u64::try_from(at).ok()?, ask));
        }
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        let at = usize::try_from(tag).ok().filter(|at| *at < self.folders.len());
        let (at, entry) = match (at, answer) {
            (Some(at), PipelineReply::Entry(entry) | PipelineReply::Details { entry, .. }) => {
                (at, entry)
            }
            (_, PipelineReply::Listed) => return Ok(()),
            (_, PipelineReply::Refused(refusal))
                if matches!(refusal.code, ErrorCode::NotFound | ErrorCode::NotFolder) =>
            {
                return Ok(());
            }
            (Some(at), PipelineReply::Refused(refusal)) => {
                return Err(stopped(Failure::from(refusal).of(&self.folders[at].to_string())));
            }
            _ => {
                return Err(stopped(failure!(BadServer, "a listing got a reply of another type")));
            }
        };
        if self.part.is_match(&entry.name) {
            if !self.budget.take::<Node>(entry.name.len()) {
                return Err(stopped(failure!(BadServer, "more names match than the client keeps")));
            }
            self.found.push((at, entry));
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

/// Expands a pattern in the local folder.
///
/// Links are not followed, except those that the pattern names in full.
///
/// # Errors
/// Nothing matches, or the search fails.
pub fn local(shell: &Shell, pattern: &Pattern) -> Result<PatternMatches<PathBuf>> {
    let mut folders =
        vec![if pattern.absolute { PathBuf::from("/") } else { shell.local.resolve("") }];
    let mut expanded = PatternMatches { found: Vec::new(), skipped: Vec::new() };
    for (at, part) in pattern.parts.iter().enumerate() {
        let is_last = at + 1 == pattern.parts.len();
        let mut next = Vec::new();
        for folder in folders {
            if shell.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
            match part {
                PatternPart::Up => next.push(folder.join("..")),
                PatternPart::Name(name) if !is_last => next.push(folder.join(name)),
                part => search(&folder, part, is_last, &mut next, &mut expanded)?,
            }
        }
        folders = next;
    }
    if expanded.found.is_empty() && expanded.skipped.is_empty() {
        fail!(Local, "nothing matches {}", pattern.quoted());
    }
    Ok(expanded)
}

/// Adds the matches directly in one local folder; a missing folder is empty.
fn search(
    path: &Path,
    part: &PatternPart,
    is_last: bool,
    next: &mut Vec<PathBuf>,
    into: &mut PatternMatches<PathBuf>,
) -> Result<()> {
    let failed = |e: &TreeError| failure(&path.display().to_string(), e);
    let folder = match Folder::open(openable(path)) {
        Ok(folder) => folder,
        Err(TreeError::NotFound | TreeError::NotFolder) => return Ok(()),
        Err(error) => return Err(failed(&error)),
    };
    let mut names = Vec::new();
    if let PatternPart::Name(name) = part {
        names.push(name.clone());
    } else {
        for listed in folder.list().map_err(|e| failed(&e))? {
            let listed = listed.map_err(|e| failed(&e))?;
            names.extend(
                std::str::from_utf8(listed.name())
                    .ok()
                    .filter(|name| part.is_match(name))
                    .map(str::to_owned),
            );
        }
        names.sort_unstable();
    }
    for name in names {
        let found = match folder.survey(name.as_bytes()) {
            Ok(found) => found,
            Err(TreeError::NotFound) => continue,
            Err(error) => return Err(failed(&error).of(&name)),
        };
        let own = TreePath::new(name.as_str());
        match (found.meta.served_kind(), own) {
            (Some(kind), Ok(own)) if is_last => {
                let (meta, is_file) = (found.meta, kind == Kind::File);
                let size = if is_file { meta.size } else { 0 };
                let node = Node { path: own, kind, size, mtime: meta.mtime, version: None };
                into.found.push((path.to_path_buf(), node));
            }
            (Some(Kind::Folder), _) if !is_last => next.push(path.join(name)),
            _ if is_last => {
                let reason = match found.meta.kind {
                    MetaKind::Link => SkipReason::Link,
                    MetaKind::Special => SkipReason::Special,
                    MetaKind::File | MetaKind::Folder => SkipReason::Name,
                };
                into.skipped.push(format!("{}: {reason}", path.join(name).display()));
            }
            _ => {}
        }
    }
    Ok(())
}
