//! Expansion of a pattern into names, level by level, remote or local. Nothing is changed.

use std::path::{Path, PathBuf};

use relais_proto::{ErrorCode, Request, TreePath};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest};
use relais_tree::{Folder, TreeError};

use super::conversation::{Conversation, ListingBudget, converse};
use super::node::{Node, SkipReason};
use super::pattern::{Pattern, PatternPart};
use crate::local::openable;
use crate::local_file::tree_failure;
use crate::output::Output;
use crate::shell::Shell;
use crate::{Failure, Result};

/// A name that matches a pattern, in its folder; or why the name is skipped.
///
/// The path of the node is its own name.
pub type Match<F> = (F, Result<Node, String>);

/// Expands a pattern on the server, starting in the current remote folder.
///
/// # Errors
/// Nothing matches, or the search fails.
pub fn remote(shell: &mut Shell, pattern: &Pattern) -> Result<Vec<Match<TreePath>>> {
    let top = if pattern.absolute { TreePath::root() } else { shell.cwd.clone() };
    let step = |folder: &TreePath, name: &str| match name {
        ".." => folder.split_last().map(|(parent, _)| parent),
        name => folder.join(name).ok(),
    };
    expand(pattern, top, ErrorCode::NotFound, step, |folders, part| {
        let (found, budget) = (Vec::new(), ListingBudget::FULL);
        let mut query = PatternQuery { folders, part, next: 0, found, budget };
        converse(shell, &mut query)?;
        Ok(query.found)
    })
}

/// Expands a pattern on the local disk, starting in the current local folder.
///
/// # Errors
/// Nothing matches, or the search fails.
pub fn local(shell: &Shell, pattern: &Pattern) -> Result<Vec<Match<PathBuf>>> {
    let top = if pattern.absolute { PathBuf::from("/") } else { shell.local.resolve("") };
    let step = |folder: &PathBuf, name: &str| Some(folder.join(name));
    expand(pattern, top, ErrorCode::Local, step, |folders, part| {
        let mut found = Vec::new();
        for folder in folders {
            if shell.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
            search(folder, part, &mut found)?;
        }
        Ok(found)
    })
}

/// Expands a pattern with `step`, which joins a name or `..`, and with `search`.
fn expand<F>(
    pattern: &Pattern,
    top: F,
    missing: ErrorCode,
    step: impl Fn(&F, &str) -> Option<F>,
    mut search: impl FnMut(&[F], &PatternPart) -> Result<Vec<Match<F>>>,
) -> Result<Vec<Match<F>>> {
    let mut folders = vec![top];
    let mut matches = Vec::new();
    for (at, part) in pattern.parts.iter().enumerate() {
        let is_last = at + 1 == pattern.parts.len();
        folders = match part {
            PatternPart::Up => {
                let above = || failure!(BadName, "{} is above the root", pattern.quoted());
                folders.iter().map(|f| step(f, "..").ok_or_else(above)).collect::<Result<_>>()?
            }
            PatternPart::Name(name) if !is_last => {
                folders.iter().filter_map(|folder| step(folder, name)).collect()
            }
            part if is_last => {
                matches = search(&folders, part)?;
                break;
            }
            part => {
                let below = |(folder, node): Match<F>| {
                    let node = node.ok().filter(Node::is_folder)?;
                    step(&folder, node.path.as_str())
                };
                search(&folders, part)?.into_iter().filter_map(below).collect()
            }
        };
    }
    if matches.is_empty() {
        return Err(Failure::new(missing, format!("nothing matches {}", pattern.quoted())));
    }
    Ok(matches)
}

/// Requests the names of one level; a request's number is the index of its folder.
struct PatternQuery<'a> {
    folders: &'a [TreePath],
    part: &'a PatternPart,
    next: usize,
    found: Vec<Match<TreePath>>,
    budget: ListingBudget,
}

impl Conversation for PatternQuery<'_> {
    fn next(&mut self, _: &mut Output) -> Option<(usize, PipelineRequest)> {
        loop {
            let (at, folder) = (self.next, self.folders.get(self.next)?);
            self.next += 1;
            match self.part {
                PatternPart::Name(name) => match folder.join(name) {
                    Ok(path) => return Some((at, Request::Stat(path).into())),
                    Err(_) => continue,
                },
                _ => return Some((at, PipelineRequest::list(folder.clone()))),
            }
        }
    }

    fn answer(&mut self, _: &mut Output, at: usize, answer: PipelineReply<'_>) -> Result<()> {
        match answer {
            PipelineReply::Entry(entry) | PipelineReply::Details { entry, .. }
                if self.part.is_match(&entry.name) =>
            {
                if !self.budget.take::<Node>(entry.name.len()) {
                    fail!(BadServer, "more names match than the client keeps");
                }
                let folder = &self.folders[at];
                // A server's names that are not valid are no matches.
                if let (Ok(name), Ok(_)) =
                    (TreePath::new(entry.name.as_str()), folder.join(&entry.name))
                {
                    self.found.push((folder.clone(), Ok(Node::new(name, &entry))));
                }
            }
            PipelineReply::Refused(refusal)
                if !matches!(refusal.code, ErrorCode::NotFound | ErrorCode::NotFolder) =>
            {
                return Err(Failure::from(refusal).of(&self.folders[at].to_string()));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Adds the matches directly in one local folder; a missing folder is empty.
fn search(path: &Path, part: &PatternPart, into: &mut Vec<Match<PathBuf>>) -> Result<()> {
    let failed = |e: &TreeError| tree_failure(&path.display().to_string(), e);
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
            let name = std::str::from_utf8(listed.name()).ok().filter(|name| part.is_match(name));
            names.extend(name.map(str::to_owned));
        }
        names.sort_unstable();
    }
    for name in names {
        let meta = match folder.survey(name.as_bytes()) {
            Ok(found) => found.meta,
            Err(TreeError::NotFound) => continue,
            Err(error) => return Err(failed(&error).of(&name)),
        };
        let node = TreePath::new(name.as_str())
            .map_err(|_| SkipReason::Name)
            .and_then(|own| Node::local(own, &meta))
            .map_err(|reason| format!("{}: {reason}", path.join(&name).display()));
        into.push((path.to_path_buf(), node));
    }
    Ok(())
}
