//! Transferring what patterns found: each file under its own name into one folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, MetaKind, TreeError, Unserved};

use super::expand::{self, Expanded};
use super::node::Node;
use super::pattern::Pattern;
use super::place::{Place, failure};
use super::run::{Run, Way, amount, remote_name};
use super::tally::{Tally, ends_all};
use crate::Failure;
use crate::local::openable;
use crate::log::is_ours;
use crate::outcome::Several;
use crate::shell::Shell;

/// The files that were found, by the folder they lie in. No two have the same name.
struct Picked<F> {
    by_folder: BTreeMap<F, Vec<Node>>,
    names: HashMap<TreePath, F>,
}

impl<F: Ord + Clone> Picked<F> {
    fn new() -> Self {
        Self { by_folder: BTreeMap::new(), names: HashMap::new() }
    }

    /// Takes a file in. One that an earlier pattern found is there already.
    ///
    /// # Errors
    /// That another file has its name.
    fn add(&mut self, folder: F, node: Node) -> Result<(), Failure> {
        if self.claim(&folder, &node)? {
            self.by_folder.entry(folder).or_default().push(node);
        }
        Ok(())
    }

    /// Takes the name of a file or folder; false where an earlier pattern found the same one.
    ///
    /// # Errors
    /// That another one has the name.
    fn claim(&mut self, folder: &F, node: &Node) -> Result<bool, Failure> {
        match self.names.get(&node.path) {
            Some(other) if other == folder => Ok(false),
            Some(_) => {
                let kind = if node.is_folder() { "folder" } else { "file" };
                Err(Failure::new(
                    ErrorCode::Exists,
                    format!("another {kind} of the same name is transferred by this command"),
                ))
            }
            None => {
                self.names.insert(node.path.clone(), folder.clone());
                Ok(true)
            }
        }
    }
}

impl Shell {
    /// Fetches what matches into the local folder `into`, or the one the user is in.
    ///
    /// # Errors
    /// That the folder is none, or what keeps all of it from being fetched. The rest is in the result.
    pub fn get_matching(
        &mut self,
        patterns: &[Pattern],
        into: Option<&str>,
        recursive: bool,
    ) -> Result<Several, Failure> {
        let folder = self.local.target("x", into, true)?.folder;
        let pinned = Folder::open(openable(&folder))
            .map_err(|e| failure(&folder.display().to_string(), &e))?;
        let (mut place, mut tally) = (Place::new(pinned, &folder), Tally::new());
        let (mut files, mut folders) = (Picked::new(), Vec::new());
        for pattern in patterns {
            let expanded = expand::remote(self, pattern);
            for (above, node) in self.chosen(&mut tally, pattern, expanded, recursive)? {
                let name = remote_name(&above, &node.path);
                if node.is_folder() {
                    match files.claim(&above, &node) {
                        Ok(true) => folders.push(name),
                        Ok(false) => {}
                        Err(failure) => {
                            tally.fail(&mut self.output, name.clone(), failure.of(&name))
                        }
                    }
                } else if let Err(failure) =
                    check_free(&place, &node.path).and_then(|()| files.add(above, node))
                {
                    tally.fail(&mut self.output, name.clone(), failure.of(&name));
                }
            }
        }
        for (base, nodes) in files.by_folder {
            self.transfer(&mut place, &base, Way::Down, &mut tally, &nodes)?;
        }
        for name in folders {
            let fetched = self.remote(&name).and_then(|path| self.get_tree(&path, into));
            self.take_tree(&mut tally, name, fetched);
        }
        Ok(tally.finish())
    }

