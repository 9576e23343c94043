//! Quarantine for files that are not part of the tree. They are not served, and never deleted.
//!
//! `.relais/conflicts` has one folder for each quarantined file, named by the time. The file keeps
//! its own name there. A note beside it has the former path and the reason.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::metadata_folder::{FOLDER, open_or_create};
use jiff::Timestamp;
use log::warn;
use relais_proto::TreePath;
use relais_tree::{Folder, Meta, MetaKind, TreeError};

/// Name of the quarantine in the metadata folder.
const CONFLICTS: &str = "conflicts";
/// Name of the note. A quarantined file with this name gets no note.
const NOTE: &str = "why.txt";

/// A file or folder that a change has displaced.
pub struct Displaced<'a> {
    /// Path in the tree that it had.
    pub path: &'a TreePath,
    /// Folder in which it is now.
    pub folder: &'a Folder,
    /// Its name in that folder.
    pub name: &'a [u8],
    /// Its metadata.
    pub meta: &'a Meta,
    /// Whether the file itself was renamed, which changes its ctime. Otherwise a folder above it
    /// was.
    pub renamed: bool,
}

/// The quarantine folder.
#[derive(Debug)]
pub struct Quarantine {
    root: Folder,
    folder: Folder,
    count: u64,
}

impl Quarantine {
    /// Opens the folder, and creates it if it is missing.
    ///
    /// # Errors
    /// Returns the errors of the folder.
    pub fn open(root: &Folder) -> Result<Self, TreeError> {
        let folder = open_or_create(&root.sub(FOLDER)?, CONFLICTS)?;
        Ok(Self { root: root.try_clone()?, folder, count: 0 })
    }

    /// Returns the number of files that were quarantined since the last call.
    pub fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// Quarantines the entry at a path. Returns `false` if nothing is there. `details` are more
    /// lines
    /// for the note.
    ///
    /// # Errors
    /// Returns the errors of the folder. A mount point cannot be moved.
    pub fn take(
        &mut self,
        path: &TreePath,
        reason: &str,
        details: &str,
    ) -> Result<bool, TreeError> {
        let Some((parent, name)) = path.split_last() else { return Ok(false) };
        let parent = match self.root.open_folder(&parent) {
            Ok(parent) => parent,
            Err(TreeError::NotFound | TreeError::NotFolder) => return Ok(false),
            Err(e) => return Err(e),
        };
        self.take_from(&parent, name, path.as_str(), reason, details)
    }

    /// Same as [`Self::take`], for a name in an open folder. `path` is for messages.
    ///
    /// # Errors
    /// Returns the errors of the folder.
    pub fn take_from(
        &mut self,
        parent: &Folder,
        name: &str,
        path: &str,
        reason: &str,
        details: &str,
    ) -> Result<bool, TreeError> {
        if matches!(parent.stat_part(name.as_bytes()), Err(TreeError::NotFound)) {
            return Ok(false);
        }
        self.move_here(parent, name, name, path, reason, details)??;
        Ok(true)
    }

    /// Quarantines an entry that has left its path, and lies as `name` in the metadata folder.
    ///
    /// # Errors
    /// Returns the errors of the folder. The entry then stays where it is.
    pub fn take_removed(
        &mut self,
        from: &Folder,
        name: &str,
        path: &TreePath,
        reason: &str,
    ) -> Result<(), TreeError> {
        let own = path.last().unwrap_or(name);
        if let Err(e) = self.move_here(from, name, own, path.as_str(), reason, "")? {
            warn!("cannot sync the quarantine; a power cut may lose the file: {e}");
        }
        Ok(())
    }

    /// Moves an entry to a new folder of the quarantine, and writes its note. The inner result is
    /// that of the sync.
    fn move_here(
        &mut self,
        from: &Folder,
        name: impl AsRef<OsStr>,
        own: impl AsRef<OsStr>,
        path: &str,
        reason: &str,
        details: &str,
    ) -> Result<Result<(), TreeError>, TreeError> {
        let (target, own) = (self.new_folder()?, own.as_ref());
        from.take_out(name, &target, own)?;
        let synced = target.sync().and_then(|()| from.sync());
        self.count += 1;
        warn!("{path} was quarantined in {FOLDER}/{CONFLICTS}: {reason}");
        if own != NOTE {
            write_note(&target, path, reason, details);
        }
        Ok(synced)
    }

    /// Creates a folder for one entry.
    fn new_folder(&self) -> Result<Folder, TreeError> {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut n = self.count;
        loop {
            let name = format!("{ms}-{n}");
            match self.folder.make_folder(&name, true) {
                Ok(()) => {
                    self.folder.sync()?;
                    return self.folder.sub(&name);
                }
                Err(TreeError::Taken) => n += 1,
                Err(e) => return Err(e),
            }
        }
    }

