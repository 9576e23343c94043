//! Carrying out one change on the disk, in a way that can be taken back until it is safe.
//!
//! A name changes in one step. What a change replaces or removes is kept aside until the folders
//! concerned are on the disk: where that fails, it gets its place back.
//!
//! Users work in the same folder and use no lock. So whatever has left its place is looked at then: only what the
//! catalogue has there may go. Anything else is a user's file that came after the last look; it is quarantined, or the
//! change is rolled back. A name that was free is taken by calls that replace nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use log::warn;
use relais_proto::{Change, Kind, Lsn, Mode, TreePath};
use relais_tree::{Folder, Meta, MetaKind, TreeError, set_mode};

use super::replication::quarantine::Quarantine;
use crate::staging::{StagedName, Staging};

/// Why a file was quarantined.
const CAME_MEANWHILE: &str =
    "it was put there by hand in the moment in which a change was made to that path";
/// Tries where users keep putting things in the place of a change.
const TRIES: usize = 16;

/// A change that was carried out, and may still be taken back.
#[derive(Debug)]
pub struct Applied {
    /// The folders whose names have changed.
    pub parents: Vec<TreePath>,
    /// What is at the path now; none where it was removed, or where what was to be moved was gone.
    pub meta: Option<Meta>,
    /// What has left its place and is to be dropped.
    out: Option<ToDrop>,
    undo: Undo,
}

/// What is to be dropped, as it was when it was found to be what the catalogue has.
#[derive(Debug, Clone, Copy)]
enum ToDrop {
    File(Meta),
    /// The fingerprint of all that is in it.
    Folder(u64),
}

/// Something that has left its place.
pub struct Displaced<'a> {
    /// Where it was.
    pub path: &'a TreePath,
    /// Where it lies now.
    pub folder: &'a Folder,
    /// Its name there.
    pub name: &'a [u8],
    /// What it is.
    pub meta: &'a Meta,
    /// Whether it was renamed itself, which changes its ctime; else a folder above it was.
    pub renamed: bool,
}

/// Tells whether something that has left its place is what the catalogue has there.
pub type IsKnown<'a> = dyn FnMut(&Displaced<'_>) -> Result<bool, TreeError> + 'a;

/// What follows where it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnForeign {
    /// It gets its place back, and the change fails.
    RollBack,
    /// It is quarantined, and the change is made: others have it already.
    Quarantine,
}

#[derive(Debug)]
enum Undo {
    /// New content goes back to staging, and former content back to its name.
    Put {
        parent: TreePath,
        name: String,
        staged: StagedName,
        over: bool,
        ours: Meta,
    },
    MakeFolder {
        parent: TreePath,
        name: String,
    },
    /// It gets its former mode back.
    SetMode {
        path: TreePath,
        former: Mode,
    },
    /// What was kept quarantine goes back to its name.
    Remove {
        parent: TreePath,
        name: String,
        kept: String,
    },
    /// An empty folder is made again.
    RemoveFolder {
        parent: TreePath,
        name: String,
        mode: Mode,
    },
    Move {
        from: (TreePath, String),
        to: (TreePath, String),
        kept: Option<String>,
    },
    /// What is held goes back to its name.
    Hold {
        parent: TreePath,
        name: String,
        staged: StagedName,
    },
    Nothing,
}

/// The folders that a batch concerns, each opened once.
pub struct FolderCache<'a> {
    root: &'a Folder,
    open: HashMap<TreePath, Folder>,
}

impl<'a> FolderCache<'a> {
    /// None is open yet.
    #[must_use]
    pub fn new(root: &'a Folder) -> Self {
        Self { root, open: HashMap::new() }
    }

    /// Forgets the open folders: a path may lead to another one from now on.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    /// The folder at `path`.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn get(&mut self, path: &TreePath) -> Result<&Folder, TreeError> {
        if !self.open.contains_key(path) {
            let folder = self.root.open_folder(path)?;
            self.open.insert(path.clone(), folder);
        }
        self.open.get(path).ok_or(TreeError::NotFound)
    }
}

