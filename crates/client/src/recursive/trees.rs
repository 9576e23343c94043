//! `get -r` and `put -r`: one folder becomes the copy of another, with what is there already left in place.
//!
//! The whole command has a line in the `.log`, and is resumed with what is not equal yet.

use std::path::{Path, PathBuf};

use relais_proto::{ErrorCode, Kind, TreePath};
use relais_tree::{Folder, TreeError};

use super::line::Line;
use super::node::{Listing, Odd};
use super::place::{Place, failure};
use super::plan::{Compare, Plan, Wish, plan};
use super::run::{Run, Way, amount, remote_name};
use super::tally::{Tally, is_left};
use super::walk;
use crate::Failure;
use crate::local::{Target, openable};
use crate::log::{Entry, Work, contents, is_ours};
use crate::outcome::Several;
use crate::receive::Job;
use crate::send;
use crate::shell::Shell;

/// A local folder that is the top of a copy: one with a name in another, or one that was named itself.
pub struct Top {
    /// Where it lies, or the folder itself.
    pub folder: PathBuf,
    /// Its name; none where `folder` is it.
    pub name: Option<String>,
}

impl Top {
    /// As the user knows it.
    pub(super) fn shown(&self) -> PathBuf {
        self.name.as_ref().map_or_else(|| self.folder.clone(), |name| self.folder.join(name))
    }

    /// As the `.log` has it: `.` behind a folder that was named itself.
    fn logged(&self, shell: &Shell) -> Result<String, Failure> {
        let name = self.name.clone().unwrap_or_else(|| ".".to_owned());
        shell.local.logged(&Target { folder: self.folder.clone(), name })
    }

    /// Pins it beneath `parent`, made where it is missing. No link that has its name is followed.
    fn place(&self, parent: Folder) -> Result<Place, Failure> {
        let shown = self.shown();
        let failed = |e: TreeError| failure(&shown.display().to_string(), &e);
        let Some(name) = &self.name else { return Ok(Place::new(parent, &shown)) };
        if is_ours(name) {
            return Err(Failure::new(
                ErrorCode::Local,
                format!(
                    "{}: ftpclient uses that name itself; choose another with -o",
                    shown.display()
                ),
            ));
        }
        match parent.make_folder(name, false) {
            Ok(()) | Err(TreeError::Taken) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(Place::new(parent.sub(name).map_err(failed)?, &shown))
    }
}

impl Shell {
    /// Fetches the folder `remote` with all that is below it; a file is fetched as `get` does it.
    ///
    /// # Errors
    /// What keeps all of it from being fetched. What concerns single names is in the result.
    pub fn get_tree(&mut self, remote: &TreePath, into: Option<&str>) -> Result<Several, Failure> {
        if self.session.stat(remote)?.entry.kind == Kind::File {
            return self.get_single(remote, into);
        }
        let top = self.top_of(remote, into)?;
        let logged = top.logged(self)?;
        let parent = Folder::open(openable(&top.folder))
            .map_err(|e| failure(&top.folder.display().to_string(), &e))?;
        self.fetch_tree(remote, parent, &top, &logged)
    }

    fn get_single(&mut self, remote: &TreePath, into: Option<&str>) -> Result<Several, Failure> {
        let target = self.local.target(remote.last().unwrap_or_default(), into, false)?;
        let logged = self.local.logged(&target)?;
        let received = self.receive_named(&Job { remote: remote.clone(), target, logged })?;
        let mut several = Several { time: received.time, ..Several::default() };
        several.add(&received);
        Ok(several)
    }

    /// Where the copy of the folder `remote` goes: the top of the tree has no name.
    fn top_of(&self, remote: &TreePath, into: Option<&str>) -> Result<Top, Failure> {
        let named = |Target { folder, name }| Top { folder, name: Some(name) };
        if let Some(begun) = into.and_then(|into| self.local.exactly(into)).map(named)
            && begun.logged(self).is_ok_and(|logged| self.is_begun(remote, &logged, &Work::GetTree))
        {
            // The folder of that name is what the same command made before it was cut off.
            return Ok(begun);
        }
        match (remote.last(), into) {
            (Some(last), into) => self.local.target(last, into, false).map(named),
            (None, None) => Ok(Top { folder: self.local.resolve(""), name: None }),
            (None, Some(into)) => {
                let path = self.local.resolve(into);
                match openable(&path).is_dir() {
                    true => Ok(Top { folder: path, name: None }),
                    false => self.local.target("", Some(into), false).map(named),
                }
            }
        }
    }

    pub(super) fn fetch_tree(
        &mut self,
        remote: &TreePath,
        parent: Folder,
        top: &Top,
        logged: &str,
    ) -> Result<Several, Failure> {
        let origin = self.connected()?;
        let line = Line::enter(self, remote, logged, origin, Work::GetTree);
        let mut tally = Tally::new();
        let result = self.fetch_into(remote, parent, top, line.carries_on, &mut tally);
        self.end_tree(line, tally, result)
    }

