//! Applies one change on the disk, so that it can be rolled back until it is synced.
//!
//! A name changes in one step. The file that a change replaces or removes is kept until the folders
//! concerned are synced. If the sync fails, the file gets its name back.
//!
//! Users work in the same folder without a lock. Each displaced file is therefore checked after its
//! rename: only a file that the catalogue knows may go. Any other file was put there by a user
//! after the last check, and is quarantined. Free names are taken by calls that replace nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use crate::{StagedName, Staging};
use log::warn;
use relais_proto::{Attributes, Kind, Lsn, Mode, TreePath};
use relais_tree::{Folder, Meta, MetaKind, TreeError, set_mode, set_times};

use crate::quarantine::{Displaced, Quarantine};

/// Why a file was quarantined.
const CAME_MEANWHILE: &str = "it was put there locally while a change was applied to that path";
/// Attempts if users keep putting files in the way of a change.
const MOST_ATTEMPTS: usize = 16;

/// A change that was applied and can still be rolled back.
#[derive(Debug)]
pub struct Applied {
    /// Folders whose names have changed.
    pub parents: Vec<TreePath>,
    /// Metadata of the entry at the path; `None` after a removal, or if the file to move was gone.
    pub meta: Option<Meta>,
    /// The displaced file that [`Self::finish`] deletes.
    out: Option<ToDrop>,
    undo: Undo,
}

/// A displaced file that may be deleted, as it was when it was checked.
#[derive(Debug, Clone, Copy)]
enum ToDrop {
    File(Meta),
    /// Fingerprint of everything in the folder.
    Folder(u64),
}

/// Returns whether a displaced file is the one that the catalogue knows.
pub type IsKnown<'a> = dyn FnMut(&Displaced<'_>) -> Result<bool, TreeError> + 'a;

#[derive(Debug)]
enum Undo {
    /// New content returns to staging, and former content to its name.
    Put {
        parent: TreePath,
        name: String,
        staged: StagedName,
        over: bool,
        ours: Meta,
    },
    /// The removed file returns to its name.
    Remove {
        parent: TreePath,
        name: String,
        kept: String,
    },
    Move {
        from: (TreePath, String),
        to: (TreePath, String),
        kept: Option<String>,
    },
    /// The held file returns to its name.
    Hold {
        parent: TreePath,
        name: String,
        staged: StagedName,
    },
    Nothing,
}

/// Most folders that are kept open.
const MOST_OPEN: usize = 256;

/// Open folders of a batch. It is used in one thread.
pub struct FolderCache<'a> {
    root: &'a Folder,
    open: HashMap<TreePath, Rc<Folder>>,
}

impl<'a> FolderCache<'a> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(root: &'a Folder) -> Self {
        Self { root, open: HashMap::new() }
    }

    /// Closes the open folders, because a path may now lead to another folder.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    /// Returns whether the folder at `path` is open.
    #[must_use]
    pub fn has(&self, path: &TreePath) -> bool {
        self.open.contains_key(path)
    }

    /// Returns the open folder at `path`.
    ///
    /// # Errors
    /// Returns the error of opening the folder.
    pub fn get(&mut self, path: &TreePath) -> Result<Rc<Folder>, TreeError> {
        if let Some(folder) = self.open.get(path) {
            return Ok(folder.clone());
        }
        if self.open.len() >= MOST_OPEN {
            self.clear();
        }
        let folder = Rc::new(self.root.open_folder(path)?);
        self.open.insert(path.clone(), folder.clone());
        Ok(folder)
    }
}

/// Splits a path into folder and name. The root is an error.
fn split_path(path: &TreePath) -> Result<(TreePath, String), TreeError> {
    path.split_last().map(|(parent, name)| (parent, name.to_owned())).ok_or(TreeError::IsFolder)
}

/// Applies single changes to the disk.
pub struct Applier<'a, 'r> {
    pub parents: &'a mut FolderCache<'r>,
    /// Staged content, and the folder of removed files.
    pub staging: &'a Staging,
    pub quarantine: &'a mut Quarantine,
    /// Check for displaced files.
    pub known: &'a mut IsKnown<'a>,
}

impl Applier<'_, '_> {
    /// Quarantines the entry with this name in a folder of the tree.
    fn quarantine_entry(
        &mut self,
        folder: &Folder,
        name: &str,
        path: &TreePath,
    ) -> Result<(), TreeError> {
        self.parents.clear();
        self.quarantine.take_from(folder, name, path.as_str(), CAME_MEANWHILE, "").map(drop)
    }

