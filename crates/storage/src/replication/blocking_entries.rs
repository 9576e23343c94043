//! Entries of a standalone slave's folder that keep a change from being made: what is not served,
//! and what users have put there or edited that is not numbered yet.
//!
//! The check comes right before the change is proposed. It changes nothing. In a cluster only
//! entries that are not served block a change, because other slaves do not have the rest.

use std::collections::HashMap;

use crate::{CatalogError, CatalogRow, CatalogStore, SkipReason, changes_unavailable_at};
use relais_proto::{Change, ErrorCode, Kind, Refusal, TreePath};
use relais_tree::{EntryInfo, Folder, MetaKind, TreeError};

use crate::apply::FolderCache;
use crate::refusal::refuse;

/// What is at a path on the disk, and what the catalogue has there.
struct Found {
    survey: Option<EntryInfo>,
    row: Option<CatalogRow>,
    /// Why the entry is not served, if the catalogue has skipped it.
    skip: Option<SkipReason>,
}

/// Looks for blocking entries.
pub(super) struct BlockingEntries<'a> {
    root: &'a Folder,
    store: &'a CatalogStore,
    parents: FolderCache<'a>,
    /// Rows that this batch has asked for.
    rows: HashMap<TreePath, Option<CatalogRow>>,
}

/// The inner result is the refusal.
type Looked<T> = Result<Result<T, Refusal>, CatalogError>;

fn being_changed(path: &TreePath) -> Refusal {
    changes_unavailable_at(path, "it is just being changed on the server; try again in a second")
}