    fn fetch_into(
        &mut self,
        remote: &TreePath,
        parent: Folder,
        top: &Top,
        carries_on: bool,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let source = walk::remote(self, remote)?;
        let mut place = top.place(parent)?;
        let there = walk::local(place.top(), &self.interrupt)?;
        refuse_names(self, tally, remote, &source);
        let plan = copy_plan(&source, &there, carries_on);
        tell_left_out(self, tally, remote, &source, &plan);
        tally.several.folders += plan.present;
        Run::new(
            self,
            &mut place,
            remote,
            Way::Down,
            tally,
            amount(&source.nodes, plan.send.iter()),
        )?
        .add(&source, &plan.make, &plan.send);
        Ok(())
    }

    /// Sends the local folder `local` with all that is below it; a file is sent as `put` does it.
    ///
    /// # Errors
    /// What keeps all of it from being sent. What concerns single names is in the result.
    pub fn put_tree(&mut self, local: &str, onto: Option<&str>) -> Result<Several, Failure> {
        if local.is_empty() {
            return Err(Failure::usage("the local name is empty"));
        }
        self.put_tree_at(&self.local.resolve(local), onto)
    }

    /// As [`Self::put_tree`], for a path that is resolved already.
    ///
    /// # Errors
    /// As [`Self::put_tree`].
    pub fn put_tree_at(&mut self, path: &Path, onto: Option<&str>) -> Result<Several, Failure> {
        let found = std::fs::metadata(openable(path)).map_err(|e| Failure::local(path, &e))?;
        let name = own_name(path)?;
        if !found.is_dir() {
            let remote = self.remote_top(name, onto, None)?;
            return self.put_single(path, remote);
        }
        let top = Top { folder: path.to_path_buf(), name: None };
        let logged = match (path.parent(), name) {
            (Some(parent), Some(name)) => self
                .local
                .logged(&Target { folder: parent.to_path_buf(), name: name.to_owned() })?,
            _ => top.logged(self)?,
        };
        let remote = self.remote_top(name, onto, Some(&logged))?;
        let folder =
            Folder::open(openable(path)).map_err(|e| failure(&path.display().to_string(), &e))?;
        self.send_tree(Place::new(folder, path), &remote, &logged)
    }

    fn put_single(&mut self, path: &Path, remote: TreePath) -> Result<Several, Failure> {
        let logged = self.local.logged_path(path);
        let shown = path.display().to_string();
        let sent = self.send_named(&send::Job {
            local: path.to_path_buf(),
            shown,
            remote,
            logged,
            expect: relais_proto::Expect::Any,
            resumed: false,
        })?;
        let mut several = Several { time: sent.time, ..Several::default() };
        several.add_sent(&sent);
        Ok(several)
    }

    /// Whether a folder was begun under exactly these names and is unfinished.
    fn is_begun(&self, remote: &TreePath, logged: &str, work: &Work) -> bool {
        let origin = self.session.origin();
        let is_same = |entry: &Entry| {
            (&entry.remote, entry.local.as_str(), &entry.work) == (remote, logged, work)
                && Some(&entry.origin) == origin
        };
        // What is wrong with the `.log` is told when the line is written.
        contents(self.local.home()).is_ok_and(|contents| contents.entries.iter().any(is_same))
    }

    /// What a local folder called `name` becomes there; one without a name goes into the folder that is meant.
    fn remote_top(
        &mut self,
        name: Option<&str>,
        onto: Option<&str>,
        logged: Option<&str>,
    ) -> Result<TreePath, Failure> {
        let inside = |folder: &TreePath| match name {
            Some(name) => folder.join(name).map_err(|e| Failure::from(e).of(name)),
            None => Ok(folder.clone()),
        };
        let Some(onto) = onto else { return inside(&self.place) };
        let path = self.remote(onto)?;
        if path.is_root() || onto.ends_with('/') {
            return inside(&path);
        }
        if logged.is_some_and(|logged| self.is_begun(&path, logged, &Work::PutTree)) {
            // The folder of that name is what the same command made before it was cut off.
            return Ok(path);
        }
        match self.session.stat(&path) {
            Ok(details) if details.entry.kind == Kind::Folder => inside(&path),
            Ok(_) => Ok(path),
            Err(failure) if failure.code == ErrorCode::NotFound => Ok(path),
            Err(failure) => Err(crate::shell::about(&path, failure)),
        }
    }

    pub(super) fn send_tree(
        &mut self,
        mut place: Place,
        remote: &TreePath,
        logged: &str,
    ) -> Result<Several, Failure> {
        let origin = self.connected()?;
        let line = Line::enter(self, remote, logged, origin, Work::PutTree);
        let mut tally = Tally::new();
        let result = self.send_from(&mut place, remote, line.carries_on, &mut tally);
        self.end_tree(line, tally, result)
    }

