//! At the start: what the journal has and the folder may lack is made now, before anything is looked at or served.
//!
//! A change that was in the journal when everything was killed may be on the disk or not, and the catalogue may have
//! it or not. Each is told by what lies there: content by its digest, what was to go by the place on the disk that the
//! catalogue knows it by. What fits neither was put there by somebody else meanwhile, and is left alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use log::{info, warn};
use relais_proto::{Change, Digest, FolderId, Kind, Numbered, TreePath, Version};
use relais_state::{ChangeLog, Journal};
use relais_tree::{Folder, TreeError, hash_file};

use super::apply::{Applied, Parents, apply};
use super::commit::note_change;
use crate::catalogue::{CatalogueError, FOLDER, Made, Store};
use crate::staging::{StagedName, Staging};

/// Name of the journal in the slave's own folder.
const JOURNAL: &str = "journal";

/// What the journal says of a path: for a catalogue that was built anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// File or folder.
    pub kind: Kind,
    /// The last change to the path.
    pub version: Version,
    /// The put that made the content, its size, its time in whole, and its digest.
    pub content: Option<(Version, u64, relais_proto::FileTime, Digest)>,
}

/// The tree by the journal alone.
pub type Memory = BTreeMap<TreePath, Remembered>;

/// Opens the journal of a slave that stands alone, and makes what the folder lacks. The second result is not empty
/// where the catalogue knows of no change: what it finds in the folder has its number from there.
///
/// # Errors
/// Those of the journal, the folder or the catalogue.
pub fn open(path: &Path, root: &Folder, folder: FolderId, store: &Store) -> Result<(Journal, Memory), CatalogueError> {
    let applied = store.applied()?;
    let (mut missing, mut memory, mut since) = (Vec::new(), Memory::new(), 0_u64);
    let withdrawn = &mut HashMap::new();
    store.begin()?;
    let mut failed = None;
    let journal = Journal::open(&path.join(FOLDER).join(JOURNAL), folder.0, &mut |numbered| {
        if let Change::Withdraw { of } = numbered.change {
            withdrawn.insert(of, numbered.version);
        }
        if applied.is_none() {
            if let Err(e) = store.note_change(numbered.id, numbered.version) {
                failed.get_or_insert(e);
            }
            remember(&mut memory, &numbered);
        }
        if applied.is_none_or(|applied| numbered.version > applied) {
            since += 1;
            missing.push(numbered);
        }
        Ok(())
    })
    .map_err(|e| CatalogueError::Journal(Box::new(e)))?;
    if let Some(e) = failed {
        return Err(e);
    }
    let staging = Staging::open(root)?;
    let replay = Replay { root, store, staging: &staging, withdrawn };
    match applied {
        Some(_) => missing.iter().try_for_each(|numbered| replay.redo(numbered))?,
        None => replay.complete(&memory)?,
    }
    if since > 0 && applied.is_some() {
        info!("{since} changes of the journal were looked at again");
    }
    store.set_applied(journal.last())?;
    store.commit()?;
    replay.forget_staged()?;
    Ok((journal, memory))
}

/// Follows one change in the memory of the tree.
fn remember(memory: &mut Memory, numbered: &Numbered) {
    let version = numbered.version;
    match &numbered.change {
        Change::Put { path, size, digest, mtime, .. } => {
            let content = Some((version, *size, *mtime, *digest));
            memory.insert(path.clone(), Remembered { kind: Kind::File, version, content });
        }
        Change::MakeFolder { path } => {
            memory.insert(path.clone(), Remembered { kind: Kind::Folder, version, content: None });
        }
        Change::Remove { path, .. } => memory.retain(|known, _| known != path && !known.is_below(path)),
        Change::Move { from, to } => {
            memory.remove(to);
            let moved: Vec<TreePath> = memory.keys().filter(|known| *known == from || known.is_below(from)).cloned().collect();
            for old in moved {
                let new = TreePath::new(format!("{}{}", to.as_str(), &old.as_str()[from.as_str().len()..]));
                if let (Some(entry), Ok(new)) = (memory.remove(&old), new) {
                    memory.insert(new, Remembered { version, ..entry });
                }
            }
        }
        // What an undone change concerned is not known from here; what lies there goes without a number.
        Change::Withdraw { of } => memory.retain(|_, entry| entry.version != *of),
    }
}

struct Replay<'a> {
    root: &'a Folder,
    store: &'a Store,
    staging: &'a Staging,
    /// Changes that were taken back, and the number of that.
    withdrawn: &'a HashMap<Version, Version>,
}