    /// Sends what matches into the remote folder `onto`, or the one the user is in.
    ///
    /// # Errors
    /// That the folder is none, or what keeps all of it from being sent. The rest is in the result.
    pub fn put_matching(
        &mut self,
        patterns: &[Pattern],
        onto: Option<&str>,
        recursive: bool,
    ) -> Result<Several, Failure> {
        let base = onto.map_or_else(|| Ok(self.place.clone()), |onto| self.remote(onto))?;
        match self.session.stat(&base) {
            Ok(details) if details.entry.kind == Kind::Folder => {}
            Ok(_) => {
                return Err(Failure::new(
                    ErrorCode::NotFolder,
                    format!("{base} is no folder, and several files cannot have one name"),
                ));
            }
            Err(failure) => return Err(self.explain(&base, failure)),
        }
        let mut tally = Tally::new();
        let (mut files, mut folders) = (Picked::new(), Vec::new());
        for pattern in patterns {
            let expanded = expand::local(self, pattern);
            for (above, node) in self.chosen(&mut tally, pattern, expanded, recursive)? {
                let name = remote_name(&base, &node.path);
                if node.is_folder() {
                    match files.claim(&above, &node) {
                        Ok(true) => folders.push((above.join(node.path.as_str()), name)),
                        Ok(false) => {}
                        Err(failure) => {
                            tally.fail(&mut self.output, name.clone(), failure.of(&name))
                        }
                    }
                } else if !is_ours(node.path.as_str())
                    && let Err(failure) = files.add(above, node)
                {
                    tally.fail(&mut self.output, name.clone(), failure.of(&name));
                }
            }
        }
        for (above, nodes) in files.by_folder {
            self.transfer_from(&above, &base, &mut tally, &nodes)?;
        }
        let onto = if base.is_root() { "/".to_owned() } else { format!("{base}/") };
        for (path, name) in folders {
            let sent = self.put_tree_at(&path, Some(&onto));
            self.take_tree(&mut tally, name, sent);
        }
        Ok(tally.finish())
    }

    /// What a pattern stands for, without the folders where those are not wanted. A pattern that
    /// stands for nothing fails, and the others go on.
    fn chosen<F>(
        &mut self,
        tally: &mut Tally,
        pattern: &Pattern,
        expanded: Result<Expanded<F>, Failure>,
        recursive: bool,
    ) -> Result<Vec<(F, Node)>, Failure> {
        let Expanded { mut found, odd } = match expanded {
            Ok(expanded) => expanded,
            Err(failure) if ends_all(&failure) => return Err(failure),
            Err(failure) => {
                tally.fail(&mut self.output, pattern.quoted(), failure);
                return Ok(Vec::new());
            }
        };
        for name in odd {
            self.notices.say(&format!("skipped {name}"));
            tally.several.skipped.push(name);
        }
        if !recursive {
            let before = found.len();
            found.retain(|(_, node)| !node.is_folder());
            if found.is_empty() && before > 0 {
                let message = format!(
                    "only folders match {}; -r takes them with all that is in them",
                    pattern.quoted()
                );
                tally.fail(
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
        place: &mut Place,
        base: &TreePath,
        way: Way,
        tally: &mut Tally,
        nodes: &[Node],
    ) -> Result<(), Failure> {
        if !tally.is_over() {
            let picks: Vec<usize> = (0..nodes.len()).collect();
            Run::new(self, place, base, way, tally, amount(nodes, picks.iter()))?
                .send(nodes, &picks);
        }
        Ok(())
    }

    fn transfer_from(
        &mut self,
        above: &Path,
        base: &TreePath,
        tally: &mut Tally,
        nodes: &[Node],
    ) -> Result<(), Failure> {
        let folder = match Folder::open(openable(above)) {
            Ok(folder) => folder,
            Err(error) => {
                let failure = failure(&above.display().to_string(), &error);
                tally.fail(&mut self.output, base.to_string(), failure);
                return Ok(());
            }
        };
        self.transfer(&mut Place::new(folder, above), base, Way::Up, tally, nodes)
    }

    /// What became of a folder.
    fn take_tree(&mut self, tally: &mut Tally, name: String, result: Result<Several, Failure>) {
        match result {
            Ok(several) => tally.several.merge(several),
            Err(failure) if tally.is_over() && ends_all(&failure) => {}
            Err(failure) => {
                let failure =
                    if failure.message.contains(&name) { failure } else { failure.of(&name) };
                tally.fail(&mut self.output, name, failure);
            }
        }
    }
}

/// Whether a file may have this name here: none of our own, and no device, whose place is never taken.
fn check_free(place: &Place, path: &TreePath) -> Result<(), Failure> {
    let name = path.as_str();
    if is_ours(name) {
        return Err(Failure::new(ErrorCode::Local, "ftpclient uses that name itself"));
    }
    let shown = place.shown(path);
    match place.top().stat_part(name.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::Special => {
            Err(failure(&shown, &TreeError::NotServed(Unserved::Special)))
        }
        Ok(meta) if meta.kind == MetaKind::Folder => Err(failure(&shown, &TreeError::IsFolder)),
        Ok(_) | Err(TreeError::NotFound) => Ok(()),
        Err(error) => Err(failure(&shown, &error)),
    }
}
