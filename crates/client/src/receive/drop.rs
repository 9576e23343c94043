//! Dropping unfinished transfers: their entries in the `.log` and their part files.
//!
//! Only files with the names of part files are removed, and none that another client uses.

use std::path::Path;

use log::debug;
use relais_proto::TreePath;
use relais_tree::{Folder, MetaKind, TreeError};

use super::local_failure;
use crate::Result;
use crate::local::openable;
use crate::shell::Shell;
use crate::transfer_log::{
    TransferEntry, TransferTask, forget_entries, is_part, lock_name, part_name,
};

impl Shell {
    /// Drops unfinished transfers and returns those that were dropped.
    ///
    /// A transfer that another client works on is reported and kept.
    ///
    /// # Errors
    /// The `.log` cannot be written, or a part file cannot be removed. Transfers dropped before
    /// that stay dropped.
    pub fn drop_transfers(&mut self, entries: Vec<TransferEntry>) -> Result<Vec<TransferEntry>> {
        let mut dropped = Vec::new();
        for entry in entries {
            match self.drop_parts(&entry) {
                Ok(()) => dropped.push(entry),
                Err(TreeError::InUse) => self.notices.say(&format!(
                    "{}: another ftpclient is transferring it; not dropped",
                    entry.local
                )),
                Err(e) => {
                    forget_entries(self.local.home(), &dropped)?;
                    return Err(local_failure(&entry.local, &e));
                }
            }
        }
        forget_entries(self.local.home(), &dropped)?;
        Ok(dropped)
    }

    /// Removes the part files of one transfer; [`TreeError::InUse`] if another client uses them.
    fn drop_parts(&self, entry: &TransferEntry) -> Result<(), TreeError> {
        let home = Folder::open(self.local.home())?;
        match &entry.task {
            TransferTask::Put(_) => {
                remove_part(&home, &lock_name(&entry.remote, &entry.local, &entry.origin))
            }
            TransferTask::PutTree => Ok(()),
            TransferTask::Get(_) => {
                let (folder, name) = split(&entry.local);
                match Folder::open(openable(&self.local.home_display().join(folder))) {
                    Ok(folder) => remove_part(&folder, &part_name(name)),
                    Err(TreeError::NotFound | TreeError::NotFolder) => Ok(()),
                    Err(e) => Err(e),
                }
            }
            // The line is untrusted, so the search does not leave the local folder.
            TransferTask::GetTree => match self.folder_of_line(&entry.local) {
                Ok(top) => remove_parts_below(&top),
                Err(TreeError::NotFound | TreeError::NotFolder) => Ok(()),
                Err(why) => {
                    self.notices.say(&format!("{}: its part files may remain: {why}", entry.local));
                    Ok(())
                }
            },
        }
    }
}

/// Splits a logged name into folder and name.
fn split(log_name: &str) -> (&Path, &str) {
    log_name.rsplit_once('/').map_or((Path::new(""), log_name), |(folder, name)| {
        (Path::new(if folder.is_empty() { "/" } else { folder }), name)
    })
}

/// Removes a part file or a lock file, if it exists.
fn remove_part(folder: &Folder, name: &str) -> Result<(), TreeError> {
    match folder.open_part_locked(name) {
        // The lock is held until the name is gone.
        Ok(_held) => folder.unlink(name),
        Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes all part files below a folder, without following links.
fn remove_parts_below(top: &Folder) -> Result<(), TreeError> {
    let mut left = vec![TreePath::root()];
    while let Some(path) = left.pop() {
        let opened = if path.is_root() { top.try_clone() } else { top.open_folder(&path) };
        let folder = match opened {
            Ok(folder) => folder,
            // The folder vanished or was replaced meanwhile.
            Err(e) => {
                debug!("{path} is skipped: {e}");
                continue;
            }
        };
        for listed in folder.list()? {
            let listed = listed?;
            let Ok(name) = std::str::from_utf8(listed.name()) else { continue };
            let kind = folder.stat_part(listed.name()).map(|meta| meta.kind);
            match kind {
                Ok(MetaKind::File) if is_part(name) => remove_part(&folder, name)?,
                Ok(MetaKind::Folder) => left.extend(path.join(name).ok()),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unused_part_files_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        let part = part_name("f");
        for name in ["d/f", "d/e/x.part", "d/e/.relais-x.part"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::fs::write(at("d/e").join(&part), "x").unwrap();
        std::fs::create_dir(at("outside")).unwrap();
        std::fs::write(at("outside").join(&part), "x").unwrap();
        std::os::unix::fs::symlink("../outside", at("d/link")).unwrap();
        let top = Folder::open(&at("d")).unwrap();
        let held = Folder::open(&at("d/e")).unwrap().open_part_locked(&part).unwrap();
        assert!(matches!(remove_parts_below(&top), Err(TreeError::InUse)));
        drop(held);
        remove_parts_below(&top).unwrap();
        assert!(!at("d/e").join(&part).exists() && at("outside").join(&part).exists());
        assert!(["d/f", "d/e/x.part", "d/e/.relais-x.part"].iter().all(|name| at(name).exists()));
        assert_eq!(split("a"), (Path::new(""), "a"));
        assert_eq!(split("/a"), (Path::new("/"), "a"));
        assert_eq!(split("a/b/c"), (Path::new("a/b"), "c"));
    }
}