impl Replay<'_> {
    /// Makes one change where it was not made.
    fn redo(&self, numbered: &Numbered) -> Result<(), CatalogueError> {
        let Numbered { version, id, change, .. } = numbered;
        if let Some(by) = self.withdrawn.get(version) {
            return super::commit::paths(change).into_iter().try_for_each(|path| self.store.renumber(path, *by));
        }
        let staged = match change {
            Change::Put { digest, .. } => self.staged_content(numbered, digest)?,
            _ => None,
        };
        let must_be_made = match change {
            Change::Put { .. } => staged.is_some(),
            Change::MakeFolder { path } => !self.is_there(path)?,
            Change::Remove { path, .. } | Change::Move { from: path, .. } => self.is_what_the_catalogue_has(path)?,
            Change::Withdraw { .. } => false,
        };
        if must_be_made {
            match self.make(change, *version, staged.as_ref()) {
                Ok(applied) => note_change(self.store, change, *version, &applied)?,
                Err(e) => warn!("change {version} cannot be made: {e}"),
            }
        } else {
            self.note_as_made(change, *version)?;
        }
        self.store.note_change(*id, *version)
    }

    fn make(&self, change: &Change, version: Version, staged: Option<&StagedName>) -> Result<Applied, TreeError> {
        let mut parents = Parents::new(self.root);
        let applied = apply(change, version, staged, &mut parents, self.staging)?;
        for parent in &applied.parents {
            parents.get(parent)?.sync()?;
        }
        applied.settle(self.staging);
        Ok(applied)
    }

    /// What needs no work on the disk any more may still be missing in the catalogue.
    fn note_as_made(&self, change: &Change, version: Version) -> Result<(), CatalogueError> {
        match change {
            Change::Put { path, digest, .. } => self.adopt_content(path, version, digest),
            Change::MakeFolder { path } => match self.root.stat(path) {
                Ok(meta) if meta.served_kind() == Some(Kind::Folder) => {
                    self.store.put_numbered(path, &Made { kind: Kind::Folder, meta: &meta, version, content: None, digest: None })
                }
                _ => Ok(()),
            },
            Change::Remove { path, .. } if !self.is_there(path)? => self.store.remove(path),
            Change::Move { from, to } if !self.is_there(from)? => match (self.store.row(from)?, self.root.stat(to)) {
                (Some(row), Ok(meta)) if (row.dev, row.ino) == (meta.dev, meta.ino) => {
                    self.store.remove(to)?;
                    self.store.move_numbered(from, to, version, &meta)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The staged file that holds exactly the content of a put: it was not given its name yet.
    fn staged_content(&self, numbered: &Numbered, digest: &Digest) -> Result<Option<StagedName>, CatalogueError> {
        let Some(name) = self.staging.of_change(numbered.id)? else { return Ok(None) };
        let file = self.staging.staged.open_read(name.as_str())?;
        let (found, _) = hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
        Ok((found == *digest).then_some(name))
    }

    /// Notes a put whose content has its name already. Other content stays as it is: somebody has put it there since.
    fn adopt_content(&self, path: &TreePath, version: Version, digest: &Digest) -> Result<(), CatalogueError> {
        let Ok(file) = self.root.open_file(path) else { return Ok(()) };
        let (found, _) = hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
        if found != *digest {
            return Ok(());
        }
        let made = Made { kind: Kind::File, meta: &file.meta, version, content: Some(version), digest: Some(*digest) };
        self.store.put_numbered(path, &made)
    }

    fn is_there(&self, path: &TreePath) -> Result<bool, CatalogueError> {
        match self.root.stat(path) {
            Ok(_) => Ok(true),
            Err(TreeError::NotFound | TreeError::NotFolder) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether what lies at a path is still what the catalogue knows there.
    fn is_what_the_catalogue_has(&self, path: &TreePath) -> Result<bool, CatalogueError> {
        let (row, meta) = (self.store.row(path)?, self.root.stat(path));
        Ok(matches!((row, meta), (Some(row), Ok(meta)) if (row.dev, row.ino) == (meta.dev, meta.ino)))
    }

    /// For a catalogue that knows of no change: gives staged content of the latest puts its name. What is in the folder
    /// already is found by the scan.
    fn complete(&self, memory: &Memory) -> Result<(), CatalogueError> {
        let mut staged: HashMap<Version, StagedName> = HashMap::new();
        for listed in self.staging.staged.list()? {
            let Some(name) = std::str::from_utf8(listed?.name()).ok().and_then(StagedName::parse) else { continue };
            if let Some(version) = self.store.number_of(name.id())? {
                staged.insert(version, name);
            }
        }
        for (path, entry) in memory {
            let Some((version, _, _, digest)) = &entry.content else { continue };
            let Some(name) = staged.get(version) else { continue };
            let file = self.staging.staged.open_read(name.as_str())?;
            let (found, _) = hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
            let change = Change::Put {
                path: path.clone(),
                size: file.meta.size,
                digest: *digest,
                mtime: file.meta.mtime,
                executable: file.meta.executable,
            };
            if found == *digest
                && let Err(e) = self.make(&change, entry.version, Some(name))
            {
                warn!("change {version} cannot be made: {e}");
            }
        }
        Ok(())
    }

    /// What is staged for a change that was made is former content, or was sent twice.
    fn forget_staged(&self) -> Result<(), CatalogueError> {
        let mut done = HashSet::new();
        for listed in self.staging.staged.list()? {
            if let Some(name) = std::str::from_utf8(listed?.name()).ok().and_then(StagedName::parse)
                && self.store.number_of(name.id())?.is_some()
            {
                done.insert(name);
            }
        }
        done.iter().for_each(|name| self.staging.discard(name));
        Ok(())
    }
}