/// Folder and name of a path below the top.
fn place(path: &TreePath) -> Result<(TreePath, String), TreeError> {
    path.split_last().map(|(parent, name)| (parent, name.to_owned())).ok_or(TreeError::IsFolder)
}

/// What carrying out changes needs.
pub struct Applier<'a, 'r> {
    /// The folders concerned.
    pub parents: &'a mut FolderCache<'r>,
    /// Where content of puts lies, and where what leaves its place goes.
    pub staging: &'a Staging,
    /// The quarantine.
    pub quarantine: &'a mut Quarantine,
    /// What the catalogue has.
    pub known: &'a mut IsKnown<'a>,
    /// What to do with anything else.
    pub on_foreign: OnForeign,
}

impl Applier<'_, '_> {
    /// Carries out a change. `staged` is where the content of a put lies.
    ///
    /// # Errors
    /// Those of the disk, and [`TreeError::Changing`]; the folder is as it was then.
    pub fn apply(
        &mut self,
        change: &Change,
        version: Lsn,
        staged: Option<&StagedName>,
    ) -> Result<Applied, TreeError> {
        match change {
            Change::Put { path, mode, .. } => {
                self.put(path, *mode, staged.ok_or(TreeError::NotFound)?)
            }
            Change::MakeFolder { path, mode } => make_folder(path, *mode, self.parents),
            Change::SetMode { path, mode } => self.set_mode(path, *mode),
            Change::Remove { path, recursive } => self.remove(path, *recursive, version),
            Change::Move { from, to } => self.move_to(from, to, version),
            Change::Withdraw { .. } => Ok(nothing(Vec::new(), None)),
        }
    }

    fn quarantines(&self) -> bool {
        self.on_foreign == OnForeign::Quarantine
    }

    /// Quarantines what has a name in a folder of the tree.
    fn clear(&mut self, folder: &Folder, name: &str, path: &TreePath) -> Result<(), TreeError> {
        self.quarantine.take_from(folder, name, path.as_str(), CAME_MEANWHILE, "").map(drop)
    }

