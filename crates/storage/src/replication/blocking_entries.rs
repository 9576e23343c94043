//! Entries of a standalone slave's folder that keep a change from being made: what is not served,
//! and what users have put there or edited that is not numbered yet.
//!
//! The check comes right before the change is proposed. It changes nothing. In a cluster only
//! entries that are not served block a change, because other slaves do not have the rest.

use std::collections::HashMap;

use crate::{CatalogError, CatalogRow, CatalogStore, SkipReason, changes_unavailable_at, refuse};
use relais_proto::{Change, ErrorCode, Kind, Refusal, TreePath};
use relais_tree::{EntryInfo, Folder, MetaKind, TreeError};

use crate::apply::FolderCache;

/// What is at a path on the disk, and what the catalogue has there.
type Found = (Option<EntryInfo>, Option<CatalogRow>);

/// Looks for blocking entries.
pub(super) struct BlockingEntries<'a> {
    root: &'a Folder,
    store: &'a CatalogStore,
    parents: FolderCache<'a>,
    /// Rows that this batch has asked for.
    rows: HashMap<TreePath, Option<CatalogRow>>,
}

/// Why a check has no other result.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum Stopped {
    /// An entry blocks the change.
    Blocked(#[from] Refusal),
    /// The catalogue cannot be read.
    Failed(#[from] CatalogError),
}

fn being_changed(path: &TreePath) -> Refusal {
    changes_unavailable_at(path, "it is just being changed on the server; try again in a second")
}

/// Refusal to remove a folder with an entry that is not served.
fn keeps_folder(below: &TreePath, what: &str) -> Refusal {
    Refusal::at(
        below,
        ErrorCode::NotServed,
        format!("{what}; its folder cannot be removed before it has gone on the server"),
    )
}

/// Returns the refusal for an entry that is not served.
pub(super) fn is_unserved(path: &TreePath, survey: &EntryInfo) -> Option<Refusal> {
    let what = match survey.meta.kind {
        _ if survey.mount_point => "a mount point",
        MetaKind::Link => "a symbolic link",
        MetaKind::Special => "a device, FIFO or socket",
        MetaKind::File | MetaKind::Folder => return None,
    };
    Some(Refusal::at(path, ErrorCode::NotServed, format!("{what} has that name")))
}

impl<'a> BlockingEntries<'a> {
    pub fn new(root: &'a Folder, store: &'a CatalogStore) -> Self {
        Self { root, store, parents: FolderCache::new(root), rows: HashMap::new() }
    }

    /// Returns the row of a path, which does not change while a batch is checked.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub fn row(&mut self, path: &TreePath) -> Result<Option<CatalogRow>, CatalogError> {
        if let Some(row) = self.rows.get(path) {
            return Ok(row.clone());
        }
        let row = self.store.row(path)?;
        self.rows.insert(path.clone(), row.clone());
        Ok(row)
    }

    /// Returns the refusal of a change that an entry blocks.
    ///
    /// # Errors
    /// The catalogue cannot be read.
    pub fn of(&mut self, change: &Change) -> Result<Option<Refusal>, CatalogError> {
        match self.check(change) {
            Ok(()) => Ok(None),
            Err(Stopped::Blocked(refusal)) => Ok(Some(refusal)),
            Err(Stopped::Failed(e)) => Err(e),
        }
    }

    fn check(&mut self, change: &Change) -> Result<(), Stopped> {
        match change {
            Change::Put { path, .. } | Change::MakeFolder { path, .. } => self.place(path),
            Change::SetAttributes { path, .. }
            | Change::SetProperties { path, .. }
            | Change::Lock { path, .. } => self.source(path, false).map(drop),
            Change::Remove { path, recursive } => self.removal(path, *recursive),
            Change::Move { from, to } => {
                self.source(from, true)?;
                if from == to { Ok(()) } else { self.place(to) }
            }
            Change::Withdraw { .. } | Change::Unlock { .. } | Change::RecordSha256 { .. } => Ok(()),
        }
    }

    /// Looks at a path. A missing folder above is left to the coordinator.
    ///
    /// `renames` tells whether the change needs a writable folder.
    fn look(&mut self, path: &TreePath, renames: bool) -> Result<Found, Stopped> {
        let row = self.row(path)?;
        let Some((parent, name)) = path.split_last() else { return Ok((None, row)) };
        // The coordinator does not know a file that has no number yet.
        if let Some(above) = self.row(&parent)?
            && above.entry.kind == Kind::File
            && above.entry.version.is_none()
        {
            return Err(unnumbered(&parent).into());
        }
        let looked = self.parents.get(&parent).and_then(|folder| {
            if renames {
                folder.check_writable()?;
            }
            folder.survey(name.as_bytes())
        });
        let survey = match looked {
            Ok(survey) => Some(survey),
            Err(TreeError::NotFound | TreeError::NotFolder) => None,
            Err(e) => return Err(refuse(path, &e).into()),
        };
        match survey.as_ref().and_then(|survey| is_unserved(path, survey)) {
            Some(refusal) => Err(refusal.into()),
            None => Ok((survey, row)),
        }
    }

    /// Checks a path that something new gets.
    fn place(&mut self, path: &TreePath) -> Result<(), Stopped> {
        match self.look(path, true)? {
            (None, _) => Ok(()),
            (Some(survey), Some(row)) => Ok(known(path, &survey, &row)?),
            (Some(survey), None) if survey.meta.kind == MetaKind::Folder => {
                Err(Refusal::at(path, ErrorCode::Exists, "a folder has that name").into())
            }
            (Some(_), None) => Err(self.unknown(path)?.into()),
        }
    }

    /// Checks a path that is changed or taken away. Returns its row.
    fn source(&mut self, path: &TreePath, renames: bool) -> Result<Option<CatalogRow>, Stopped> {
        let (survey, row) = self.look(path, renames)?;
        match (&survey, &row) {
            (Some(survey), Some(row)) => known(path, survey, row)?,
            (Some(_), None) => return Err(self.unknown(path)?.into()),
            (None, Some(_)) => return Err(being_changed(path).into()),
            (None, None) => {}
        }
        Ok(row)
    }

    /// Returns the refusal for an entry that the catalogue does not have.
    fn unknown(&self, path: &TreePath) -> Result<Refusal, CatalogError> {
        let skip = self.store.skipped_at(path)?;
        Ok(skip.map_or_else(
            || being_changed(path),
            |skip| Refusal::at(path, ErrorCode::NotServed, skip.text()),
        ))
    }

    /// Checks that the catalogue has all that is below a folder, as it is on the disk.
    fn subtree(&self, top: &TreePath) -> Result<(), Stopped> {
        let mut open = vec![top.clone()];
        while let Some(path) = open.pop() {
            let found = match self.root.open_folder(&path).and_then(|folder| folder.survey_all()) {
                Ok(found) => found,
                Err(TreeError::NotFound) => continue,
                Err(e) => {
                    let refusal = refuse(&path, &e);
                    let is_below = path != *top && refusal.code == ErrorCode::NotServed;
                    let keeps = is_below.then(|| keeps_folder(&path, &e.public_text()));
                    return Err(keeps.unwrap_or(refusal).into());
                }
            };
            for (name, survey) in found {
                let Some(below) = path.join_bytes(&name) else {
                    let name = String::from_utf8_lossy(&name);
                    let what = format!("{}: {}", name.escape_debug(), SkipReason::Name.text());
                    return Err(keeps_folder(&path, &what).into());
                };
                if survey.mount_point {
                    return Err(keeps_folder(&below, SkipReason::Mount.text()).into());
                }
                let Some(row) = self.store.row(&below)? else {
                    let skip = self.store.skipped_at(&below)?;
                    let keeps = skip.map(|skip| keeps_folder(&below, skip.text()));
                    return Err(keeps.unwrap_or_else(|| unpublished(&below)).into());
                };
                known(&below, &survey, &row)?;
                if row.entry.kind == Kind::Folder {
                    open.push(below);
                }
            }
        }
        Ok(())
    }

    fn removal(&mut self, path: &TreePath, recursive: bool) -> Result<(), Stopped> {
        if self.source(path, true)?.is_none_or(|row| row.entry.kind == Kind::File) {
            return Ok(());
        }
        if recursive {
            let Some((shown, what, count)) = self.store.skipped_below(path)? else {
                return self.subtree(path);
            };
            let what = match count {
                1 => what.to_owned(),
                _ => format!("{what}, and {} more", count - 1),
            };
            // A name that is not UTF-8 has no path. It is shown below the removed folder.
            let keeps = match TreePath::new(shown.trim_start_matches('/')) {
                Ok(below) => keeps_folder(&below, &what),
                Err(_) => {
                    let below = shown.strip_prefix(&format!("{path}/")).unwrap_or_default();
                    keeps_folder(path, &format!("{below}: {what}"))
                }
            };
            return Err(keeps.into());
        }
        // A user may just have put something there. The coordinator knows the rest, and which
        // removals come before this one.
        let names = self.root.open_folder(path).and_then(|folder| {
            folder.list()?.map(|listed| Ok(listed?.name().to_vec())).collect::<Result<Vec<_>, _>>()
        });
        for name in names.map_err(|e| refuse(path, &e))? {
            let below = path.join_bytes(&name);
            let row = below.map(|below| self.store.row(&below)).transpose()?.flatten();
            if row.is_none_or(|row| row.entry.version.is_none()) {
                let reason = "the folder is not empty";
                return Err(Refusal::at(path, ErrorCode::NotEmpty, reason).into());
            }
        }
        Ok(())
    }
}

/// Refusal for an entry that is not part of the tree yet. It must not go unnoticed.
fn unpublished(path: &TreePath) -> Refusal {
    changes_unavailable_at(
        path,
        "it was put there on the server and is not published yet, which takes some seconds, \
         and with --watch off until the next start",
    )
}

/// Refusal for a file that is listed and gets its number soon.
fn unnumbered(path: &TreePath) -> Refusal {
    Refusal { retry_after: 1, ..unpublished(path) }
}

/// Checks that the disk has what the tree has.
fn known(path: &TreePath, survey: &EntryInfo, row: &CatalogRow) -> Result<(), Refusal> {
    match row.entry.kind {
        Kind::File if !row.matches(&survey.meta) => Err(being_changed(path)),
        Kind::File if row.entry.version.is_none() => Err(unnumbered(path)),
        // A new folder is proposed right before this change.
        Kind::Folder if survey.meta.kind != MetaKind::Folder => Err(being_changed(path)),
        _ => Ok(()),
    }
}
