//! The accounts' generation, kept in the folder: whoever was removed before a restart is removed, also while the master is away.

use std::io::{self, Read};

use log::warn;
use relais_tree::TreeError;

use crate::catalogue::MetadataFolder;

/// Its name in the slave's own folder.
const FILE: &str = "generation";
/// Longest file that is read, in bytes.
const LONGEST: u64 = 64;

/// Where it lies. Several slaves of one folder write what the same master has told them.
#[derive(Debug, Clone)]
pub struct GenerationFile {
    own: MetadataFolder,
    /// What was read or written last.
    known: u64,
}

impl GenerationFile {
    /// Reads what was noted; 0 where nothing was.
    ///
    /// # Errors
    /// Those of reading, and where it is no number: then nobody knows who was removed.
    pub fn open(own: &MetadataFolder) -> io::Result<Self> {
        let known = match own.folder().open_read(FILE) {
            Ok(opened) => {
                let mut text = String::new();
                opened.file.take(LONGEST).read_to_string(&mut text)?;
                let shown = || relais_state::shown_path(&own.path(FILE));
                text.trim().parse().map_err(|_| {
                    io::Error::other(format!("{} holds no number", shown().display()))
                })?
            }
            Err(TreeError::NotFound) => 0,
            Err(e) => return Err(io::Error::other(e)),
        };
        Ok(Self { own: own.clone(), known })
    }

    /// The generation.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.known
    }

    /// Notes another one.
    pub fn note(&mut self, generation: u64) {
        if generation == self.known {
            return;
        }
        let path = self.own.path(FILE);
        match relais_state::replace_file(&path, format!("{generation}\n").as_bytes()) {
            Ok(()) => self.known = generation,
            Err(e) => warn!(
                "the accounts' generation cannot be noted in {}: {e}",
                relais_state::shown_path(&path).display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use relais_tree::Folder;

    use super::*;
    use crate::catalogue::FOLDER;

    #[test]
    fn what_is_noted_is_known_again() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path().join(FOLDER).join(FILE);
        std::fs::create_dir(temp.path().join(FOLDER)).unwrap();
        let own = MetadataFolder::open(&Folder::open(temp.path()).unwrap()).unwrap();
        let mut file = GenerationFile::open(&own).unwrap();
        assert_eq!(file.known(), 0);
        for generation in [7, u64::MAX, 3] {
            file.note(generation);
            assert_eq!(GenerationFile::open(&own).unwrap().known(), generation);
        }
        std::fs::write(&at, "x").unwrap();
        assert!(GenerationFile::open(&own).is_err());
        std::fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &at).unwrap();
        assert!(GenerationFile::open(&own).is_err(), "a link is not followed");
    }
}