    fn set_mode(&mut self, path: &TreePath, mode: Mode) -> Result<Applied, TreeError> {
        let (parent, name) = place(path)?;
        let former = self.parents.root.stat(path)?.mode;
        let meta = set_mode_of(self.parents.root, path, mode)?;
        let undo = Undo::SetMode { path: path.clone(), former };
        // What is noted as the catalogue's must be the catalogue's.
        let folder = self.parents.get(&parent)?.try_clone()?;
        let name = name.as_bytes();
        let left = Displaced { path, folder: &folder, name, meta: &meta, renamed: true };
        match (self.known)(&left) {
            Ok(true) => Ok(Applied { parents: Vec::new(), meta: Some(meta), out: None, undo }),
            other => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(other.err().unwrap_or(TreeError::Changing))
            }
        }
    }

    fn put(
        &mut self,
        path: &TreePath,
        mode: Mode,
        staged: &StagedName,
    ) -> Result<Applied, TreeError> {
        let (parent, name) = place(path)?;
        let folder = self.parents.get(&parent)?.try_clone()?;
        let own = &self.staging.staged;
        // Under its name it must not be open to others for a moment.
        let content = own.open_read(staged.as_str())?.file;
        if folder.prepare(&content, mode.with_owner_access(Kind::File))? {
            content.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
        }
        drop(content);
        let ours = own.stat_part(staged.as_str().as_bytes())?;
        let mut out = None;
        let mut over = false;
        for tried in 1.. {
            let there = match folder.stat_part(name.as_bytes()) {
                Ok(meta) => Some(meta.kind),
                Err(TreeError::NotFound) => None,
                Err(e) => return Err(e),
            };
            match there {
                None => match own.move_new(staged.as_str(), &folder, &name) {
                    Ok(()) => break,
                    Err(TreeError::Taken) if self.quarantines() && tried < TRIES => {}
                    Err(TreeError::Taken) => return Err(TreeError::Changing),
                    Err(e) => return Err(e),
                },
                Some(MetaKind::File) => match own.exchange(staged.as_str(), &folder, &name) {
                    Ok(()) => {
                        over = true;
                        break;
                    }
                    Err(TreeError::NotFound) if tried < TRIES => {}
                    Err(e) => return Err(e),
                },
                Some(_) if self.quarantines() && tried < TRIES => {
                    self.clear(&folder, &name, path)?;
                }
                Some(_) => return Err(TreeError::IsFolder),
            }
        }
        if over {
            let looked = own.stat_part(staged.as_str().as_bytes()).and_then(|meta| {
                let name = staged.as_str().as_bytes();
                let left = Displaced { path, folder: own, name, meta: &meta, renamed: true };
                Ok(((self.known)(&left)?, meta))
            });
            let failed = match looked {
                Ok((true, meta)) => {
                    out = Some(ToDrop::File(meta));
                    None
                }
                Ok((false, _)) if self.quarantines() => {
                    self.quarantine.take_removed(own, staged.as_str(), path, CAME_MEANWHILE).err()
                }
                Ok((false, _)) => Some(TreeError::Changing),
                Err(e) => Some(e),
            };
            if let Some(e) = failed {
                let undo = Undo::Put { parent, name, staged: staged.clone(), over, ours };
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                return Err(e);
            }
            over = out.is_some();
        }
        let undo = Undo::Put {
            parent: parent.clone(),
            name: name.clone(),
            staged: staged.clone(),
            over,
            ours,
        };
        // Renaming changes the ctime, so it is looked at now. Where a user was faster the row is of ours, and the next
        // look finds the edit.
        match folder.stat_part(name.as_bytes()) {
            Ok(now) => {
                let meta = if now.same_but_renamed(&ours) { now } else { ours };
                Ok(Applied { parents: vec![parent], meta: Some(meta), out, undo })
            }
            Err(TreeError::NotFound) => {
                Ok(Applied { parents: vec![parent], meta: Some(ours), out, undo })
            }
            Err(e) => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(e)
            }
        }
    }

    /// Takes a file out of its place for a while, to be given another one; under a staged name. None where a user had just
    /// put something else there: that is quarantined.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn hold(
        &mut self,
        path: &TreePath,
        staged: &StagedName,
    ) -> Result<Option<Applied>, TreeError> {
        let (parent, name) = place(path)?;
        let own = &self.staging.staged;
        self.staging.discard(staged);
        self.parents.get(&parent)?.take_out(&name, own, staged.as_str())?;
        let undo = Undo::Hold { parent: parent.clone(), name, staged: staged.clone() };
        let bytes = staged.as_str().as_bytes();
        let looked = own.stat_part(bytes).and_then(|meta| {
            let left = Displaced { path, folder: own, name: bytes, meta: &meta, renamed: true };
            (self.known)(&left)
        });
        let failed = match looked {
            Ok(true) => {
                let parents = vec![parent];
                return Ok(Some(Applied { parents, meta: None, out: None, undo }));
            }
            Ok(false) => {
                self.quarantine.take_removed(own, staged.as_str(), path, CAME_MEANWHILE).err()
            }
            Err(e) => Some(e),
        };
        match failed {
            None => Ok(None),
            Some(e) => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(e)
            }
        }
    }

    fn remove(
        &mut self,
        path: &TreePath,
        recursive: bool,
        version: Lsn,
    ) -> Result<Applied, TreeError> {
        let (parent, name) = place(path)?;
        let folder = self.parents.get(&parent)?.try_clone()?;
        let (is_folder, mode) = match folder.stat_part(name.as_bytes()) {
            Ok(meta) => (meta.kind == MetaKind::Folder, meta.mode),
            // Somebody was faster on the server; it is gone, as was wanted.
            Err(TreeError::NotFound) => return Ok(nothing(vec![parent], None)),
            Err(e) => return Err(e),
        };
        if is_folder && !recursive {
            // The system looks whether it is empty in the same step.
            folder.remove_folder(&name)?;
            let undo = Undo::RemoveFolder { parent: parent.clone(), name, mode };
            return Ok(Applied { parents: vec![parent], meta: None, out: None, undo });
        }
        let removed = &self.staging.removed;
        let kept = match free_name(version, |kept| folder.take_out(&name, removed, kept)) {
            Err(TreeError::NotFound) => return Ok(nothing(vec![parent], None)),
            other => other?,
        };
        let undo = Undo::Remove { parent: parent.clone(), name, kept: kept.clone() };
        let failed = match self.check_removed(path, &kept, is_folder) {
            Ok(Some(out)) => {
                return Ok(Applied { parents: vec![parent], meta: None, out: Some(out), undo });
            }
            Ok(None) if self.quarantines() => {
                self.quarantine.take_removed(removed, &kept, path, CAME_MEANWHILE).err()
            }
            Ok(None) => Some(TreeError::Changing),
            Err(e) => Some(e),
        };
        match failed {
            None => Ok(nothing(vec![parent], None)),
            Some(e) => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(e)
            }
        }
    }

    /// What was taken out of the tree as `kept`, where that may go; none where it is something else than what was meant.
    /// In a folder that may go, foreign files are quarantined one by one.
    fn check_removed(
        &mut self,
        path: &TreePath,
        kept: &str,
        folder: bool,
    ) -> Result<Option<ToDrop>, TreeError> {
        let removed = &self.staging.removed;
        let meta = removed.stat_part(kept.as_bytes())?;
        if folder != (meta.kind == MetaKind::Folder) {
            return Ok(None);
        }
        if !folder {
            let left = Displaced {
                path,
                folder: removed,
                name: kept.as_bytes(),
                meta: &meta,
                renamed: true,
            };
            return Ok((self.known)(&left)?.then_some(ToDrop::File(meta)));
        }
        let below = removed.sub(kept)?;
        loop {
            // Taken before the look: what comes behind it, by a program that was on its way into the folder, is found when
            // the folder is dropped.
            let fingerprint = fingerprint(&below)?;
            if !self.quarantines() {
                let all = all_known(path, &below, self.known)?;
                return Ok(all.then_some(ToDrop::Folder(fingerprint)));
            }
            if !self.quarantine.take_unknown(path, &below, CAME_MEANWHILE, self.known)? {
                return Ok(Some(ToDrop::Folder(fingerprint)));
            }
        }
    }

    fn move_to(
        &mut self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
    ) -> Result<Applied, TreeError> {
        let (from_place, to_place) = (place(from)?, place(to)?);
        let source = self.parents.get(&from_place.0)?.try_clone()?;
        if from == to {
            return Ok(nothing(Vec::new(), Some(source.stat_part(from_place.1.as_bytes())?)));
        }
        let target = self.parents.get(&to_place.0)?.try_clone()?;
        let concerned = if from_place.0 == to_place.0 {
            vec![to_place.0.clone()]
        } else {
            vec![from_place.0.clone(), to_place.0.clone()]
        };
        let removed = &self.staging.removed;
        // What is replaced is taken out first: a rename over it could destroy what comes there meanwhile.
        let mut kept = None;
        match target.stat_part(to_place.1.as_bytes()) {
            Ok(meta) if meta.kind == MetaKind::File => {
                match free_name(version, |kept| target.take_out(&to_place.1, removed, kept)) {
                    Ok(name) => kept = Some(name),
                    Err(TreeError::NotFound) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(_) if self.quarantines() => self.clear(&target, &to_place.1, to)?,
            Ok(_) => return Err(TreeError::IsFolder),
            Err(TreeError::NotFound) => {}
            Err(e) => return Err(e),
        }
        let mut out = None;
        let mut failure = None;
        if let Some(name) = &kept {
            match self.check_removed(to, name, false) {
                Ok(Some(meta)) => out = Some(meta),
                Ok(None) if self.quarantines() => {
                    failure = self.quarantine.take_removed(removed, name, to, CAME_MEANWHILE).err();
                    if failure.is_none() {
                        kept = None;
                    }
                }
                Ok(None) => failure = Some(TreeError::Changing),
                Err(e) => failure = Some(e),
            }
        }
        let mut tried = 1;
        while failure.is_none() {
            match source.move_new(&from_place.1, &target, &to_place.1) {
                Ok(()) => break,
                Err(TreeError::Taken) if self.quarantines() && tried < TRIES => {
                    failure = self.clear(&target, &to_place.1, to).err();
                    tried += 1;
                }
                Err(TreeError::Taken) => failure = Some(TreeError::Changing),
                Err(e) => failure = Some(e),
            }
        }
        if let Some(e) = failure {
            if let Some(kept) = &kept {
                restore_name(removed, kept, (&target, &to_place.1), to, self.quarantine)?;
            }
            return Err(e);
        }
        // What has moved is what was meant?
        let looked = target.stat_part(to_place.1.as_bytes()).and_then(|meta| {
            let name = to_place.1.as_bytes();
            let left = Displaced { path: from, folder: &target, name, meta: &meta, renamed: true };
            Ok(((self.known)(&left)?, meta))
        });
        let undo = Undo::Move { from: from_place, to: to_place.clone(), kept };
        let failed = match looked {
            Ok((true, meta)) => {
                return Ok(Applied { parents: concerned, meta: Some(meta), out, undo });
            }
            Ok((false, _)) if self.quarantines() => self.clear(&target, &to_place.1, from).err(),
            Ok((false, _)) => Some(TreeError::Changing),
            Err(e) => Some(e),
        };
        match failed {
            None => Ok(nothing(concerned, None)),
            Some(e) => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(e)
            }
        }
    }
}