    /// Quarantines all entries below `folder` that `belongs` does not know. Folders stay.
    ///
    /// `top` is the former path of `folder`. Returns whether any entry was quarantined.
    ///
    /// # Errors
    /// Returns the errors of the folders and of `belongs`.
    pub fn take_unknown<E: From<TreeError>>(
        &mut self,
        top: &TreePath,
        folder: &Folder,
        reason: &str,
        belongs: &mut (dyn FnMut(&Displaced<'_>) -> Result<bool, E> + '_),
    ) -> Result<bool, E> {
        let before = self.count;
        let mut open = vec![(top.clone(), TreePath::root())];
        while let Some((path, at)) = open.pop() {
            let folder = match folder.open_folder(&at) {
                Ok(folder) => folder,
                Err(TreeError::NotFound | TreeError::NotFolder) => continue,
                Err(e) => return Err(e.into()),
            };
            let names: Vec<Vec<u8>> = folder
                .list()?
                .map(|listed| listed.map(|listed| listed.name().to_vec()))
                .collect::<Result<_, _>>()?;
            for name in names {
                let survey = match folder.survey(&name) {
                    Ok(survey) => survey,
                    Err(TreeError::NotFound) => continue,
                    Err(e) => return Err(e.into()),
                };
                let valid = path.join_bytes(&name).zip(at.join_bytes(&name));
                let left = |path| Displaced {
                    path,
                    folder: &folder,
                    name: &name,
                    meta: &survey.meta,
                    renamed: false,
                };
                match valid {
                    _ if survey.mount_point => {}
                    Some(below) if survey.meta.kind == MetaKind::Folder => open.push(below),
                    Some((below, _)) if belongs(&left(&below))? => {}
                    _ => {
                        let shown =
                            format!("{path}/{}", String::from_utf8_lossy(&name).escape_debug());
                        let name = OsStr::from_bytes(&name);
                        self.move_here(&folder, name, name, &shown, reason, "")??;
                    }
                }
            }
        }
        Ok(self.count > before)
    }
}

/// Writes the note. An error is only logged, because the entry itself is safe.
fn write_note(target: &Folder, path: &str, reason: &str, details: &str) {
    let written = target.create_new(NOTE).and_then(|mut file| {
        writeln!(file, "{path}\n{reason}\ntime: {}{details}", Timestamp::now())
            .map_err(|e| TreeError::Io("write the note", e))
    });
    if let Err(e) = written {
        warn!("cannot write the note for {path}: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantine() -> (tempfile::TempDir, Quarantine) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let quarantine = Quarantine::open(&Folder::open(dir.path()).unwrap()).unwrap();
        (dir, quarantine)
    }

    fn found(dir: &tempfile::TempDir) -> Vec<String> {
        let mut all = Vec::new();
        for target in std::fs::read_dir(dir.path().join(FOLDER).join(CONFLICTS)).unwrap() {
            all.extend(
                std::fs::read_dir(target.unwrap().path())
                    .unwrap()
                    .map(|e| e.unwrap().file_name().into_string().unwrap()),
            );
        }
        all.sort();
        all
    }

    #[test]
    fn quarantined_file_keeps_its_name_and_gets_a_note() {
        let (dir, mut quarantine) = quarantine();
        std::fs::write(dir.path().join("f"), "one").unwrap();
        assert!(quarantine.take(&TreePath::new("f").unwrap(), "because", "").unwrap());
        assert!(
            !quarantine.take(&TreePath::new("f").unwrap(), "because", "").unwrap(),
            "it is gone"
        );
        std::fs::write(dir.path().join("f"), "two").unwrap();
        quarantine.take(&TreePath::new("f").unwrap(), "again", "").unwrap();
        assert_eq!(
            (found(&dir), quarantine.take_count()),
            (["f", "f", NOTE, NOTE].map(str::to_owned).to_vec(), 2)
        );
    }

    #[test]
    fn only_unknown_files_are_quarantined() {
        let (dir, mut quarantine) = quarantine();
        std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
        for name in ["d/ours", "d/e/theirs", "d/e/ours"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("x", dir.path().join("d/link")).unwrap();
        let belongs = &mut |displaced: &Displaced<'_>| {
            assert!(displaced.path.as_str().starts_with("d/"), "{}", displaced.path);
            Ok::<_, TreeError>(displaced.name == b"ours")
        };
        let folder = Folder::open(&dir.path().join("d")).unwrap();
        quarantine.take_unknown(&TreePath::new("d").unwrap(), &folder, "left", belongs).unwrap();
        assert_eq!(found(&dir), ["link", "theirs", NOTE, NOTE]);
        assert!(dir.path().join("d/e/ours").exists() && dir.path().join("d/ours").exists());
    }
}
