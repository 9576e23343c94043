//! The accounts' generation, kept in the folder: whoever was removed before a restart is removed, also while the master is away.

use std::io;
use std::path::{Path, PathBuf};

use log::warn;

use crate::catalogue::FOLDER;

/// Where it lies. Several slaves of one folder write what the same master has told them.
#[derive(Debug, Clone)]
pub struct GenerationFile {
    path: PathBuf,
    /// What was read or written last.
    known: u64,
}

impl GenerationFile {
    /// Reads what was noted; 0 where nothing was.
    ///
    /// # Errors
    /// Those of reading, and where it is no number: then nobody knows who was removed.
    pub fn open(root: &Path) -> io::Result<Self> {
        let path = root.join(FOLDER).join("generation");
        let known = match std::fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| io::Error::other(format!("{} holds no number", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Self { path, known })
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
        match relais_state::replace_file(&self.path, format!("{generation}\n").as_bytes()) {
            Ok(()) => self.known = generation,
            Err(e) => {
                warn!("the accounts' generation cannot be noted in {}: {e}", self.path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_known_again() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join(FOLDER)).unwrap();
        let mut file = GenerationFile::open(temp.path()).unwrap();
        assert_eq!(file.known(), 0);
        for generation in [7, u64::MAX, 3] {
            file.note(generation);
            assert_eq!(GenerationFile::open(temp.path()).unwrap().known(), generation);
        }
        std::fs::write(temp.path().join(FOLDER).join("generation"), "x").unwrap();
        assert!(GenerationFile::open(temp.path()).is_err());
    }
}
