//! The generation of the accounts, kept in the folder.
//!
//! After a restart the slave still rejects tickets of removed users, even while it has no link to
//! its master.

use std::io::{self, Read};

use log::warn;
use relais_storage::MetadataFolder;
use relais_tree::TreeError;

/// Name of the file in the slave's own folder.
const FILE: &str = "generation";
/// Most bytes that are read of the file.
const MAX_FILE_LEN: u64 = 64;

/// The file that keeps the generation.
///
/// Several slaves of one folder may write it; all write what the same master has sent.
#[derive(Debug, Clone)]
pub struct GenerationFile {
    own: MetadataFolder,
    /// The generation that was last read or written.
    pub known: u64,
}

impl GenerationFile {
    /// Reads the file; the generation is 0 if there is none.
    ///
    /// # Errors
    /// Those of reading, and a file without a number: removed users could not be told from others.
    pub fn open(own: &MetadataFolder) -> io::Result<Self> {
        let known = match own.folder().open_read(FILE) {
            Ok(opened) => {
                let mut text = String::new();
                opened.file.take(MAX_FILE_LEN).read_to_string(&mut text)?;
                let shown = || relais_os::display_path(&own.path(FILE));
                text.trim().parse().map_err(|_| {
                    io::Error::other(format!("{} contains no number", shown().display()))
                })?
            }
            Err(TreeError::NotFound) => 0,
            Err(e) => return Err(io::Error::other(e)),
        };
        Ok(Self { own: own.clone(), known })
    }

    /// Writes another generation. A failure is logged.
    pub fn write(&mut self, generation: u64) {
        if generation == self.known {
            return;
        }
        let path = self.own.path(FILE);
        match relais_os::write_atomically(&path, format!("{generation}\n").as_bytes()) {
            Ok(()) => self.known = generation,
            Err(e) => warn!(
                "cannot write the accounts' generation to {}: {e}",
                relais_os::display_path(&path).display()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use relais_tree::Folder;

    use super::*;
    use relais_storage::FOLDER;

    #[test]
    fn generation_survives_reopening() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path().join(FOLDER).join(FILE);
        std::fs::create_dir(temp.path().join(FOLDER)).unwrap();
        let own = MetadataFolder::open(&Folder::open(temp.path()).unwrap()).unwrap();
        let mut file = GenerationFile::open(&own).unwrap();
        assert_eq!(file.known, 0);
        for generation in [7, u64::MAX, 3] {
            file.write(generation);
            assert_eq!(GenerationFile::open(&own).unwrap().known, generation);
        }
        std::fs::write(&at, "x").unwrap();
        assert!(GenerationFile::open(&own).is_err());
        std::fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &at).unwrap();
        assert!(GenerationFile::open(&own).is_err(), "a link is not followed");
    }
}
