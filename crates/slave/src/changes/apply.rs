//! Carrying out one change on the disk, in a way that can be taken back until it is safe.
//!
//! A name changes in one step. What a change replaces or removes is kept aside until the folders
//! concerned are on the disk: where that fails, it gets its place back.

use std::collections::HashMap;

use log::warn;
use relais_proto::{Change, TreePath, Version};
use relais_tree::{Folder, Meta, MetaKind, TreeError};

use crate::staging::{StagedName, Staging};

/// A change that was carried out, and may still be taken back.
#[derive(Debug)]
pub struct Applied {
    /// The folders whose names have changed.
    pub parents: Vec<TreePath>,
    /// What is at the path now; none where it was removed.
    pub meta: Option<Meta>,
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    /// New content goes back to staging, and former content back to its name.
    Put {
        parent: TreePath,
        name: String,
        staged: StagedName,
        over: bool,
    },
    MakeFolder {
        parent: TreePath,
        name: String,
    },
    /// What was kept aside goes back to its name.
    Remove {
        parent: TreePath,
        name: String,
        kept: String,
        folder: bool,
    },
    /// An empty folder is made again.
    RemoveFolder {
        parent: TreePath,
        name: String,
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
pub struct Parents<'a> {
    root: &'a Folder,
    open: HashMap<TreePath, Folder>,
}

impl<'a> Parents<'a> {
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

/// Carries out a change. `staged` is where the content of a put lies.
///
/// # Errors
/// Those of the disk; the folder is as it was then.
pub fn apply(
    change: &Change,
    version: Version,
    staged: Option<&StagedName>,
    parents: &mut Parents<'_>,
    staging: &Staging,
) -> Result<Applied, TreeError> {
    match change {
        Change::Put { path, .. } => put(path, staged.ok_or(TreeError::NotFound)?, parents, staging),
        Change::MakeFolder { path } => make_folder(path, parents),
        Change::Remove { path, recursive } => remove(path, *recursive, version, parents, staging),
        Change::Move { from, to } => move_to(from, to, version, parents, staging),
        Change::Withdraw { .. } => {
            Ok(Applied { parents: Vec::new(), meta: None, undo: Undo::Nothing })
        }
    }
}

fn put(
    path: &TreePath,
    staged: &StagedName,
    parents: &mut Parents<'_>,
    staging: &Staging,
) -> Result<Applied, TreeError> {
    let (parent, name) = place(path)?;
    let folder = parents.get(&parent)?;
    let over = match folder.stat_part(name.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::File => true,
        Ok(_) => return Err(TreeError::IsFolder),
        Err(TreeError::NotFound) => false,
        Err(e) => return Err(e),
    };
    if over {
        staging.staged.exchange(staged.as_str(), folder, &name)?;
    } else {
        staging.staged.move_new(staged.as_str(), folder, &name)?;
    }
    let undo =
        Undo::Put { parent: parent.clone(), name: name.clone(), staged: staged.clone(), over };
    finish(&parent, &name, vec![parent.clone()], undo, parents, staging)
}

/// Moves something to the first name that is free among those of a change: `V`, `V.1`, `V.2`… A change that is carried out
/// again, or takes several things away, finds its first name taken.
fn free_name(
    version: Version,
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

/// Takes a file out of its place for a while, to be given another one; under a staged name.
///
/// # Errors
/// Those of the disk.
pub fn hold(
    path: &TreePath,
    staged: &StagedName,
    parents: &mut Parents<'_>,
    staging: &Staging,
) -> Result<Applied, TreeError> {
    let (parent, name) = place(path)?;
    staging.discard(staged);
    parents.get(&parent)?.move_new(&name, &staging.staged, staged.as_str())?;
    Ok(Applied {
        parents: vec![parent.clone()],
        meta: None,
        undo: Undo::Hold { parent, name, staged: staged.clone() },
    })
}

fn make_folder(path: &TreePath, parents: &mut Parents<'_>) -> Result<Applied, TreeError> {
    let (parent, name) = place(path)?;
    let folder = parents.get(&parent)?;
    folder.make_folder(&name, false)?;
    let meta = folder.stat_part(name.as_bytes())?;
    Ok(Applied {
        parents: vec![parent.clone()],
        meta: Some(meta),
        undo: Undo::MakeFolder { parent, name },
    })
}

fn remove(
    path: &TreePath,
    recursive: bool,
    version: Version,
    parents: &mut Parents<'_>,
    staging: &Staging,
) -> Result<Applied, TreeError> {
    let (parent, name) = place(path)?;
    let folder = parents.get(&parent)?;
    let is_folder = match folder.stat_part(name.as_bytes()) {
        Ok(meta) => meta.kind == MetaKind::Folder,
        // Somebody was faster on the server; it is gone, as was wanted.
        Err(TreeError::NotFound) => {
            return Ok(Applied { parents: vec![parent], meta: None, undo: Undo::Nothing });
        }
        Err(e) => return Err(e),
    };
    let undo = if is_folder && !recursive {
        // The system looks whether it is empty in the same step.
        folder.remove_folder(&name)?;
        Undo::RemoveFolder { parent: parent.clone(), name }
    } else {
        let kept = free_name(version, |kept| folder.move_new(&name, &staging.removed, kept))?;
        Undo::Remove { parent: parent.clone(), name, kept, folder: is_folder }
    };
    Ok(Applied { parents: vec![parent], meta: None, undo })
}

fn move_to(
    from: &TreePath,
    to: &TreePath,
    version: Version,
    parents: &mut Parents<'_>,
    staging: &Staging,
) -> Result<Applied, TreeError> {
    let (from, to) = (place(from)?, place(to)?);
    let source = parents.get(&from.0)?.try_clone()?;
    if from == to {
        let meta = source.stat_part(from.1.as_bytes())?;
        return Ok(Applied { parents: Vec::new(), meta: Some(meta), undo: Undo::Nothing });
    }
    let target = parents.get(&to.0)?;
    let kept = match target.stat_part(to.1.as_bytes()) {
        Ok(meta) if meta.kind == MetaKind::File => {
            let kept = free_name(version, |kept| {
                source.move_over(&from.1, target, &to.1, (&staging.removed, kept))
            })?;
            Some(kept)
        }
        Ok(_) => return Err(TreeError::IsFolder),
        Err(TreeError::NotFound) => {
            source.move_new(&from.1, target, &to.1)?;
            None
        }
        Err(e) => return Err(e),
    };
    let concerned =
        if from.0 == to.0 { vec![to.0.clone()] } else { vec![from.0.clone(), to.0.clone()] };
    let (parent, name) = to.clone();
    finish(&parent, &name, concerned, Undo::Move { from, to, kept }, parents, staging)
}

/// Looks at what has its new name, which cannot be looked at before: renaming changes its ctime.
fn finish(
    parent: &TreePath,
    name: &str,
    concerned: Vec<TreePath>,
    undo: Undo,
    parents: &mut Parents<'_>,
    staging: &Staging,
) -> Result<Applied, TreeError> {
    let applied = |meta| Applied { parents: concerned, meta, undo };
    match parents.get(parent)?.stat_part(name.as_bytes()) {
        Ok(meta) => Ok(applied(Some(meta))),
        Err(e) => {
            applied(None).take_back(parents, staging);
            Err(e)
        }
    }
}

impl Applied {
    /// Makes the folder what it was before. What cannot be taken back is found by the keeper's next look.
    pub fn take_back(&self, parents: &mut Parents<'_>, staging: &Staging) {
        if let Err(e) = self.undo.run(parents, staging) {
            warn!("a change could not be taken back: {e}");
        }
    }

    /// What was kept aside is of no more use; whether something is left for the sweeper.
    pub fn settle(&self, staging: &Staging) -> bool {
        let kept = match &self.undo {
            Undo::Put { staged, over: true, .. } => {
                staging.discard(staged);
                return false;
            }
            Undo::Remove { kept, folder: false, .. } | Undo::Move { kept: Some(kept), .. } => kept,
            Undo::Remove { folder: true, .. } => return true,
            _ => return false,
        };
        match staging.removed.unlink(kept) {
            Ok(()) | Err(TreeError::NotFound) => false,
            Err(e) => {
                warn!("what was removed is still on the disk for now: {e}");
                true
            }
        }
    }
}

impl Undo {
    fn run(&self, parents: &mut Parents<'_>, staging: &Staging) -> Result<(), TreeError> {
        match self {
            Self::Put { parent, name, staged, over: true } => {
                staging.staged.exchange(staged.as_str(), parents.get(parent)?, name)
            }
            Self::Put { parent, name, staged, over: false } => {
                parents.get(parent)?.move_new(name, &staging.staged, staged.as_str())
            }
            Self::MakeFolder { parent, name } => parents.get(parent)?.remove_folder(name),
            Self::Remove { parent, name, kept, .. } => {
                staging.removed.move_new(kept, parents.get(parent)?, name)
            }
            Self::RemoveFolder { parent, name } => parents.get(parent)?.make_folder(name, false),
            Self::Move { from, to, kept } => {
                let source = parents.get(&from.0)?.try_clone()?;
                let target = parents.get(&to.0)?;
                target.move_new(&to.1, &source, &from.1)?;
                match kept {
                    Some(kept) => staging.removed.move_new(kept, target, &to.1),
                    None => Ok(()),
                }
            }
            Self::Hold { parent, name, staged } => {
                staging.staged.move_new(staged.as_str(), parents.get(parent)?, name)
            }
            Self::Nothing => Ok(()),
        }
    }
}
