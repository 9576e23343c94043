//! What lies in the folder and is not part of the tree: put where nobody is served from, and never destroyed.
//!
//! `.relais/conflicts` has a folder for each thing that was set aside, named by the time; in it the thing
//! under its own name, and beside it a text that says where it was and why it is here.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use log::warn;
use relais_proto::TreePath;
use relais_tree::{Folder, MetaKind, TreeError};

use crate::catalogue::FOLDER;

/// Name of the folder in the slave's own.
const CONFLICTS: &str = "conflicts";
/// Name of the text beside what was set aside; a thing of that name lies in a folder of its own below.
const WHY: &str = "why.txt";

/// The folder of what was set aside.
#[derive(Debug)]
pub struct Aside {
    root: Folder,
    folder: Folder,
    taken: u64,
}

impl Aside {
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
        Ok(Self { root: root.try_clone()?, folder: own.sub(CONFLICTS)?, taken: 0 })
    }

    /// How many were set aside since the last time this was asked.
    pub fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.taken)
    }

    /// Sets aside what has this path, whatever it is; false where nothing is there.
    ///
    /// # Errors
    /// Those of the folder; a mount point cannot be moved.
    pub fn take(&mut self, path: &TreePath, why: &str) -> Result<bool, TreeError> {
        let Some((parent, name)) = path.split_last() else { return Ok(false) };
        let parent = match self.root.open_folder(&parent) {
            Ok(parent) => parent,
            Err(TreeError::NotFound | TreeError::NotFolder) => return Ok(false),
            Err(e) => return Err(e),
        };
        self.take_from(&parent, name, path.as_str(), why)
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
        why: &str,
    ) -> Result<bool, TreeError> {
        if matches!(parent.stat_part(name.as_bytes()), Err(TreeError::NotFound)) {
            return Ok(false);
        }
        let place = self.place()?;
        parent.move_new(name, &place, name)?;
        parent.sync()?;
        place.sync()?;
        self.taken += 1;
        warn!("{path} is set aside in {FOLDER}/{CONFLICTS}: {why}");
        self.explain(&place, name, path, why);
        Ok(true)
    }

    /// A new folder of its own.
    fn place(&self) -> Result<Folder, TreeError> {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut n = self.taken;
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
    fn explain(&self, place: &Folder, name: &str, path: &str, why: &str) {
        if name == WHY {
            return;
        }
        let written = place.create_new(WHY).and_then(|mut file| {
            writeln!(file, "{path}\n{why}").map_err(|e| TreeError::Io("write the note", e))
        });
        if let Err(e) = written {
            warn!("no note was left beside {path}: {e}");
        }
    }

    /// Sets aside all below a folder that `belongs` does not know; folders themselves stay.
    ///
    /// # Errors
    /// Those of the folders, or of `belongs`.
    pub fn sift<E: From<TreeError>>(
        &mut self,
        top: &TreePath,
        why: &str,
        belongs: &mut dyn FnMut(&TreePath, &relais_tree::Meta) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut open = vec![top.clone()];
        while let Some(path) = open.pop() {
            let folder = match self.root.open_folder(&path) {
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
                let valid = std::str::from_utf8(&name).ok().and_then(|name| path.join(name).ok());
                match valid {
                    _ if survey.mount_point => {}
                    Some(below) if survey.meta.kind == MetaKind::Folder => open.push(below),
                    Some(below) if belongs(&below, &survey.meta)? => {}
                    _ => {
                        let shown =
                            format!("{path}/{}", String::from_utf8_lossy(&name).escape_debug());
                        self.take_bytes(&folder, &name, &shown, why)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_bytes(
        &mut self,
        folder: &Folder,
        name: &[u8],
        shown: &str,
        why: &str,
    ) -> Result<(), TreeError> {
        let os: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(name);
        let place = self.place()?;
        folder.move_new(os, &place, os)?;
        folder.sync()?;
        place.sync()?;
        self.taken += 1;
        warn!("{shown} is set aside in {FOLDER}/{CONFLICTS}: {why}");
        self.explain(&place, &String::from_utf8_lossy(name), shown, why);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aside() -> (tempfile::TempDir, Aside) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let aside = Aside::open(&Folder::open(dir.path()).unwrap()).unwrap();
        (dir, aside)
    }

    fn found(dir: &tempfile::TempDir) -> Vec<String> {
        let mut all = Vec::new();
        for place in std::fs::read_dir(dir.path().join(FOLDER).join(CONFLICTS)).unwrap() {
            all.extend(
                std::fs::read_dir(place.unwrap().path())
                    .unwrap()
                    .map(|e| e.unwrap().file_name().into_string().unwrap()),
            );
        }
        all.sort();
        all
    }

    #[test]
    fn things_keep_their_names_and_say_where_they_were() {
        let (dir, mut aside) = aside();
        std::fs::write(dir.path().join("f"), "one").unwrap();
        assert!(aside.take(&TreePath::new("f").unwrap(), "because").unwrap());
        assert!(!aside.take(&TreePath::new("f").unwrap(), "because").unwrap(), "it is gone");
        std::fs::write(dir.path().join("f"), "two").unwrap();
        aside.take(&TreePath::new("f").unwrap(), "again").unwrap();
        assert_eq!(
            (found(&dir), aside.take_count()),
            (["f", "f", WHY, WHY].map(str::to_owned).to_vec(), 2)
        );
    }

    #[test]
    fn only_what_does_not_belong_goes() {
        let (dir, mut aside) = aside();
        std::fs::create_dir_all(dir.path().join("d/e")).unwrap();
        for name in ["d/ours", "d/e/theirs", "d/e/ours"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("x", dir.path().join("d/link")).unwrap();
        let belongs = &mut |path: &TreePath, _: &relais_tree::Meta| {
            Ok::<_, TreeError>(path.last() == Some("ours"))
        };
        aside.sift(&TreePath::new("d").unwrap(), "left", belongs).unwrap();
        assert_eq!(found(&dir), ["link", "theirs", WHY, WHY]);
        assert!(dir.path().join("d/e/ours").exists() && dir.path().join("d/ours").exists());
    }
}
