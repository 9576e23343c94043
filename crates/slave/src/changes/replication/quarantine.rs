//! What lies in the folder and is not part of the tree: put where nobody is served from, and never destroyed.
//!
//! `.relais/conflicts` has a folder for each thing that was set quarantine, named by the time; in it the thing
//! under its own name, and beside it a text that says where it was and reason it is here.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use log::warn;
use relais_proto::TreePath;
use relais_tree::{Folder, MetaKind, TreeError};

use crate::catalogue::FOLDER;
use crate::changes::apply::Displaced;

/// Name of the folder in the slave's own.
const CONFLICTS: &str = "conflicts";
/// Name of the text beside what was set quarantine; a thing of that name lies in a folder of its own below.
const NOTE: &str = "why.txt";

/// The folder of what was set quarantine.
#[derive(Debug)]
pub struct Quarantine {
    root: Folder,
    folder: Folder,
    count: u64,
}

impl Quarantine {
    /// Opens it, made where it is missing.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn open(root: &Folder) -> Result<Self, TreeError> {
        let own = root.sub(FOLDER)?;
        match own.make_folder(CONFLICTS, true) {
            Ok(()) | Err(TreeError::Taken) => {}
            Err(e) => return Err(e),
        }
        Ok(Self { root: root.try_clone()?, folder: own.sub(CONFLICTS)?, count: 0 })
    }

    /// How many were set quarantine since the last time this was asked.
    pub fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }

    /// Sets quarantine what has this path, whatever it is; false where nothing is there.
    ///
    /// # Errors
    /// Those of the folder; a mount point cannot be moved.
    pub fn take(&mut self, path: &TreePath, reason: &str) -> Result<bool, TreeError> {
        self.take_with_details(path, reason, "")
    }

    /// As [`Self::take`]; `details` are further lines of the note.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_with_details(
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

    /// As [`Self::take`], of a name in an open folder; `path` is for people.
    ///
    /// # Errors
    /// Those of the folder.
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
        let target = self.new_folder()?;
        parent.take_out(name, &target, name)?;
        parent.sync()?;
        target.sync()?;
        self.count += 1;
        warn!("{path} is set aside in {FOLDER}/{CONFLICTS}: {reason}");
        self.write_note(&target, name, path, reason, details);
        Ok(true)
    }

    /// Sets quarantine what has left its path already, and lies as `name` in one of the slave's own folders.
    ///
    /// # Errors
    /// Those of the folder. It stays where it is then.
    pub fn take_removed(
        &mut self,
        from: &Folder,
        name: &str,
        path: &TreePath,
        reason: &str,
    ) -> Result<(), TreeError> {
        let own = path.last().unwrap_or(name);
        let target = self.new_folder()?;
        from.take_out(name, &target, own)?;
        if let Err(e) = target.sync().and_then(|()| from.sync()) {
            warn!("what was set quarantine may be lost in a power cut: {e}");
        }
        self.count += 1;
        warn!("{path} is set aside in {FOLDER}/{CONFLICTS}: {reason}");
        self.write_note(&target, own, path.as_str(), reason, "");
        Ok(())
    }

    /// A new folder of its own.
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

    /// Leaves a note. Without it the thing is still there.
    fn write_note(&self, target: &Folder, name: &str, path: &str, reason: &str, details: &str) {
        if name == NOTE {
            return;
        }
        let written = target.create_new(NOTE).and_then(|mut file| {
            writeln!(file, "{path}\n{reason}\ntime: {}{details}", Timestamp::now())
                .map_err(|e| TreeError::Io("write the note", e))
        });
        if let Err(e) = written {
            warn!("no note was left beside {path}: {e}");
        }
    }

    /// Sets quarantine all below `folder`, which had the path `top`, that `belongs` does not know; folders themselves stay.
    /// Whether there was anything.
    ///
    /// # Errors
    /// Those of the folders, or of `belongs`.
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
                let valid = std::str::from_utf8(&name)
                    .ok()
                    .and_then(|name| Some((path.join(name).ok()?, at.join(name).ok()?)));
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
                        self.take_bytes(&folder, &name, &shown, reason)?;
                    }
                }
            }
        }
        Ok(self.count > before)
    }

    fn take_bytes(
        &mut self,
        folder: &Folder,
        name: &[u8],
        shown: &str,
        reason: &str,
    ) -> Result<(), TreeError> {
        let os: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
        let target = self.new_folder()?;
        folder.take_out(os, &target, os)?;
        folder.sync()?;
        target.sync()?;
        self.count += 1;
        warn!("{shown} is set aside in {FOLDER}/{CONFLICTS}: {reason}");
        self.write_note(&target, &String::from_utf8_lossy(name), shown, reason, "");
        Ok(())
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
    fn things_keep_their_names_and_say_where_they_were() {
        let (dir, mut quarantine) = quarantine();
        std::fs::write(dir.path().join("f"), "one").unwrap();
        assert!(quarantine.take(&TreePath::new("f").unwrap(), "because").unwrap());
        assert!(!quarantine.take(&TreePath::new("f").unwrap(), "because").unwrap(), "it is gone");
        std::fs::write(dir.path().join("f"), "two").unwrap();
        quarantine.take(&TreePath::new("f").unwrap(), "again").unwrap();
        assert_eq!(
            (found(&dir), quarantine.take_count()),
            (["f", "f", NOTE, NOTE].map(str::to_owned).to_vec(), 2)
        );
    }

    #[test]
    fn only_what_does_not_belong_goes() {
        let (dir, mut quarantine) = quarantine();
        std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
        for name in ["d/ours", "d/e/theirs", "d/e/ours"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("x", dir.path().join("d/link")).unwrap();
        let belongs = &mut |left: &Displaced<'_>| {
            assert!(left.path.as_str().starts_with("d/"), "{}", left.path);
            Ok::<_, TreeError>(left.name == b"ours")
        };
        let folder = Folder::open(&dir.path().join("d")).unwrap();
        quarantine.take_unknown(&TreePath::new("d").unwrap(), &folder, "left", belongs).unwrap();
        assert_eq!(found(&dir), ["link", "theirs", NOTE, NOTE]);
        assert!(dir.path().join("d/e/ours").exists() && dir.path().join("d/ours").exists());
    }
}
