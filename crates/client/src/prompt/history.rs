//! The history file: `client-history` in the user's state folder.
//!
//! Only the user can read the file; the editor sees to that. Without a home folder no history is saved.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
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
        if let Some(folder) = path.parent()
            && let Err(e) = DirBuilder::new().recursive(true).mode(0o700).create(folder)
        {
            debug!("the folder {} cannot be made: {e}", folder.display());
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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn history_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client-history");
        let mut editor = Editor::<(), FileHistory>::new().unwrap();
        let history = HistoryFile(Some(path.clone()));
        history.add(&mut editor, "ls");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        history.add(&mut editor, "pwd");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
