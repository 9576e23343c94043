//! What in the folder keeps a change from being made, though the catalogue knows nothing of it: a link, a mount
//! point, a file that somebody is just writing. Looked at right before the change is numbered.
//!
//! Nothing that the catalogue does not have is ever replaced or removed: it may be somebody's only copy.

use relais_proto::{Change, ErrorCode, Kind, Refusal, TreePath};
use relais_storage::{CatalogError, CatalogRow, CatalogStore, SkipReason, changes_unavailable_at};
use relais_tree::{EntryInfo, Folder, MetaKind, TreeError};

use super::apply::FolderCache;
use relais_engine::refuse;

/// What lies at a path on the disk, and what the catalogue has there.
struct Found {
    survey: Option<EntryInfo>,
    row: Option<CatalogRow>,
    /// Why it is not served, if the catalogue leaves it out.
    skip: Option<SkipReason>,
}

/// Looks for obstacles.
pub struct Obstacles<'a> {
    root: &'a Folder,
    store: &'a CatalogStore,
    parents: FolderCache<'a>,
}

/// The inner result is the refusal.
type Looked<T> = Result<Result<T, Refusal>, CatalogError>;

fn being_changed(path: &TreePath) -> Refusal {
    changes_unavailable_at(path, "it is just being changed on the server; try again in a second")
}

/// Something that the catalogue does not have: for good, or only for now.
fn unknown(path: &TreePath, skip: Option<SkipReason>) -> Refusal {
    match skip {
        Some(skip) => Refusal::at(path, ErrorCode::NotServed, skip.text()),
        None => being_changed(path),
    }
}

/// A folder stays as long as it holds something that is not served: what is at this path.
fn keeps_folder(below: &TreePath, what: &str) -> Refusal {
    Refusal::at(
        below,
        ErrorCode::NotServed,
        format!("{what}; its folder cannot be removed before it has gone on the server"),
    )
}

fn not_served(path: &TreePath, what: &str) -> Refusal {
    Refusal::at(path, ErrorCode::NotServed, format!("{what} has that name"))
}

impl<'a> Obstacles<'a> {
    /// For changes that are made together: none of them moves a folder.
    #[must_use]
    pub fn new(root: &'a Folder, store: &'a CatalogStore) -> Self {
        Self { root, store, parents: FolderCache::new(root) }
    }

    /// What is in the way of a change; none where nothing is.
    ///
    /// # Errors
    /// That the catalogue cannot be read.
    pub fn of(&mut self, change: &Change) -> Result<Option<Refusal>, CatalogError> {
        let looked = match change {
            Change::Put { path, .. } | Change::MakeFolder { path, .. } => self.place(path),
            Change::SetMode { path, .. } => Ok(self.source(path)?.map(drop)),
            Change::Remove { path, recursive } => self.removal(path, *recursive),
            Change::Move { from, to } => match self.source(from)? {
                Ok(_) if from == to => Ok(Ok(())),
                Ok(_) => self.place(to),
                Err(refusal) => Ok(Err(refusal)),
            },
            Change::Withdraw { .. } => Ok(Ok(())),
        };
        Ok(looked?.err())
    }

    /// What is at `path`; nothing where the way there is missing, which the check of the change finds as well.
    fn look(&mut self, path: &TreePath) -> Looked<Found> {
        let (row, skip) = (self.store.row(path)?, self.store.skipped_at(path)?);
        let Some((parent, name)) = path.split_last() else {
            return Ok(Ok(Found { survey: None, row, skip: None }));
        };
        let survey =
            match self.parents.get(&parent).and_then(|parent| parent.survey(name.as_bytes())) {
                Ok(survey) => Some(survey),
                Err(TreeError::NotFound | TreeError::NotFolder) => None,
                Err(e) => return Ok(Err(refuse(path, &e))),
            };
        Ok(match &survey {
            Some(survey) if survey.mount_point => Err(not_served(path, "a mount point")),
            Some(survey) if survey.meta.kind == MetaKind::Link => {
                Err(not_served(path, "a symbolic link"))
            }
            Some(survey) if survey.meta.kind == MetaKind::Special => {
                Err(not_served(path, "a device, FIFO or socket"))
            }
            _ => Ok(Found { survey, row, skip }),
        })
    }

    /// A path that something new gets.
    fn place(&mut self, path: &TreePath) -> Looked<()> {
        Ok(self.look(path)?.and_then(|found| match (&found.survey, &found.row) {
            (None, _) => Ok(()),
            (Some(survey), Some(row)) => known(path, survey, row),
            (Some(survey), None) if survey.meta.kind == MetaKind::Folder => {
                Err(Refusal::at(path, ErrorCode::Exists, "a folder has that name"))
            }
            (Some(_), None) => Err(unknown(path, found.skip)),
        }))
    }

    /// A path that is taken away.
    fn source(&mut self, path: &TreePath) -> Looked<Found> {
        Ok(self.look(path)?.and_then(|found| match (&found.survey, &found.row) {
            (Some(survey), Some(row)) => known(path, survey, row).map(|()| found),
            (Some(_), None) => Err(unknown(path, found.skip)),
            (None, Some(_)) => Err(being_changed(path)),
            (None, None) => Ok(found),
        }))
    }

    /// Whether the catalogue has all that lies below a folder, exactly as it is.
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
                let row = self.store.row(&below)?;
                let Some(row) = row.filter(|row| known(&below, &survey, row).is_ok()) else {
                    return Ok(Err(match self.store.skipped_at(&below)? {
                        Some(skip) => keeps_folder(&below, skip.text()),
                        None => unknown_below(&below),
                    }));
                };
                if row.entry.kind == Kind::Folder {
                    open.push(below);
                }
            }
        }
        Ok(Ok(()))
    }

    fn removal(&mut self, path: &TreePath, recursive: bool) -> Looked<()> {
        let found = match self.source(path)? {
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
                    // A name that is no text has no path; it is shown below the folder that shall go.
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
        // The catalogue may not know yet what somebody has just put there.
        let first = self.parents.get(path).and_then(|folder| folder.list()?.next().transpose());
        Ok(match first {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(Refusal::at(path, ErrorCode::NotEmpty, "the folder is not empty")),
            Err(e) => Err(refuse(path, &e)),
        })
    }
}

/// What the catalogue does not have would go with the rest, and nobody would know that it was ever there.
fn unknown_below(path: &TreePath) -> Refusal {
    changes_unavailable_at(
        path,
        "it was put there on the server and is not published yet, which takes a second, and with --watch off until the next start",
    )
}

/// Whether what is on the disk is what the catalogue has.
fn known(path: &TreePath, survey: &EntryInfo, row: &CatalogRow) -> Result<(), Refusal> {
    let same = match row.entry.kind {
        Kind::File => row.matches(&survey.meta),
        Kind::Folder => survey.meta.kind == MetaKind::Folder,
    };
    if same { Ok(()) } else { Err(being_changed(path)) }
}