    fn send_from(
        &mut self,
        place: &mut Place,
        remote: &TreePath,
        carries_on: bool,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let source = walk::local(place.top(), &self.interrupt)?;
        tally.skip(&self.notices, &place.shown(&TreePath::root()), &source.kept);
        self.make_top(remote)?;
        // Otherwise all is sent anyway, and a folder that is there says so.
        let there = if carries_on { walk::remote(self, remote)? } else { Listing::default() };
        let plan = copy_plan(&source, &there, carries_on);
        tell_left_out(self, tally, remote, &source, &plan);
        tally.several.folders += plan.present;
        Run::new(self, place, remote, Way::Up, tally, amount(&source.nodes, plan.send.iter()))?
            .add(&source, &plan.make, &plan.send);
        Ok(())
    }

    /// The folder that all goes into, made where it is missing. Its parent has to be there.
    fn make_top(&mut self, remote: &TreePath) -> Result<(), Failure> {
        if remote.is_root() {
            return Ok(());
        }
        match self.session.make_folder(remote) {
            Ok(_) => Ok(()),
            Err(failure) if failure.code == ErrorCode::Exists => {
                match self.session.stat(remote)?.entry.kind {
                    Kind::Folder => Ok(()),
                    Kind::File => Err(Failure::new(
                        ErrorCode::NotFolder,
                        format!("{remote}: a file has that name"),
                    )),
                }
            }
            Err(failure) if failure.code == ErrorCode::NotFound => Err(Failure::new(
                ErrorCode::NotFound,
                format!("{remote}: the folder that it would lie in is not there"),
            )),
            Err(failure) => Err(crate::shell::about(remote, failure)),
        }
    }

    /// The line goes where nothing is left that another run would find to do.
    fn end_tree(
        &mut self,
        line: Line,
        tally: Tally,
        result: Result<(), Failure>,
    ) -> Result<Several, Failure> {
        let left = tally.can_go_on() || result.as_ref().is_err_and(is_left);
        if !left {
            line.finish(self);
        }
        match result {
            Ok(()) => Ok(tally.finish()),
            Err(failure) if failure.status() == 3 => Err(Failure::new(
                ErrorCode::Cut,
                format!("{failure}; the same command carries it on"),
            )),
            Err(failure) => Err(failure),
        }
    }
}

/// The name that a local path ends with; none for `.`, `..` and the top.
fn own_name(path: &Path) -> Result<Option<&str>, Failure> {
    let text = path.to_str().ok_or_else(|| {
        Failure::new(ErrorCode::BadName, format!("{}: the name is not UTF-8", path.display()))
    })?;
    let last = text.trim_end_matches('/').rsplit('/').next();
    Ok(last.filter(|last| !matches!(*last, "" | "." | "..")))
}

/// What a copy has to do. Where it is carried on, what is equal by now is left.
fn copy_plan(source: &Listing, there: &Listing, carries_on: bool) -> Plan {
    let compare = if carries_on { Compare::Time } else { Compare::Never };
    plan(source, there, &Wish { compare, delete: false, over_links: true })
}

/// Tells what of the source is not even tried: what could not be listed, what this side cannot
/// take, and what something else is in the way of.
pub(super) fn tell_left_out(
    shell: &mut Shell,
    tally: &mut Tally,
    base: &TreePath,
    source: &Listing,
    plan: &Plan,
) {
    tell_not_listed(shell, tally, base, source);
    for blocked in &plan.blocked {
        let path = &source.nodes[blocked.node].path;
        let (name, by) = (remote_name(base, path), &blocked.by);
        let below = if blocked.below > 0 {
            format!("; {} names below it are left out", blocked.below)
        } else {
            String::new()
        };
        tally.fail(
            &mut shell.output,
            name.clone(),
            Failure::new(ErrorCode::Local, format!("{name}: {by}{below}")),
        );
    }
}

/// The part of [`tell_left_out`] that is about the listing alone.
pub(super) fn tell_not_listed(
    shell: &mut Shell,
    tally: &mut Tally,
    base: &TreePath,
    listing: &Listing,
) {
    for (path, failure) in &listing.failed {
        let name = remote_name(base, path);
        let failure = if failure.message.contains(&name) {
            failure.clone()
        } else {
            failure.clone().of(&name)
        };
        tally.fail(&mut shell.output, name, failure);
    }
}

/// Names of the server's that have no place here: each fails, and no other.
pub(super) fn refuse_names(
    shell: &mut Shell,
    tally: &mut Tally,
    base: &TreePath,
    source: &Listing,
) {
    for kept in source.kept.iter().filter(|kept| matches!(kept.odd, Odd::Ours | Odd::Name)) {
        let shown = kept.shown();
        let name = if base.is_root() { format!("/{shown}") } else { format!("{base}/{shown}") };
        tally.fail(
            &mut shell.output,
            name.clone(),
            Failure::new(ErrorCode::Local, format!("{name} is not fetched: it is {}", kept.odd)),
        );
    }
}