/// A step that needs nothing to be taken back.
fn nothing(parents: Vec<TreePath>, meta: Option<Meta>) -> Applied {
    Applied { parents, meta, out: None, undo: Undo::Nothing }
}

/// Moves something to the first name that is free among those of a change: `V`, `V.1`, `V.2`… A change that is carried out
/// again, or takes several things away, finds its first name taken.
fn free_name(
    version: Lsn,
    mut move_to: impl FnMut(&str) -> Result<(), TreeError>,
) -> Result<String, TreeError> {
    let mut n = 0_u64;
    loop {
        let name = if n == 0 { version.to_string() } else { format!("{version}.{n}") };
        match move_to(&name) {
            Err(TreeError::Taken) => n += 1,
            result => return result.map(|()| name),
        }
    }
}

/// Sets the mode of what lies at a path. Of a folder's owner bits, and whether a file's owner may read it, each slave's disk decides.
///
/// # Errors
/// Those of the disk.
pub fn set_mode_of(root: &Folder, path: &TreePath, mode: Mode) -> Result<Meta, TreeError> {
    let there = root.stat(path)?;
    let Some(kind) = there.served_kind() else { return Ok(there) };
    let mode = mode.with_owner_access(kind);
    if there.mode.with_owner_access(kind) == mode {
        return Ok(there);
    }
    match kind {
        Kind::Folder => {
            let folder = root.open_folder(path)?;
            set_mode(&folder, mode)?;
            folder.sync()?;
        }
        Kind::File => {
            let file = root.open_file(path)?.file;
            set_mode(&file, mode)?;
            file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
        }
    }
    root.stat(path)
}

