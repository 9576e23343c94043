//! The history file: `client-history` in the user's state folder.
//!
//! Only the user can read the file. Without a home folder no history is saved.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use log::debug;
use rustyline::history::FileHistory;
use rustyline::{Editor, Helper};

use crate::saved_state::StateFolder;

/// Path of the history file; none without a home folder.
pub struct HistoryFile(Option<PathBuf>);

impl HistoryFile {
    /// Loads the history file into the editor.
    pub fn open<H: Helper>(editor: &mut Editor<H, FileHistory>) -> Self {
        let Some(path) = StateFolder::for_user().map(|folder| folder.sibling("client-history"))
        else {
            return Self(None);
        };
        if let Err(e) = prepare(&path) {
            debug!("the history file {} cannot be used: {e}", path.display());
            return Self(None);
        }
        if let Err(e) = editor.load_history(&path) {
            debug!("the history in {} is not read: {e}", path.display());
        }
        Self(Some(path))
    }

    /// Saves a line.
    pub fn add<H: Helper>(&self, editor: &mut Editor<H, FileHistory>, line: &str) {
        let added = editor.add_history_entry(line);
        let kept = self.0.as_ref().map_or(Ok(()), |path| editor.append_history(path));
        if let Err(e) = added.and(kept) {
            debug!("a line is not saved to the history: {e}");
        }
    }
}

/// Creates folder and file if needed, for this user only.
fn prepare(path: &std::path::Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/client-history");
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
