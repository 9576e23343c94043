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
        path: TreePath,
        staged: StagedName,
        over: bool,
        ours: Meta,
    },
    /// The removed file returns to its name.
    Remove {
        path: TreePath,
        kept: String,
    },
    Move {
        from: TreePath,
        to: TreePath,
        kept: Option<String>,
    },
    /// The held file returns to its name.
    Hold {
        path: TreePath,
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
    /// The last folder of which [`Self::get_plain`] has decided that it gives no group.
    plain: Option<TreePath>,
}

impl<'a> FolderCache<'a> {
    /// Creates an empty cache.
    #[must_use]
    pub fn new(root: &'a Folder) -> Self {
        Self { root, open: HashMap::new(), plain: None }
    }

    /// Closes the open folders, because a path may now lead to another folder.
    pub fn clear(&mut self) {
        self.open.clear();
        self.plain = None;
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
        self.get_checked(path, |_| Ok(()))
    }

    /// Returns the open folder at `path`. A folder that is not open yet has to pass `check`.
    ///
    /// # Errors
    /// Returns the error of opening the folder, or of the check.
    pub fn get_checked(
        &mut self,
        path: &TreePath,
        check: impl FnOnce(&Folder) -> Result<(), TreeError>,
    ) -> Result<Rc<Folder>, TreeError> {
        if let Some(folder) = self.open.get(path) {
            return Ok(folder.clone());
        }
        if self.open.len() >= MOST_OPEN {
            self.clear();
        }
        let folder = Rc::new(self.root.open_folder(path)?);
        check(&folder)?;
        self.open.insert(path.clone(), folder.clone());
        Ok(folder)
    }

    /// Same as [`Self::get`]; `None` for a folder whose files get its group.
    ///
    /// # Errors
    /// Returns the error of opening the folder.
    pub fn get_plain(&mut self, path: &TreePath) -> Result<Option<Rc<Folder>>, TreeError> {
        let folder = self.get(path)?;
        if self.plain.as_ref() != Some(path) {
            if folder.gives_group()? {
                return Ok(None);
            }
            self.plain = Some(path.clone());
        }
        Ok(Some(folder))
    }
}