fn make_folder(
    path: &TreePath,
    mode: Mode,
    parents: &mut FolderCache<'_>,
) -> Result<Applied, TreeError> {
    let (parent, name) = place(path)?;
    let folder = parents.get(&parent)?;
    folder.make_folder_as(&name, mode.with_owner_access(Kind::Folder))?;
    let meta = folder.stat_part(name.as_bytes())?;
    Ok(Applied {
        parents: vec![parent.clone()],
        meta: Some(meta),
        out: None,
        undo: Undo::MakeFolder { parent, name },
    })
}

/// Whether the catalogue has all that lies below a folder that was taken out of the tree.
fn all_known(top: &TreePath, folder: &Folder, known: &mut IsKnown<'_>) -> Result<bool, TreeError> {
    let mut open = vec![(top.clone(), TreePath::root())];
    while let Some((path, at)) = open.pop() {
        let folder = folder.open_folder(&at)?;
        for listed in folder.list()? {
            let listed = listed?;
            let survey = folder.survey(listed.name())?;
            let name = std::str::from_utf8(listed.name()).ok();
            let Some((below, at)) =
                name.and_then(|name| Some((path.join(name).ok()?, at.join(name).ok()?)))
            else {
                return Ok(false);
            };
            let left = Displaced {
                path: &below,
                folder: &folder,
                name: listed.name(),
                meta: &survey.meta,
                renamed: false,
            };
            if survey.mount_point || !known(&left)? {
                return Ok(false);
            }
            if survey.meta.kind == MetaKind::Folder {
                open.push((below, at));
            }
        }
    }
    Ok(true)
}

