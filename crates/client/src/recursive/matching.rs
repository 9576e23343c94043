//! Transfers of the files that patterns match: each under its own name into one folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, MetaKind, TreeError, UnservedKind};

use super::batch_report::{BatchReport, ends_batch};
use super::expand::{self, PatternMatches};
use super::local_tree::{LocalTree, failure};
use super::node::Node;
use super::pattern::Pattern;
use super::run::{Direction, PlanRunner, amount, remote_name};
use crate::local::openable;
use crate::outcome::BatchSummary;
use crate::shell::Shell;
use crate::transfer_log::is_reserved;
use crate::{Failure, Result};

/// The matched files by their folder. No two have the same name.
struct MatchedFiles<F> {
    by_folder: BTreeMap<F, Vec<Node>>,
    names: HashMap<TreePath, F>,
}

impl<F: Ord + Clone> MatchedFiles<F> {
    fn new() -> Self {
        Self { by_folder: BTreeMap::new(), names: HashMap::new() }
    }

    /// Adds a file, unless an earlier pattern matched it.
    ///
    /// # Errors
    /// Another file has its name.
    fn add(&mut self, folder: F, node: Node) -> Result<()> {
        if self.claim(&folder, &node)? {
            self.by_folder.entry(folder).or_default().push(node);
        }
        Ok(())
    }

    /// Reserves the name of a file or folder; returns false if an earlier pattern matched it.
    ///
    /// # Errors
    /// Another match has the name.
    fn claim(&mut self, folder: &F, node: &Node) -> Result<bool> {
        match self.names.get(&node.path) {
            Some(other) if other == folder => Ok(false),
            Some(_) => {
                let kind = if node.is_folder() { "folder" } else { "file" };
                Err(failure!(Exists, "this command transfers another {kind} of the same name"))
            }
            None => {
                self.names.insert(node.path.clone(), folder.clone());
                Ok(true)
            }
        }
    }
}

impl Shell {
    /// Fetches the matches into the local folder `into`, or the current one.
    ///
    /// # Errors
    /// `into` is not a folder, or the whole command fails. Other failures are in the result.
    pub fn get_matching(
        &mut self,
        patterns: &[Pattern],
        into: Option<&str>,
        recursive: bool,
    ) -> Result<BatchSummary> {
        let folder = self.local.target("x", into, true)?.folder;
        let pinned = Folder::open(openable(&folder))
            .map_err(|e| failure(&folder.display().to_string(), &e))?;
        let (mut tree, mut report) = (LocalTree::new(pinned, &folder), BatchReport::new());
        let (mut files, mut folders) = (MatchedFiles::new(), Vec::new());
        for pattern in patterns {
            let expanded = expand::remote(self, pattern);
            for (above, node) in self.wanted_matches(&mut report, pattern, expanded, recursive)? {
                let name = remote_name(&above, &node.path);
                if node.is_folder() {
                    match files.claim(&above, &node) {
                        Ok(true) => folders.push(name),
                        Ok(false) => {}
                        Err(failure) => {
                            report.fail(&mut self.output, name.clone(), failure.of(&name))
                        }
                    }
                } else if let Err(failure) =
                    check_free(&tree, &node.path).and_then(|()| files.add(above, node))
                {
                    report.fail(&mut self.output, name.clone(), failure.of(&name));
                }
            }
        }
        for (base, nodes) in files.by_folder {
            self.transfer(&mut tree, &base, Direction::Down, &mut report, &nodes)?;
        }
        for name in folders {
            let fetched = self.resolve_remote(&name).and_then(|path| self.get_tree(&path, into));
            self.add_tree_result(&mut report, name, fetched);
        }
        Ok(report.finish())
    }

