//! The file with the lines of earlier prompts: `client-history` in the user's state folder,
//! readable by the user alone. Without a place for it nothing is kept.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use log::debug;
use rustyline::history::FileHistory;
use rustyline::{Editor, Helper};

/// Where lines are kept; none where there is no place.
pub struct HistoryFile(Option<PathBuf>);

impl HistoryFile {
    /// Reads what was kept before into the editor.
    pub fn open<H: Helper>(editor: &mut Editor<H, FileHistory>) -> Self {
        let Some(path) = place(&|name| std::env::var_os(name).map(PathBuf::from)) else {
            return Self(None);
        };
        if let Err(e) = prepare(&path) {
            debug!("no history in {}: {e}", path.display());
            return Self(None);
        }
        if let Err(e) = editor.load_history(&path) {
            debug!("the history in {} is not read: {e}", path.display());
        }
        Self(Some(path))
    }

    /// Keeps a line.
    pub fn add<H: Helper>(&self, editor: &mut Editor<H, FileHistory>, line: &str) {
        let added = editor.add_history_entry(line);
        let kept = self.0.as_ref().map_or(Ok(()), |path| editor.append_history(path));
        if let Err(e) = added.and(kept) {
            debug!("a line is not kept: {e}");
        }
    }
}

/// `$XDG_STATE_HOME/relais/client-history`, or the same below `~/.local/state`.
fn place(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("relais/client-history"))
}

/// Makes folder and file where they are missing, for the user alone.
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
    fn the_place_follows_the_environment() {
        let at = |state: &str, home: &str| {
            place(&|name| match name {
                "XDG_STATE_HOME" => Some(state.into()),
                "HOME" => Some(home.into()),
                _ => None,
            })
        };
        assert_eq!(at("/s", "/h"), Some("/s/relais/client-history".into()));
        assert_eq!(at("", "/h"), Some("/h/.local/state/relais/client-history".into()));
        assert_eq!(at("relative", "relative"), None);
    }

    #[test]
    fn the_file_is_for_the_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/client-history");
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