/// Changes with whatever is made, written, renamed or removed in a folder.
fn fingerprint(folder: &Folder) -> Result<u64, TreeError> {
    let mut sum = 0_u64;
    let mut add = |meta: &Meta| {
        let mut hasher = DefaultHasher::new();
        for time in [meta.mtime, meta.ctime] {
            (time.seconds, time.nanos).hash(&mut hasher);
        }
        (meta.dev, meta.ino, meta.size).hash(&mut hasher);
        sum = sum.wrapping_add(hasher.finish());
    };
    let mut open = vec![TreePath::root()];
    while let Some(at) = open.pop() {
        let folder = folder.open_folder(&at)?;
        add(&folder.meta()?);
        for listed in folder.list()? {
            let listed = listed?;
            let survey = folder.survey(listed.name())?;
            let name = std::str::from_utf8(listed.name()).ok();
            match name.and_then(|name| at.join(name).ok()) {
                Some(at) if survey.meta.kind == MetaKind::Folder && !survey.mount_point => {
                    open.push(at);
                }
                _ => add(&survey.meta),
            }
        }
    }
    Ok(sum)
}

/// Gives something its place back. Where a user has put something there, it is quarantined.
fn restore_name(
    from: &Folder,
    name: &str,
    (to, to_name): (&Folder, &str),
    path: &TreePath,
    quarantine: &mut Quarantine,
) -> Result<(), TreeError> {
    match from.move_new(name, to, to_name) {
        Ok(()) => Ok(()),
        Err(_) => quarantine.take_removed(from, name, path, CAME_MEANWHILE),
    }
}

impl Applied {
    /// Makes the folder what it was before. What cannot be taken back is found by the keeper's next look.
    pub fn roll_back(
        &self,
        parents: &mut FolderCache<'_>,
        staging: &Staging,
        quarantine: &mut Quarantine,
    ) {
        self.undo.run_or_warn(parents, staging, quarantine);
    }

