//! At the start: what the journal has and the folder may lack is made now, before anything is looked at or served.
//!
//! A change that was in the journal when everything was killed may be on the disk or not, and the catalogue may have
//! it or not. Each is told by what lies there: content by its digest, what was to go by the place on the disk that the
//! catalogue knows it by. What fits neither was put there by somebody else meanwhile, and is left alone. A change that
//! cannot be made any more is withdrawn.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::{Bound, ControlFlow};

use log::{info, warn};
use relais_cluster::{Entry, FileContent};
use relais_journal::{FileJournal, Journal};
use relais_proto::{Change, ChangeId, Digest, FolderId, Kind, LogEntry, Lsn, Mode, TreePath};
use relais_storage::{
    AppliedEntry, CatalogError, CatalogRow, CatalogStore, Commit, MetadataFolder, StagedName,
    Staging,
};
use relais_tree::{Folder, Meta, TreeError, hash_file};

use super::apply::{Applied, Applier, Displaced, FolderCache, OnForeign};
use super::commit::has;
use super::note::{paths, record_change};
use super::numbering::{Numbering, Standalone};
use super::replication::quarantine::Quarantine;
use super::snapshot::SnapshotFile;

/// Name of the journal in the slave's own folder.
const JOURNAL: &str = "journal";

/// What the journal says of a path: for a catalogue that was built anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// File or folder.
    pub kind: Kind,
    /// The last change to the path.
    pub version: Lsn,
    /// Permission bits.
    pub mode: Mode,
    /// The put that made the content, its size, its time in whole, and its digest.
    pub content: Option<(Lsn, u64, relais_proto::FileTime, Digest)>,
}

impl Remembered {
    /// Returns it as an entry of the tree.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let content =
            self.content.map(|(put, size, mtime, digest)| FileContent { put, digest, size, mtime });
        Entry { version: self.version, mode: self.mode, content }
    }
}

/// The tree by the journal alone.
pub type Memory = BTreeMap<TreePath, Remembered>;

/// What is staged, by the change that it is staged for.
type StagedByChange = HashMap<ChangeId, Vec<StagedName>>;

/// Opens the journal of a slave that stands alone, and makes what the folder lacks. The second result is not empty
/// where the catalogue knows of no change: what it finds in the folder has its number from there, and only after that may
/// it note that it has all.
///
/// # Errors
/// Those of the journal, the folder or the catalogue.
pub fn open(
    own: &MetadataFolder,
    root: &Folder,
    folder: FolderId,
    store: &CatalogStore,
) -> Result<(Standalone, Memory), CatalogError> {
    let applied = store.applied()?;
    let journal = FileJournal::open(&own.path(JOURNAL), folder.0)?;
    let mut snapshot = SnapshotFile::new();
    let before = snapshot.load(&journal)?;
    if let Some(applied) = applied.filter(|applied| *applied < before.last) {
        warn!(
            "the catalogue ends with change {applied}, before the snapshot, which ends with {}: what it lacks is taken from the folder",
            before.last
        );
    }
    let (mut missing, mut memory) = (Vec::new(), Memory::new());
    let withdrawn = &mut HashMap::new();
    store.begin()?;
    if applied.is_none() {
        before.ids.iter().try_for_each(|(id, commit)| store.record_change(*id, *commit))?;
        memory = before.memory();
    }
    for numbered in journal.read(before.last)? {
        let numbered = numbered?;
        if let Change::Withdraw { of } = numbered.change {
            withdrawn.insert(of, numbered.version);
        }
        match applied {
            None => {
                store.record_change(numbered.id, Commit::from(&numbered))?;
                remember(&mut memory, &numbered);
            }
            Some(applied) if numbered.version > applied => missing.push(numbered),
            Some(_) => {}
        }
    }
    let last = go_on_behind(applied, journal.last().max(before.last));
    let mut numbering = Standalone::new(Box::new(journal), own.clone(), snapshot, last);
    let staging = Staging::open(root)?;
    let staged = staged_by_change(&staging)?;
    let replay = Replay { root, store, staging: &staging, staged: &staged, withdrawn };
    match applied {
        Some(_) => replay.redo_all(&missing, &mut numbering)?,
        None => replay.complete(&memory)?,
    }
    if !missing.is_empty() {
        info!("{} changes of the journal were looked at again", missing.len());
    }
    if memory.is_empty() {
        store.set_applied(numbering.last())?;
    }
    store.commit()?;
    replay.forget_staged()?;
    Ok((numbering, memory))
}