/// Splits a path into folder and name. The root is an error.
fn split_path(path: &TreePath) -> Result<(TreePath, &str), TreeError> {
    path.split_last().ok_or(TreeError::IsFolder)
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

    /// Returns the metadata of a displaced file, if the catalogue knows the file.
    fn known_meta(
        &mut self,
        path: &TreePath,
        folder: &Folder,
        name: &str,
    ) -> Result<Option<Meta>, TreeError> {
        let name = name.as_bytes();
        let meta = folder.stat_part(name)?;
        let displaced = Displaced { path, folder, name, meta: &meta, renamed: true };
        Ok((self.known)(&displaced)?.then_some(meta))
    }

    /// Quarantines an entry that was displaced to `folder`, if the check says that it is unknown.
    /// After an error of the check or of the quarantine the step is undone.
    fn quarantine_unknown<T>(
        &mut self,
        checked: Result<Option<T>, TreeError>,
        undo: &Undo,
        (folder, name): (&Folder, &str),
        path: &TreePath,
    ) -> Result<Option<T>, TreeError> {
        let settled = match checked {
            Ok(None) => {
                self.quarantine.take_removed(folder, name, path, CAME_MEANWHILE).map(|()| None)
            }
            known => known,
        };
        settled.inspect_err(|_| self.undo(undo))
    }

    fn undo(&mut self, step: &Undo) {
        step.run_or_warn(self.parents, self.staging, self.quarantine);
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
        let (own, file) = (&self.staging.staged, staged.to_string());
        let file = file.as_str();
        // The mode is set first, so that the content is never exposed under its name.
        let content = own.open_read(file)?;
        let ours = if folder.prepare(&content.file, mode.with_owner_access(Kind::File))? {
            content.file.sync_all().map_err(|e| TreeError::Io("sync the file", e))?;
            content.meta_now()?
        } else {
            content.meta
        };
        drop(content);
        let mut attempt = 0;
        let over = loop {
            attempt += 1;
            match own.move_new(file, &folder, name) {
                Err(TreeError::Taken) if attempt < MOST_ATTEMPTS => {}
                Err(TreeError::Taken) => return Err(TreeError::Changing),
                moved => break moved.map(|()| false)?,
            }
            match folder.stat_part(name.as_bytes()).map(|meta| meta.kind) {
                Ok(MetaKind::File) => match own.exchange(file, &folder, name) {
                    Err(TreeError::NotFound) => {}
                    exchanged => break exchanged.map(|()| true)?,
                },
                Ok(_) => self.quarantine_entry(&folder, name, path)?,
                Err(TreeError::NotFound) => {}
                Err(e) => return Err(e),
            }
        };
        let undo = |over| Undo::Put { path: path.clone(), staged: *staged, over, ours };
        let mut out = None;
        if over {
            let checked = self.known_meta(path, own, file);
            out = self.quarantine_unknown(checked, &undo(true), (own, file), path)?;
        }
        let undo = undo(out.is_some());
        let meta = meta_after_rename(&folder, name, ours).inspect_err(|_| self.undo(&undo))?;
        let out = out.map(ToDrop::File);
        Ok(Applied { parents: vec![parent], meta: Some(meta), out, undo })
    }

    /// Publishes staged content that has its mode and is synced, at a free name. Returns `None` if
    /// it needs the steps of [`Self::put`].
    ///
    /// # Errors
    /// Returns disk errors. After an error the folder is as before.
    pub fn put_new(
        &mut self,
        path: &TreePath,
        staged: &StagedName,
        ours: Meta,
    ) -> Result<Option<Applied>, TreeError> {
        let (parent, name) = split_path(path)?;
        let Some(folder) = self.parents.get_plain(&parent)? else { return Ok(None) };
        match self.staging.staged.move_new(staged.to_string(), &folder, name) {
            Err(TreeError::Taken) => return Ok(None),
            moved => moved?,
        }
        let undo = Undo::Put { path: path.clone(), staged: *staged, over: false, ours };
        let meta = meta_after_rename(&folder, name, ours).inspect_err(|_| self.undo(&undo))?;
        Ok(Some(Applied { parents: vec![parent], meta: Some(meta), out: None, undo }))
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
        let (own, file) = (&self.staging.staged, staged.to_string());
        let file = file.as_str();
        self.staging.discard(staged);
        self.parents.get(&parent)?.take_out(name, own, file)?;
        let undo = Undo::Hold { path: path.clone(), staged: *staged };
        let checked = self.known_meta(path, own, file);
        let known = self.quarantine_unknown(checked, &undo, (own, file), path)?;
        Ok(known.map(|_| Applied { parents: vec![parent], meta: None, out: None, undo }))
    }

    /// Removes a file, or a folder with all that is in it. Unknown files are quarantined.
    ///
    /// # Errors
    /// Returns disk errors. After an error the folder is as before.
    pub fn remove(&mut self, path: &TreePath, version: Lsn) -> Result<Applied, TreeError> {
        let (parent, name) = split_path(path)?;
        let folder = self.parents.get(&parent)?;
        let removed = &self.staging.removed;
        let parents = vec![parent];
        let moved = folder.stat_part(name.as_bytes()).and_then(|meta| {
            let kept = move_to_free_name(version, |kept| folder.take_out(name, removed, kept))?;
            Ok((kept, meta.kind == MetaKind::Folder))
        });
        let (kept, is_folder) = match moved {
            // A user has removed the entry already, which is the wanted result.
            Err(TreeError::NotFound) => return Ok(without_undo(parents)),
            other => other?,
        };
        let undo = Undo::Remove { path: path.clone(), kept: kept.clone() };
        let checked = self.check_removed(path, &kept, is_folder);
        let out = self.quarantine_unknown(checked, &undo, (removed, &kept), path)?;
        if out.is_none() {
            return Ok(without_undo(parents));
        }
        Ok(Applied { parents, meta: None, out, undo })
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
            return Ok(self.known_meta(path, removed, kept)?.map(ToDrop::File));
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
        let ((source_parent, source_name), (target_parent, name)) =
            (split_path(from)?, split_path(to)?);
        let source = self.parents.get(&source_parent)?;
        let target = self.parents.get(&target_parent)?;
        let parents = vec![source_parent, target_parent];
        let removed = &self.staging.removed;
        // The replaced file is moved away first, because a rename over it could destroy a file that
        // a user puts there meanwhile.
        let mut kept = None;
        match target.stat_part(name.as_bytes()) {
            Ok(meta) if meta.kind == MetaKind::File => {
                match move_to_free_name(version, |kept| target.take_out(name, removed, kept)) {
                    Err(TreeError::NotFound) => {}
                    other => kept = Some(other?),
                }
            }
            Ok(_) => self.quarantine_entry(&target, name, to)?,
            Err(TreeError::NotFound) => {}
            Err(e) => return Err(e),
        }
        let mut out = None;
        if let Some(file) = &kept {
            let undo = Undo::Remove { path: to.clone(), kept: file.clone() };
            let checked = self.check_removed(to, file, false);
            out = self.quarantine_unknown(checked, &undo, (removed, file), to)?;
        }
        let kept = kept.filter(|_| out.is_some());
        let mut attempt = 1;
        let moved = loop {
            match source.move_new(source_name, &target, name) {
                Err(TreeError::Taken) if attempt < MOST_ATTEMPTS => {
                    if let Err(e) = self.quarantine_entry(&target, name, to) {
                        break Err(e);
                    }
                    attempt += 1;
                }
                Err(TreeError::Taken) => break Err(TreeError::Changing),
                other => break other,
            }
        };
        if let Err(e) = moved {
            if let Some(kept) = &kept {
                restore_name(self.parents, removed, kept, to, self.quarantine)?;
            }
            return Err(e);
        }
        let undo = Undo::Move { from: from.clone(), to: to.clone(), kept };
        // Checks that the moved entry is the one that was meant.
        let settled = match self.known_meta(from, &target, name) {
            Ok(None) => self.quarantine_entry(&target, name, from).map(|()| None),
            known => known,
        };
        let meta = settled.inspect_err(|_| self.undo(&undo))?;
        if meta.is_none() {
            return Ok(without_undo(parents));
        }
        Ok(Applied { parents, meta, out, undo })
    }
}