    /// What was kept quarantine is of no more use; whether something is left for the sweeper. What was written to meanwhile, by a
    /// program that still had it open, is quarantined.
    pub fn finish(&self, staging: &Staging, quarantine: &mut Quarantine) -> bool {
        let (folder, name, place) = match &self.undo {
            Undo::Put { staged, over: true, parent, name, .. } => {
                (&staging.staged, staged.as_str(), (parent, name))
            }
            Undo::Remove { kept, parent, name } => {
                (&staging.removed, kept.as_str(), (parent, name))
            }
            Undo::Move { kept: Some(kept), to, .. } => {
                (&staging.removed, kept.as_str(), (&to.0, &to.1))
            }
            _ => return false,
        };
        let untouched = match self.out {
            Some(ToDrop::File(out)) => {
                folder.stat_part(name.as_bytes()).map(|now| now.same_content(&out))
            }
            Some(ToDrop::Folder(out)) => {
                folder.sub(name).and_then(|below| fingerprint(&below)).map(|now| now == out)
            }
            None => Ok(true),
        };
        let dropped = match (untouched, self.out) {
            // It may take long: the sweeper does it.
            (Ok(true), Some(ToDrop::Folder(_))) => return true,
            (Ok(true), _) => folder.unlink(name),
            (Ok(false), _) => match place.0.join(place.1) {
                Ok(path) => quarantine.take_removed(folder, name, &path, CAME_MEANWHILE),
                Err(_) => return true,
            },
            (Err(e), _) => Err(e),
        };
        match dropped {
            Ok(()) | Err(TreeError::NotFound) => false,
            Err(e) => {
                warn!("what was replaced or removed is still on the disk for now: {e}");
                true
            }
        }
    }
}

impl Undo {
    fn run_or_warn(
        &self,
        parents: &mut FolderCache<'_>,
        staging: &Staging,
        quarantine: &mut Quarantine,
    ) {
        if let Err(e) = self.run(parents, staging, quarantine) {
            warn!("a change could not be taken back: {e}");
        }
    }

    fn run(
        &self,
        parents: &mut FolderCache<'_>,
        staging: &Staging,
        quarantine: &mut Quarantine,
    ) -> Result<(), TreeError> {
        match self {
            Self::Put { parent, name, staged, over, ours } => {
                let (folder, own) = (parents.get(parent)?, &staging.staged);
                let path = parent.join(name).map_err(|_| TreeError::NotFound)?;
                if *over {
                    match own.exchange(staged.as_str(), folder, name) {
                        Ok(()) => {}
                        // A user has removed ours.
                        Err(_) => {
                            return restore_name(
                                own,
                                staged.as_str(),
                                (folder, name),
                                &path,
                                quarantine,
                            );
                        }
                    }
                } else {
                    folder.take_out(name, own, staged.as_str())?;
                }
                // A user may have put something in the place of ours.
                if own.stat_part(staged.as_str().as_bytes())?.same_but_renamed(ours) {
                    Ok(())
                } else if *over {
                    quarantine.take_removed(own, staged.as_str(), &path, CAME_MEANWHILE)
                } else {
                    restore_name(own, staged.as_str(), (folder, name), &path, quarantine)
                }
            }
            Self::MakeFolder { parent, name } => parents.get(parent)?.remove_folder(name),
            Self::Remove { parent, name, kept } => {
                let path = parent.join(name).map_err(|_| TreeError::NotFound)?;
                restore_name(
                    &staging.removed,
                    kept,
                    (parents.get(parent)?, name),
                    &path,
                    quarantine,
                )
            }
            Self::RemoveFolder { parent, name, mode } => {
                parents.get(parent)?.make_folder_as(name, *mode)
            }
            Self::SetMode { path, former } => set_mode_of(parents.root, path, *former).map(drop),
            Self::Move { from, to, kept } => {
                let source = parents.get(&from.0)?.try_clone()?;
                let target = parents.get(&to.0)?;
                let moved = target.move_new(&to.1, &source, &from.1);
                let Some(kept) = kept else { return moved };
                let path = to.0.join(&to.1).map_err(|_| TreeError::NotFound)?;
                restore_name(&staging.removed, kept, (target, &to.1), &path, quarantine)?;
                moved
            }
            Self::Hold { parent, name, staged } => {
                let path = parent.join(name).map_err(|_| TreeError::NotFound)?;
                let own = &staging.staged;
                restore_name(own, staged.as_str(), (parents.get(parent)?, name), &path, quarantine)
            }
            Self::Nothing => Ok(()),
        }
    }
}