/// Removes the journal and the snapshot of a slave that joins a cluster.
///
/// # Errors
/// Those of the folder.
pub fn discard_journal(own: &MetadataFolder) -> Result<(), CatalogError> {
    for name in [JOURNAL, super::snapshot::SNAPSHOT] {
        match own.folder().unlink(name) {
            Ok(()) | Err(TreeError::NotFound) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Behind which number the next change comes. No number is ever given twice, also where the journal was lost.
fn go_on_behind(applied: Option<Lsn>, journal: Lsn) -> Lsn {
    match applied {
        Some(applied) if applied > journal && applied.number > 0 => {
            warn!(
                "the folder has change {applied}, and the journal ends with {journal}: numbers go on in a new epoch"
            );
            Lsn { epoch: applied.epoch.saturating_add(1), number: 0 }
        }
        // Nothing was changed since the new epoch began.
        Some(applied) => applied.max(journal),
        None => journal,
    }
}

fn staged_by_change(staging: &Staging) -> Result<StagedByChange, TreeError> {
    let mut staged = StagedByChange::new();
    for listed in staging.staged.list()? {
        if let Some(name) = std::str::from_utf8(listed?.name()).ok().and_then(StagedName::parse) {
            staged.entry(name.id()).or_default().push(name);
        }
    }
    Ok(staged)
}

/// What the memory has at a path and below it.
fn at_and_below(memory: &Memory, path: &TreePath) -> Vec<TreePath> {
    // All that begin with the same bytes lie together.
    let from = memory
        .range::<TreePath, _>((Bound::Included(path), Bound::Unbounded))
        .map(|(known, _)| known);
    let alike = from.take_while(|known| known.as_str().starts_with(path.as_str()));
    alike.filter(|known| *known == path || known.is_below(path)).cloned().collect()
}

/// Follows one change in the memory of the tree.
fn remember(memory: &mut Memory, numbered: &LogEntry) {
    let version = numbered.version;
    match &numbered.change {
        Change::Put { path, size, digest, mtime, mode } => {
            let mode = *mode;
            let content = Some((version, *size, *mtime, *digest));
            memory.insert(path.clone(), Remembered { kind: Kind::File, version, mode, content });
        }
        Change::MakeFolder { path, mode } => {
            let (kind, mode) = (Kind::Folder, *mode);
            memory.insert(path.clone(), Remembered { kind, version, mode, content: None });
        }
        Change::SetMode { path, mode } => {
            if let Some(entry) = memory.get_mut(path) {
                (entry.version, entry.mode) = (version, *mode);
            }
        }
        Change::Remove { path, .. } => {
            for gone in at_and_below(memory, path) {
                memory.remove(&gone);
            }
        }
        Change::Move { from, to } if from == to => {
            if let Some(entry) = memory.get_mut(to) {
                entry.version = version;
            }
        }
        Change::Move { from, to } => {
            memory.remove(to);
            for old in at_and_below(memory, from) {
                let new = TreePath::new(format!(
                    "{}{}",
                    to.as_str(),
                    &old.as_str()[from.as_str().len()..]
                ));
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
    store: &'a CatalogStore,
    staging: &'a Staging,
    staged: &'a StagedByChange,
    /// Changes that were taken back, and the number of that.
    withdrawn: &'a HashMap<Lsn, Lsn>,
}

impl Replay<'_> {
    /// Makes what was not made, in order, and withdraws what cannot be made any more.
    fn redo_all(
        &self,
        missing: &[LogEntry],
        numbering: &mut dyn Numbering,
    ) -> Result<(), CatalogError> {
        let mut undone = Vec::new();
        for numbered in missing {
            if !self.redo(numbered)? {
                undone.push(numbered);
            }
        }
        if undone.is_empty() {
            return Ok(());
        }
        let versions: Vec<Lsn> = undone.iter().map(|numbered| numbered.version).collect();
        let withdrawn = numbering
            .withdraw(&versions)
            .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        for (numbered, by) in undone.iter().zip(withdrawn) {
            paths(&numbered.change)
                .into_iter()
                .try_for_each(|path| self.store.set_lsn(path, by.version))?;
        }
        Ok(())
    }

    /// Makes one change where it was not made; false where it cannot be made any more.
    fn redo(&self, numbered: &LogEntry) -> Result<bool, CatalogError> {
        let LogEntry { version, id, change, .. } = numbered;
        if let Some(by) = self.withdrawn.get(version) {
            paths(change).into_iter().try_for_each(|path| self.store.set_lsn(path, *by))?;
            return Ok(true);
        }
        let staged = self.staged_content(numbered)?;
        let must_be_made = match change {
            Change::Put { .. } => staged.is_some(),
            Change::MakeFolder { path, .. } => !self.is_there(path)?,
            Change::SetMode { .. } => true,
            Change::Remove { path, .. } | Change::Move { from: path, .. } => {
                self.is_what_the_catalogue_has(path)?
            }
            Change::Withdraw { .. } => false,
        };
        if must_be_made {
            match self.make_in_its_place(change, *version, staged.as_ref())? {
                Ok(applied) => record_change(self.store, change, *version, &applied)?,
                Err(e) => {
                    warn!("change {version} cannot be made any more and is withdrawn: {e}");
                    return Ok(false);
                }
            }
        } else {
            self.note_as_made(change, *version)?;
        }
        self.store.record_change(*id, Commit::from(numbered))?;
        Ok(true)
    }

    /// As [`Self::make`], and replaces nothing that the catalogue does not have.
    fn make_in_its_place(
        &self,
        change: &Change,
        version: Lsn,
        staged: Option<&StagedName>,
    ) -> Result<Result<Applied, TreeError>, CatalogError> {
        let place = match change {
            Change::Put { path, .. } => Some(path),
            Change::Move { from, to } if from != to => Some(to),
            _ => None,
        };
        if let Some(place) = place
            && self.is_there(place)?
        {
            if !self.is_what_the_catalogue_has(place)? {
                return Ok(Err(TreeError::Taken));
            }
            self.drop_second_name(place, version)?;
        }
        Ok(self.make(change, version, staged, OnForeign::RollBack))
    }

    /// A move that was cut off may have kept the file that it was about to replace, under a second name.
    fn drop_second_name(&self, place: &TreePath, version: Lsn) -> Result<(), TreeError> {
        let kept = version.to_string();
        match (self.staging.removed.stat_part(kept.as_bytes()), self.root.stat(place)) {
            (Ok(second), Ok(first)) if (second.dev, second.ino) == (first.dev, first.ino) => {
                self.staging.removed.unlink(&kept)
            }
            _ => Ok(()),
        }
    }

    fn make(
        &self,
        change: &Change,
        version: Lsn,
        staged: Option<&StagedName>,
        on_foreign: OnForeign,
    ) -> Result<Applied, TreeError> {
        let mut parents = FolderCache::new(self.root);
        let mut quarantine = Quarantine::open(self.root)?;
        let mut applier = Applier {
            parents: &mut parents,
            staging: self.staging,
            quarantine: &mut quarantine,
            known: &mut |left: &Displaced<'_>| has(self.store, left),
            on_foreign,
        };
        let applied = applier.apply(change, version, staged)?;
        for parent in &applied.parents {
            parents.get(parent)?.sync()?;
        }
        applied.finish(self.staging, &mut quarantine);
        Ok(applied)
    }

    /// What needs no work on the disk any more may still be missing in the catalogue.
    fn note_as_made(&self, change: &Change, version: Lsn) -> Result<(), CatalogError> {
        match change {
            Change::Put { path, digest, .. } => self.adopt_content(path, version, digest),
            Change::MakeFolder { path, .. } => match self.root.stat(path) {
                Ok(meta) if meta.served_kind() == Some(Kind::Folder) => self.store.put_committed(
                    path,
                    &AppliedEntry {
                        kind: Kind::Folder,
                        meta: &meta,
                        version,
                        content: None,
                        digest: None,
                    },
                ),
                _ => Ok(()),
            },
            Change::Remove { path, .. } if !self.is_there(path)? => self.store.remove(path),
            Change::Move { from, to } => match (self.store.row(from)?, self.root.stat(to)) {
                (Some(row), Ok(meta)) if (row.dev, row.ino) == (meta.dev, meta.ino) => {
                    // Where it was edited since, the scan finds that by the ctime.
                    let same = row.digest.is_none() || self.is_content_of(to, &row, &meta)?;
                    let meta = if same { meta } else { Meta { ctime: row.ctime, ..meta } };
                    self.store.remove(to)?;
                    self.store.move_committed(from, to, version, &meta)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The staged file that holds exactly what a put has to give its name: it was not given it yet. Former content may
    /// have the same bytes, but other times.
    fn staged_content(&self, numbered: &LogEntry) -> Result<Option<StagedName>, CatalogError> {
        let Change::Put { size, digest, mtime, .. } = &numbered.change else {
            return Ok(None);
        };
        // What is not sealed may still be written by somebody.
        for name in
            self.staged.get(&numbered.id).into_iter().flatten().filter(|name| name.is_sealed())
        {
            let file = self.staging.staged.open_read(name.as_str())?;
            if (file.meta.size, file.meta.mtime) != (*size, *mtime) {
                continue;
            }
            let (found, _) =
                hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
            if found == *digest {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    /// Notes a put whose content has its name already. Other content stays as it is: somebody has put it there since.
    fn adopt_content(
        &self,
        path: &TreePath,
        version: Lsn,
        digest: &Digest,
    ) -> Result<(), CatalogError> {
        let Ok(file) = self.root.open_file(path) else { return Ok(()) };
        let (found, _) = hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
        if found != *digest {
            return Ok(());
        }
        let made = AppliedEntry {
            kind: Kind::File,
            meta: &file.meta,
            version,
            content: Some(version),
            digest: Some(*digest),
        };
        self.store.put_committed(path, &made)
    }

    fn is_there(&self, path: &TreePath) -> Result<bool, CatalogError> {
        match self.root.stat(path) {
            Ok(_) => Ok(true),
            Err(TreeError::NotFound | TreeError::NotFolder) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Whether what lies at a path is still what the catalogue knows there.
    fn is_what_the_catalogue_has(&self, path: &TreePath) -> Result<bool, CatalogError> {
        match (self.store.row(path)?, self.root.stat(path)) {
            (Some(row), Ok(meta)) => self.is_content_of(path, &row, &meta),
            _ => Ok(false),
        }
    }

    /// Whether what lies at a path is what a row says. Where nothing but the ctime differs the content is read: it may have
    /// been edited, and its times set back.
    fn is_content_of(
        &self,
        path: &TreePath,
        row: &CatalogRow,
        meta: &Meta,
    ) -> Result<bool, CatalogError> {
        if !row.matches_except_ctime(meta) {
            return Ok(false);
        }
        if row.entry.kind == Kind::Folder || row.matches(meta) {
            return Ok(true);
        }
        let Some(digest) = row.digest else { return Ok(false) };
        let Ok(file) = self.root.open_file(path) else { return Ok(false) };
        let (found, _) = hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
        Ok(found == digest)
    }

    /// For a catalogue that knows of no change: gives staged content of the latest puts its name. What is in the folder
    /// already is found by the scan.
    fn complete(&self, memory: &Memory) -> Result<(), CatalogError> {
        let mut staged: HashMap<Lsn, &StagedName> = HashMap::new();
        for (id, names) in self.staged {
            if let Some(commit) = self.store.commit_of(*id)? {
                staged.extend(
                    names.iter().filter(|name| name.is_sealed()).map(|name| (commit.version, name)),
                );
            }
        }
        for (path, entry) in memory {
            let Some((version, size, mtime, digest)) = &entry.content else { continue };
            let Some(name) = staged.get(version) else { continue };
            let file = self.staging.staged.open_read(name.as_str())?;
            if (file.meta.size, file.meta.mtime) != (*size, *mtime) {
                continue;
            }
            let (found, _) =
                hash_file(&file.file, file.meta.size, &mut |_| ControlFlow::Continue(()))?;
            let change = Change::Put {
                path: path.clone(),
                size: *size,
                digest: *digest,
                mtime: *mtime,
                mode: entry.mode,
            };
            if found == *digest
                // The catalogue has nothing, so nothing that lies there is known.
                && let Err(e) =
                    self.make(&change, entry.version, Some(name), OnForeign::Quarantine)
            {
                warn!("change {version} cannot be made: {e}");
            }
        }
        Ok(())
    }

    /// What is staged for a change that was made is former content, or was sent twice.
    fn forget_staged(&self) -> Result<(), CatalogError> {
        for (id, names) in self.staged {
            if self.store.commit_of(*id)?.is_some() {
                names.iter().for_each(|name| self.staging.discard(name));
            }
        }
        Ok(())
    }
}