    /// Sends the matches into the remote folder `onto`, or the current one.
    ///
    /// # Errors
    /// `onto` is not a folder, or the whole command fails. Other failures are in the result.
    pub fn put_matching(
        &mut self,
        patterns: &[Pattern],
        onto: Option<&str>,
        recursive: bool,
    ) -> Result<BatchSummary> {
        let base = onto.map_or_else(|| Ok(self.cwd.clone()), |onto| self.resolve_remote(onto))?;
        match self.session.stat(&base) {
            Ok(details) if details.entry.kind == Kind::Folder => {}
            Ok(_) => {
                fail!(NotFolder, "{base} is not a folder, and several files need a folder");
            }
            Err(failure) => return Err(self.explain(&base, failure)),
        }
        let mut report = BatchReport::new();
        let (mut files, mut folders) = (MatchedFiles::new(), Vec::new());
        for pattern in patterns {
            let expanded = expand::local(self, pattern);
            for (above, node) in self.wanted_matches(&mut report, pattern, expanded, recursive)? {
                let name = remote_name(&base, &node.path);
                if node.is_folder() {
                    match files.claim(&above, &node) {
                        Ok(true) => folders.push((above.join(node.path.as_str()), name)),
                        Ok(false) => {}
                        Err(failure) => {
                            report.fail(&mut self.output, name.clone(), failure.of(&name))
                        }
                    }
                } else if !is_reserved(node.path.as_str())
                    && let Err(failure) = files.add(above, node)
                {
                    report.fail(&mut self.output, name.clone(), failure.of(&name));
                }
            }
        }
        for (above, nodes) in files.by_folder {
            self.transfer_from(&above, &base, &mut report, &nodes)?;
        }
        let onto = if base.is_root() { "/".to_owned() } else { format!("{base}/") };
        for (path, name) in folders {
            let sent = self.put_tree_at(&path, Some(&onto));
            self.add_tree_result(&mut report, name, sent);
        }
        Ok(report.finish())
    }

    /// Returns the matches of a pattern, without folders unless `recursive` is set.
    ///
    /// A pattern without a match fails alone; the others continue.
    fn wanted_matches<F>(
        &mut self,
        report: &mut BatchReport,
        pattern: &Pattern,
        expanded: Result<PatternMatches<F>>,
        recursive: bool,
    ) -> Result<Vec<(F, Node)>> {
        let PatternMatches { mut found, skipped } = match expanded {
            Ok(expanded) => expanded,
            Err(failure) if ends_batch(&failure) => return Err(failure),
            Err(failure) => {
                report.fail(&mut self.output, pattern.quoted(), failure);
                return Ok(Vec::new());
            }
        };
        for name in skipped {
            self.notices.say(&format!("skipped {name}"));
            report.summary.skipped.push(name);
        }
        if !recursive {
            let before = found.len();
            found.retain(|(_, node)| !node.is_folder());
            if found.is_empty() && before > 0 {
                let message = format!(
                    "only folders match {}; -r transfers them with their content",
                    pattern.quoted()
                );
                report.fail(
                    &mut self.output,
                    pattern.quoted(),
                    Failure::new(ErrorCode::IsFolder, message),
                );
            }
        }
        Ok(found)
    }

    fn transfer(
        &mut self,
        tree: &mut LocalTree,
        base: &TreePath,
        direction: Direction,
        report: &mut BatchReport,
        nodes: &[Node],
    ) -> Result<()> {
        if !report.is_over() {
            let picks: Vec<usize> = (0..nodes.len()).collect();
            PlanRunner::new(self, tree, base, direction, report, amount(nodes, picks.iter()))?
                .send(nodes, &picks);
        }
        Ok(())
    }

    fn transfer_from(
        &mut self,
        above: &Path,
        base: &TreePath,
        report: &mut BatchReport,
        nodes: &[Node],
    ) -> Result<()> {
        let folder = match Folder::open(openable(above)) {
            Ok(folder) => folder,
            Err(error) => {
                let failure = failure(&above.display().to_string(), &error);
                report.fail(&mut self.output, base.to_string(), failure);
                return Ok(());
            }
        };
        self.transfer(&mut LocalTree::new(folder, above), base, Direction::Up, report, nodes)
    }

    /// Adds the result of one folder to the report.
    fn add_tree_result(
        &mut self,
        report: &mut BatchReport,
        name: String,
        result: Result<BatchSummary>,
    ) {
        match result {
            Ok(several) => report.summary.merge(several),
            Err(failure) if report.is_over() && ends_batch(&failure) => {}
            Err(failure) => {
                let failure =
                    if failure.message.contains(&name) { failure } else { failure.of(&name) };
                report.fail(&mut self.output, name, failure);
            }
        }
    }
}

/// Checks that a file may have this local name: no reserved name, device or folder has it.
fn check_free(tree: &LocalTree, path: &TreePath) -> Result<()> {
    let name = path.as_str();
    if is_reserved(name) {
        fail!(Local, "ftpclient uses that name itself");
    }
    let shown = tree.shown(path);
    match tree.top().stat_part(name.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::Special => {
            Err(failure(&shown, &TreeError::NotServed(UnservedKind::Special)))
        }
        Ok(meta) if meta.kind == MetaKind::Folder => Err(failure(&shown, &TreeError::IsFolder)),
        Ok(_) | Err(TreeError::NotFound) => Ok(()),
        Err(error) => Err(failure(&shown, &error)),
    }
}
