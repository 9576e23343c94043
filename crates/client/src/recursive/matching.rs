//! Transfers of the files that patterns match: each under its own name into one folder.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use relais_proto::TreePath;

use super::batch::{Batch, Direction};
use super::batch_report::{BatchReport, ends_batch};
use super::expand::{self, Match};
use super::local_tree::LocalTree;
use super::node::{Node, remote_name};
use super::pattern::Pattern;
use super::trees::{get_tree, put_tree};
use crate::Result;
use crate::local_file::{check_target, open_folder};
use crate::outcome::BatchSummary;
use crate::shell::Shell;
use crate::transfer_log::is_reserved;

/// Fetches the matches into the local folder `into`, or the current one.
///
/// # Errors
/// `into` is not a folder, or the whole command fails. Other failures are in the result.
pub fn get_matching(
    shell: &mut Shell,
    patterns: &[Pattern],
    into: Option<&str>,
    recursive: bool,
) -> Result<BatchSummary> {
    let folder = shell.local.target("x", into, true)?.folder;
    let mut tree = LocalTree::new(open_folder(&folder)?, &folder);
    let mut all = Matched::<TreePath>::new(recursive);
    for pattern in patterns {
        let expanded = expand::remote(shell, pattern);
        all.add(shell, pattern, expanded, |above, node| {
            let name = remote_name(above, &node.path);
            if node.is_folder() {
                return (name, Ok(true));
            }
            let shown = tree.shown(&node.path);
            let checked = check_target(&tree.top, node.path.as_str(), &shown);
            (name, checked.map(|()| true))
        })?;
    }
    let Matched { files, folders, mut report, .. } = all;
    for (base, nodes) in files {
        transfer(shell, &mut tree, &base, Direction::Down, &mut report, &nodes)?;
    }
    for (_, _, name) in folders {
        let fetched = shell.resolve_remote(&name).and_then(|path| get_tree(shell, &path, into));
        report.add_tree(&mut shell.output, &name, fetched);
    }
    Ok(report.finish())
}

/// Sends the matches into the remote folder `onto`, or the current one.
///
/// # Errors
/// `onto` is not a folder, or the whole command fails. Other failures are in the result.
pub fn put_matching(
    shell: &mut Shell,
    patterns: &[Pattern],
    onto: Option<&str>,
    recursive: bool,
) -> Result<BatchSummary> {
    let base = onto.map_or_else(|| Ok(shell.cwd.clone()), |onto| shell.resolve_remote(onto))?;
    if !shell.is_folder(&base)? {
        fail!(NotFolder, "{base} is not a folder, and several files need a folder");
    }
    let mut all = Matched::<PathBuf>::new(recursive);
    for pattern in patterns {
        let expanded = expand::local(shell, pattern);
        all.add(shell, pattern, expanded, |_, node| {
            let is_wanted = node.is_folder() || !is_reserved(node.path.as_str());
            (remote_name(&base, &node.path), Ok(is_wanted))
        })?;
    }
    let Matched { files, folders, mut report, .. } = all;
    for (above, nodes) in files {
        match open_folder(&above) {
            Ok(folder) => {
                let mut tree = LocalTree::new(folder, &above);
                transfer(shell, &mut tree, &base, Direction::Up, &mut report, &nodes)?;
            }
            Err(failure) => report.fail(&mut shell.output, base.to_string(), failure),
        }
    }
    let onto = if base.is_root() { "/".to_owned() } else { format!("{base}/") };
    for (above, own, name) in folders {
        let sent = put_tree(shell, &above.join(own), Some(&onto));
        report.add_tree(&mut shell.output, &name, sent);
    }
    Ok(report.finish())
}

/// The matches of all patterns by their folder. No two have the same name.
struct Matched<F> {
    recursive: bool,
    report: BatchReport,
    files: BTreeMap<F, Vec<Node>>,
    /// The folders: where they are, their own names, and their remote names.
    folders: Vec<(F, String, String)>,
    names: HashMap<TreePath, F>,
}

impl<F: Ord + Clone> Matched<F> {
    fn new(recursive: bool) -> Self {
        let report = BatchReport::new();
        let (files, folders, names) = (BTreeMap::new(), Vec::new(), HashMap::new());
        Self { recursive, report, files, folders, names }
    }

    /// Adds the matches of a pattern; folders only for a recursive transfer.
    ///
    /// `check` returns the remote name of a match, and whether it is transferred.
    ///
    /// # Errors
    /// The whole command fails. A pattern without a match fails alone.
    fn add(
        &mut self,
        shell: &mut Shell,
        pattern: &Pattern,
        expanded: Result<Vec<Match<F>>>,
        check: impl Fn(&F, &Node) -> (String, Result<bool>),
    ) -> Result<()> {
        let matches = match expanded {
            Ok(matches) => matches,
            Err(failure) if ends_batch(&failure) => return Err(failure),
            Err(failure) => {
                self.report.fail(&mut shell.output, pattern.quoted(), failure);
                return Ok(());
            }
        };
        let mut found = Vec::new();
        for (above, node) in matches {
            match node {
                Ok(node) => found.push((above, node)),
                Err(skipped) => {
                    say!(shell.notices, "skipped {skipped}");
                    self.report.summary.skip([skipped]);
                }
            }
        }
        if !self.recursive {
            let before = found.len();
            found.retain(|(_, node)| !node.is_folder());
            if found.is_empty() && before > 0 {
                let quoted = pattern.quoted();
                let failure = failure!(
                    IsFolder,
                    "only folders match {quoted}; -r transfers them with their content"
                );
                self.report.fail(&mut shell.output, quoted, failure);
            }
        }
        for (above, node) in found {
            let (name, checked) = check(&above, &node);
            match checked.and_then(|wanted| Ok(wanted && self.claim(&above, &node)?)) {
                Ok(true) if node.is_folder() => {
                    self.folders.push((above, node.path.as_str().to_owned(), name));
                }
                Ok(true) => self.files.entry(above).or_default().push(node),
                Ok(false) => {}
                Err(failure) => self.report.fail(&mut shell.output, &name, failure.of(&name)),
            }
        }
        Ok(())
    }

    /// Reserves the name of a match; returns false if an earlier pattern matched it.
    ///
    /// # Errors
    /// Another match has the name.
    fn claim(&mut self, folder: &F, node: &Node) -> Result<bool> {
        match self.names.get(&node.path) {
            Some(other) if other == folder => return Ok(false),
            Some(_) => {
                let kind = if node.is_folder() { "folder" } else { "file" };
                fail!(Exists, "this command transfers another {kind} of the same name")
            }
            None => {}
        }
        self.names.insert(node.path.clone(), folder.clone());
        Ok(true)
    }
}

fn transfer(
    shell: &mut Shell,
    tree: &mut LocalTree,
    base: &TreePath,
    direction: Direction,
    report: &mut BatchReport,
    nodes: &[Node],
) -> Result<()> {
    if !report.is_over() {
        let picks: Vec<usize> = (0..nodes.len()).collect();
        let bytes = nodes.iter().fold(0, |bytes, node| node.size.saturating_add(bytes));
        let amount = (nodes.len() as u64, bytes);
        Batch::new(&shell.notices, tree, base, direction, report, amount)?
            .transfer(shell, nodes, &picks);
    }
    Ok(())
}