/// Refusal for an entry that the catalogue does not have.
fn unknown(path: &TreePath, skip: Option<SkipReason>) -> Refusal {
    match skip {
        Some(skip) => Refusal::at(path, ErrorCode::NotServed, skip.text()),
        None => being_changed(path),
    }
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
        let looked = match change {
            Change::Put { path, .. } | Change::MakeFolder { path, .. } => self.place(path),
            Change::SetAttributes { path, .. } => Ok(self.source(path, false)?.map(drop)),
            Change::Remove { path, recursive } => self.removal(path, *recursive),
            Change::Move { from, to } => match self.source(from, true)? {
                Ok(_) if from == to => Ok(Ok(())),
                Ok(_) => self.place(to),
                Err(refusal) => Ok(Err(refusal)),
            },
            Change::Withdraw { .. } => Ok(Ok(())),
        };
        Ok(looked?.err())
    }

    /// Looks at a path. A missing folder above is left to the coordinator.
    ///
    /// `renames` tells whether the change needs a writable folder.
    fn look(&mut self, path: &TreePath, renames: bool) -> Looked<Found> {
        let (row, skip) = (self.row(path)?, self.store.skipped_at(path)?);
        let Some((parent, name)) = path.split_last() else {
            return Ok(Ok(Found { survey: None, row, skip: None }));
        };
        // The coordinator does not know a file that has no number yet.
        if let Some(above) = self.row(&parent)?
            && above.entry.kind == Kind::File
            && above.entry.version.is_none()
        {
            return Ok(Err(unnumbered(&parent)));
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
            Err(e) => return Ok(Err(refuse(path, &e))),
        };
        Ok(match survey.as_ref().and_then(|survey| is_unserved(path, survey)) {
            Some(refusal) => Err(refusal),
            None => Ok(Found { survey, row, skip }),
        })
    }

    /// Checks a path that something new gets.
    fn place(&mut self, path: &TreePath) -> Looked<()> {
        Ok(self.look(path, true)?.and_then(|found| match (&found.survey, &found.row) {
            (None, _) => Ok(()),
            (Some(survey), Some(row)) => known(path, survey, row),
            (Some(survey), None) if survey.meta.kind == MetaKind::Folder => {
                Err(Refusal::at(path, ErrorCode::Exists, "a folder has that name"))
            }
            (Some(_), None) => Err(unknown(path, found.skip)),
        }))
    }

    /// Checks a path that is changed or taken away.
    fn source(&mut self, path: &TreePath, renames: bool) -> Looked<Found> {
        Ok(self.look(path, renames)?.and_then(|found| match (&found.survey, &found.row) {
            (Some(survey), Some(row)) => known(path, survey, row).map(|()| found),
            (Some(_), None) => Err(unknown(path, found.skip)),
            (None, Some(_)) => Err(being_changed(path)),
            (None, None) => Ok(found),
        }))
    }

    /// Checks that the catalogue has all that is below a folder, as it is on the disk.
    fn subtree(&self, top: &TreePath) -> Looked<()> {
        let mut open = vec![top.clone()];
        while let Some(path) = open.pop() {
            let read = || -> Result<Vec<(Vec<u8>, EntryInfo)>, TreeError> {
                let folder = self.root.open_folder(&path)?;
                let mut found = Vec::new();
                for listed in folder.list()? {
                    let name = listed?.name().to_vec();
                    match folder.survey(&name) {
                        Ok(survey) => found.push((name, survey)),
                        Err(TreeError::NotFound) => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(found)
            };
            let found = match read() {
                Ok(found) => found,
                Err(TreeError::NotFound) => continue,
                Err(e) if path == *top => return Ok(Err(refuse(&path, &e))),
                Err(e) => {
                    let refusal = refuse(&path, &e);
                    return Ok(Err(if refusal.code == ErrorCode::NotServed {
                        keeps_folder(&path, &e.public_text())
                    } else {
                        refusal
                    }));
                }
            };
            for (name, survey) in found {
                let Some(below) =
                    std::str::from_utf8(&name).ok().and_then(|name| path.join(name).ok())
                else {
                    let name = String::from_utf8_lossy(&name);
                    let what = format!("{}: {}", name.escape_debug(), SkipReason::Name.text());
                    return Ok(Err(keeps_folder(&path, &what)));
                };
                if survey.mount_point {
                    return Ok(Err(keeps_folder(&below, SkipReason::Mount.text())));
                }
                let Some(row) = self.store.row(&below)? else {
                    return Ok(Err(match self.store.skipped_at(&below)? {
                        Some(skip) => keeps_folder(&below, skip.text()),
                        None => unpublished(&below),
                    }));
                };
                if let Err(refusal) = known(&below, &survey, &row) {
                    return Ok(Err(refusal));
                }
                if row.entry.kind == Kind::Folder {
                    open.push(below);
                }
            }
        }
        Ok(Ok(()))
    }

    fn removal(&mut self, path: &TreePath, recursive: bool) -> Looked<()> {
        let found = match self.source(path, true)? {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if found.row.is_none_or(|row| row.entry.kind == Kind::File) {
            return Ok(Ok(()));
        }
        if recursive {
            return Ok(match self.store.skipped_below(path)? {
                0 => self.subtree(path)?,
                n => {
                    let first = self.store.first_skipped_below(path)?;
                    let (shown, what) = first.unwrap_or_else(|| (path.to_string(), "a name"));
                    let more =
                        if n > 1 { format!("{what}, and {} more", n - 1) } else { what.to_owned() };
                    // A name that is not UTF-8 has no path. It is shown below the removed folder.
                    match TreePath::new(shown.trim_start_matches('/')) {
                        Ok(below) => Err(keeps_folder(&below, &more)),
                        Err(_) => {
                            let top = format!("{path}/");
                            let below = shown.strip_prefix(&top).unwrap_or_default();
                            Err(keeps_folder(path, &format!("{below}: {more}")))
                        }
                    }
                }
            });
        }
        // A user may just have put something there. The coordinator knows the rest, and which
        // removals come before this one.
        let names = self.root.open_folder(path).and_then(|folder| {
            folder.list()?.map(|listed| Ok(listed?.name().to_vec())).collect::<Result<Vec<_>, _>>()
        });
        let names = match names {
            Ok(names) => names,
            Err(e) => return Ok(Err(refuse(path, &e))),
        };
        for name in names {
            let below = std::str::from_utf8(&name).ok().and_then(|name| path.join(name).ok());
            let row = below.map(|below| self.store.row(&below)).transpose()?.flatten();
            if row.is_none_or(|row| row.entry.version.is_none()) {
                let reason = "the folder is not empty";
                return Ok(Err(Refusal::at(path, ErrorCode::NotEmpty, reason)));
            }
        }
        Ok(Ok(()))
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