/// Returns the metadata of a file that has just got its name. The rename changed the ctime.
///
/// If a user was faster, the row gets our metadata, and the next scan finds the edit.
fn meta_after_rename(folder: &Folder, name: &str, ours: Meta) -> Result<Meta, TreeError> {
    match folder.stat_part(name.as_bytes()) {
        Ok(now) if now.same_but_renamed(&ours) => Ok(now),
        Ok(_) | Err(TreeError::NotFound) => Ok(ours),
        Err(e) => Err(e),
    }
}

/// Returns a step that needs no rollback.
fn without_undo(parents: Vec<TreePath>) -> Applied {
    Applied { parents, meta: None, out: None, undo: Undo::Nothing }
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
            match at.join_bytes(listed.name()) {
                Some(at) if survey.meta.kind == MetaKind::Folder && !survey.mount_point => {
                    open.push(at);
                }
                _ => add(&survey.meta),
            }
        }
    }
    Ok(sum)
}

/// Gives an entry its path back. If a user has taken the path, the entry is quarantined.
fn restore_name(
    parents: &mut FolderCache<'_>,
    from: &Folder,
    name: &str,
    path: &TreePath,
    quarantine: &mut Quarantine,
) -> Result<(), TreeError> {
    let (parent, own) = split_path(path)?;
    match from.move_new(name, &*parents.get(&parent)?, own) {
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

    /// Returns the path and the metadata of the content that the step has published, if any.
    #[must_use]
    pub fn published(&self) -> Option<(TreePath, Meta)> {
        match &self.undo {
            Undo::Put { path, .. } => Some((path.clone(), self.meta?)),
            _ => None,
        }
    }

    /// Deletes the displaced file. Returns whether the sweeper has something to do.
    ///
    /// A file that another program has written to meanwhile is quarantined.
    pub fn finish(&self, staging: &Staging, quarantine: &mut Quarantine) -> bool {
        let Some(out) = self.out else { return false };
        let (folder, name, path) = match &self.undo {
            Undo::Put { path, staged, .. } => (&staging.staged, &staged.to_string(), path),
            Undo::Remove { path, kept } | Undo::Move { to: path, kept: Some(kept), .. } => {
                (&staging.removed, kept, path)
            }
            _ => return false,
        };
        let untouched = match out {
            ToDrop::File(out) => {
                folder.stat_part(name.as_bytes()).map(|now| now.same_content(&out))
            }
            ToDrop::Folder(out) => {
                folder.sub(name).and_then(|below| fingerprint(&below)).map(|now| now == out)
            }
        };
        let dropped = match (untouched, out) {
            // Deleting a folder may take long, so the sweeper does it.
            (Ok(true), ToDrop::Folder(_)) => return true,
            (Ok(true), ToDrop::File(_)) => folder.unlink(name),
            (Ok(false), _) => quarantine.take_removed(folder, name, path, CAME_MEANWHILE),
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
        let Staging { staged: own, removed } = staging;
        match self {
            Self::Put { path, staged, over, ours } => {
                let (file, (parent, name)) = (&staged.to_string(), split_path(path)?);
                let folder = parents.get(&parent)?;
                if !over {
                    folder.take_out(name, own, file)?;
                } else if own.exchange(file, &folder, name).is_err() {
                    // A user has removed the new file.
                    return restore_name(parents, own, file, path, quarantine);
                }
                // A user may have replaced the new file.
                if own.stat_part(file.as_bytes())?.same_but_renamed(ours) {
                    Ok(())
                } else if *over {
                    quarantine.take_removed(own, file, path, CAME_MEANWHILE)
                } else {
                    restore_name(parents, own, file, path, quarantine)
                }
            }
            Self::Remove { path, kept } => restore_name(parents, removed, kept, path, quarantine),
            Self::Move { from, to, kept } => {
                let ((source_parent, source_name), (target_parent, name)) =
                    (split_path(from)?, split_path(to)?);
                let source = parents.get(&source_parent)?;
                let moved = parents.get(&target_parent)?.move_new(name, &source, source_name);
                if let Some(kept) = kept {
                    restore_name(parents, removed, kept, to, quarantine)?;
                }
                moved
            }
            Self::Hold { path, staged } => {
                restore_name(parents, own, &staged.to_string(), path, quarantine)
            }
            Self::Nothing => Ok(()),
        }
    }
}