    /// Publishes staged content.
    ///
    /// # Errors
    /// Returns disk errors. After an error the folder is as before.
    pub fn put(
        &mut self,
        path: &TreePath,
        mode: Mode,
        staged: &StagedName,
    ) -> Result<Applied, TreeError> {
        let (parent, name) = split_path(path)?;
        let folder = self.parents.get(&parent)?;
        let own = &self.staging.staged;
        // The mode is set first, so that the content is never exposed under its name.
        let content = own.open_read(staged.as_str())?.file;
        if folder.prepare(&content, mode.with_owner_access(Kind::File))? {
            content.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
        }
        drop(content);
        let ours = own.stat_part(staged.as_str().as_bytes())?;
        let mut out = None;
        let mut over = false;
        for attempt in 1.. {
            match own.move_new(staged.as_str(), &folder, &name) {
                Ok(()) => break,
                Err(TreeError::Taken) if attempt < MOST_ATTEMPTS => {}
                Err(TreeError::Taken) => return Err(TreeError::Changing),
                Err(e) => return Err(e),
            }
            match folder.stat_part(name.as_bytes()) {
                Ok(meta) if meta.kind == MetaKind::File => {
                    match own.exchange(staged.as_str(), &folder, &name) {
                        Ok(()) => {
                            over = true;
                            break;
                        }
                        Err(TreeError::NotFound) => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(_) => self.quarantine_entry(&folder, &name, path)?,
                Err(TreeError::NotFound) => {}
                Err(e) => return Err(e),
            }
        }
        if over {
            let looked = own.stat_part(staged.as_str().as_bytes()).and_then(|meta| {
                let name = staged.as_str().as_bytes();
                let displaced = Displaced { path, folder: own, name, meta: &meta, renamed: true };
                Ok(((self.known)(&displaced)?, meta))
            });
            let failed = match looked {
                Ok((true, meta)) => {
                    out = Some(ToDrop::File(meta));
                    None
                }
                Ok((false, _)) => {
                    self.quarantine.take_removed(own, staged.as_str(), path, CAME_MEANWHILE).err()
                }
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
        // The rename changed the ctime, so the metadata is read again. If a user was faster, the
        // row gets our metadata, and the next scan finds the edit.
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

    /// Moves a file to a staged name, to give it another path later. Returns `None` if the file is
    /// unknown; it is then quarantined.
    ///
    /// # Errors
    /// Returns disk errors.
    pub fn hold(
        &mut self,
        path: &TreePath,
        staged: &StagedName,
    ) -> Result<Option<Applied>, TreeError> {
        let (parent, name) = split_path(path)?;
        let own = &self.staging.staged;
        self.staging.discard(staged);
        self.parents.get(&parent)?.take_out(&name, own, staged.as_str())?;
        let undo = Undo::Hold { parent: parent.clone(), name, staged: staged.clone() };
        let bytes = staged.as_str().as_bytes();
        let looked = own.stat_part(bytes).and_then(|meta| {
            let displaced =
                Displaced { path, folder: own, name: bytes, meta: &meta, renamed: true };
            (self.known)(&displaced)
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

    /// Removes a file, or a folder with all that is in it. Unknown files are quarantined.
    ///
    /// # Errors
    /// Returns disk errors. After an error the folder is as before.
    pub fn remove(&mut self, path: &TreePath, version: Lsn) -> Result<Applied, TreeError> {
        let (parent, name) = split_path(path)?;
        let folder = self.parents.get(&parent)?;
        let is_folder = match folder.stat_part(name.as_bytes()) {
            Ok(meta) => meta.kind == MetaKind::Folder,
            // A user has removed the entry already, which is the wanted result.
            Err(TreeError::NotFound) => return Ok(without_undo(vec![parent], None)),
            Err(e) => return Err(e),
        };
        let removed = &self.staging.removed;
        let kept = match move_to_free_name(version, |kept| folder.take_out(&name, removed, kept)) {
            Err(TreeError::NotFound) => return Ok(without_undo(vec![parent], None)),
            other => other?,
        };
        let undo = Undo::Remove { parent: parent.clone(), name, kept: kept.clone() };
        let failed = match self.check_removed(path, &kept, is_folder) {
            Ok(Some(out)) => {
                return Ok(Applied { parents: vec![parent], meta: None, out: Some(out), undo });
            }
            Ok(None) => self.quarantine.take_removed(removed, &kept, path, CAME_MEANWHILE).err(),
            Err(e) => Some(e),
        };
        match failed {
            None => Ok(without_undo(vec![parent], None)),
            Some(e) => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(e)
            }
        }
    }

    /// Returns the displaced entry `kept` if it may be deleted. Returns `None` if it is another
    /// one.
    ///
    /// Unknown files in a displaced folder are quarantined one by one.
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
            let displaced = Displaced {
                path,
                folder: removed,
                name: kept.as_bytes(),
                meta: &meta,
                renamed: true,
            };
            return Ok((self.known)(&displaced)?.then_some(ToDrop::File(meta)));
        }
        let below = removed.sub(kept)?;
        loop {
            // The fingerprint comes before the check. A file that another program creates
            // afterwards is then found when the folder is deleted.
            let fingerprint = fingerprint(&below)?;
            if !self.quarantine.take_unknown(path, &below, CAME_MEANWHILE, self.known)? {
                return Ok(Some(ToDrop::Folder(fingerprint)));
            }
        }
    }

    /// Moves an entry, over a file that is at its new path.
    ///
    /// # Errors
    /// Returns disk errors. After an error the folder is as before.
    pub fn move_to(
        &mut self,
        from: &TreePath,
        to: &TreePath,
        version: Lsn,
    ) -> Result<Applied, TreeError> {
        let (source_path, target_path) = (split_path(from)?, split_path(to)?);
        let source = self.parents.get(&source_path.0)?;
        let target = self.parents.get(&target_path.0)?;
        let concerned = if source_path.0 == target_path.0 {
            vec![target_path.0.clone()]
        } else {
            vec![source_path.0.clone(), target_path.0.clone()]
        };
        let removed = &self.staging.removed;
        // The replaced file is moved away first, because a rename over it could destroy a file that
        // a user puts there meanwhile.
        let mut kept = None;
        match target.stat_part(target_path.1.as_bytes()) {
            Ok(meta) if meta.kind == MetaKind::File => {
                match move_to_free_name(version, |kept| {
                    target.take_out(&target_path.1, removed, kept)
                }) {
                    Ok(name) => kept = Some(name),
                    Err(TreeError::NotFound) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(_) => self.quarantine_entry(&target, &target_path.1, to)?,
            Err(TreeError::NotFound) => {}
            Err(e) => return Err(e),
        }
        let mut out = None;
        let mut failure = None;
        if let Some(name) = &kept {
            match self.check_removed(to, name, false) {
                Ok(Some(meta)) => out = Some(meta),
                Ok(None) => {
                    failure = self.quarantine.take_removed(removed, name, to, CAME_MEANWHILE).err();
                    if failure.is_none() {
                        kept = None;
                    }
                }
                Err(e) => failure = Some(e),
            }
        }
        let mut attempt = 1;
        while failure.is_none() {
            match source.move_new(&source_path.1, &target, &target_path.1) {
                Ok(()) => break,
                Err(TreeError::Taken) if attempt < MOST_ATTEMPTS => {
                    failure = self.quarantine_entry(&target, &target_path.1, to).err();
                    attempt += 1;
                }
                Err(TreeError::Taken) => failure = Some(TreeError::Changing),
                Err(e) => failure = Some(e),
            }
        }
        if let Some(e) = failure {
            if let Some(kept) = &kept {
                restore_name(removed, kept, (&target, &target_path.1), to, self.quarantine)?;
            }
            return Err(e);
        }
        // Checks that the moved entry is the one that was meant.
        let looked = target.stat_part(target_path.1.as_bytes()).and_then(|meta| {
            let name = target_path.1.as_bytes();
            let displaced =
                Displaced { path: from, folder: &target, name, meta: &meta, renamed: true };
            Ok(((self.known)(&displaced)?, meta))
        });
        let undo = Undo::Move { from: source_path, to: target_path.clone(), kept };
        let failed = match looked {
            Ok((true, meta)) => {
                return Ok(Applied { parents: concerned, meta: Some(meta), out, undo });
            }
            Ok((false, _)) => self.quarantine_entry(&target, &target_path.1, from).err(),
            Err(e) => Some(e),
        };
        match failed {
            None => Ok(without_undo(concerned, None)),
            Some(e) => {
                undo.run_or_warn(self.parents, self.staging, self.quarantine);
                Err(e)
            }
        }
    }
}

/// Returns a step that needs no rollback.
fn without_undo(parents: Vec<TreePath>, meta: Option<Meta>) -> Applied {
    Applied { parents, meta, out: None, undo: Undo::Nothing }
}

/// Moves an entry to the first free name of a change. The names are `V`, `V.1`, `V.2`… The first
/// one may be taken if a change is applied again, or displaces several entries.
fn move_to_free_name(
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

/// Sets attributes of the entry at a path. Each disk decides about the owner bits of folders, and
/// about read permission for a file's owner. A folder gets no time.
///
/// # Errors
/// Returns disk errors.
pub fn set_attributes_of(
    root: &Folder,
    path: &TreePath,
    attributes: &Attributes,
) -> Result<Meta, TreeError> {
    let there = root.stat(path)?;
    let Some(kind) = there.served_kind() else { return Ok(there) };
    let mode = attributes.mode.map(|mode| mode.with_owner_access(kind));
    let mode = mode.filter(|mode| there.mode.with_owner_access(kind) != *mode);
    let mtime = attributes.mtime.filter(|mtime| kind == Kind::File && there.mtime != *mtime);
    if mode.is_none() && mtime.is_none() {
        return Ok(there);
    }
    match kind {
        Kind::Folder => {
            let folder = root.open_folder(path)?;
            mode.map_or(Ok(()), |mode| set_mode(&folder, mode))?;
            folder.sync()?;
        }
        Kind::File => {
            let file = root.open_file(path)?.file;
            mode.map_or(Ok(()), |mode| set_mode(&file, mode))?;
            mtime.map_or(Ok(()), |mtime| set_times(&file, mtime))?;
            file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
        }
    }
    root.stat(path)
}

/// Returns a fingerprint that changes with each creation, write, rename or removal in a folder.
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

/// Gives an entry its name back. If a user has taken the name, the entry is quarantined.
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
    /// Rolls back the change. If that fails, the next scan finds the difference.
    pub fn roll_back(
        &self,
        parents: &mut FolderCache<'_>,
        staging: &Staging,
        quarantine: &mut Quarantine,
    ) {
        self.undo.run_or_warn(parents, staging, quarantine);
    }

    /// Deletes the displaced file. Returns whether the sweeper has something to do.
    ///
    /// A file that another program has written to meanwhile is quarantined.
    pub fn finish(&self, staging: &Staging, quarantine: &mut Quarantine) -> bool {
        let (folder, name, former) = match &self.undo {
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
            // Deleting a folder may take long, so the sweeper does it.
            (Ok(true), Some(ToDrop::Folder(_))) => return true,
            (Ok(true), _) => folder.unlink(name),
            (Ok(false), _) => match former.0.join(former.1) {
                Ok(path) => quarantine.take_removed(folder, name, &path, CAME_MEANWHILE),
                Err(_) => return true,
            },
            (Err(e), _) => Err(e),
        };
        match dropped {
            Ok(()) | Err(TreeError::NotFound) => false,
            Err(e) => {
                warn!("a replaced or removed file could not be deleted yet: {e}");
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
            warn!("cannot roll back a change: {e}");
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
                let (folder, own) = (&*parents.get(parent)?, &staging.staged);
                let path = parent.join(name).map_err(|_| TreeError::NotFound)?;
                if *over {
                    match own.exchange(staged.as_str(), folder, name) {
                        Ok(()) => {}
                        // A user has removed the new file.
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
                // A user may have replaced the new file.
                if own.stat_part(staged.as_str().as_bytes())?.same_but_renamed(ours) {
                    Ok(())
                } else if *over {
                    quarantine.take_removed(own, staged.as_str(), &path, CAME_MEANWHILE)
                } else {
                    restore_name(own, staged.as_str(), (folder, name), &path, quarantine)
                }
            }
            Self::Remove { parent, name, kept } => {
                let path = parent.join(name).map_err(|_| TreeError::NotFound)?;
                restore_name(
                    &staging.removed,
                    kept,
                    (&*parents.get(parent)?, name),
                    &path,
                    quarantine,
                )
            }
            Self::Move { from, to, kept } => {
                let source = parents.get(&from.0)?;
                let target = parents.get(&to.0)?;
                let moved = target.move_new(&to.1, &source, &from.1);
                let Some(kept) = kept else { return moved };
                let path = to.0.join(&to.1).map_err(|_| TreeError::NotFound)?;
                restore_name(&staging.removed, kept, (&target, &to.1), &path, quarantine)?;
                moved
            }
            Self::Hold { parent, name, staged } => {
                let path = parent.join(name).map_err(|_| TreeError::NotFound)?;
                let own = &staging.staged;
                restore_name(
                    own,
                    staged.as_str(),
                    (&*parents.get(parent)?, name),
                    &path,
                    quarantine,
                )
            }
            Self::Nothing => Ok(()),
        }
    }
}
