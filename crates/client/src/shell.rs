//! The state that commands work on: the session, the current folders, and what the user has chosen.

use log::debug;
use relais_proto::{ErrorCode, Kind, TreePath};

use crate::interrupt::Interrupt;
use crate::local::LocalFolders;
use crate::nearest::suggest_names;
use crate::notices::Notices;
use crate::origin::Origin;
use crate::output::Output;
use crate::session::Session;
use crate::transfer_log::TransferEntry;
use crate::{Failure, Result};

/// The state that all commands share.
pub struct Shell {
    /// Session with the current server.
    pub session: Session,
    /// Standard output.
    pub output: Output,
    /// Local folders.
    pub local: LocalFolders,
    /// Current remote folder.
    pub cwd: TreePath,
    /// Whether unfinished transfers are resumed.
    pub resume: bool,
    /// Number of disks that must hold a stored file; 0 for the cluster's setting.
    pub copies: u16,
    /// Whether standard input holds commands, and so cannot hold a file.
    pub input_is_commands: bool,
    /// State of Ctrl-C.
    pub interrupt: Interrupt,
    /// Standard error.
    pub notices: Notices,
}

impl Shell {
    /// Resolves a remote name against the current remote folder.
    ///
    /// # Errors
    /// The name breaks the rules, or is above the root.
    pub fn resolve_remote(&self, name: &str) -> Result<TreePath> {
        resolve(&self.cwd, name)
    }

    /// Adds the path to a server's failure, and suggestions if nothing has that name.
    pub fn explain(&mut self, path: &TreePath, failure: Failure) -> Failure {
        if failure.code != ErrorCode::NotFound || path.is_root() {
            return with_path(path, failure);
        }
        let missing = failure!(NotFound, "{path} does not exist");
        match suggest_names(&mut self.session, path) {
            Ok(names) => missing.and(&names),
            Err(other) if other.code == ErrorCode::Interrupted => other,
            Err(other) => {
                debug!("nothing to suggest for {path}: {other}");
                missing
            }
        }
    }

    /// Whether a remote path is a folder.
    ///
    /// # Errors
    /// Nothing has that path, or no server answers.
    pub fn is_folder(&mut self, path: &TreePath) -> Result<bool> {
        let details = self.session.stat(path).map_err(|failure| self.explain(path, failure))?;
        Ok(details.entry.kind == Kind::Folder)
    }

    /// Returns the servers that were connected last.
    ///
    /// # Errors
    /// No server was connected yet.
    pub fn origin(&self) -> Result<Origin> {
        self.session.origin.clone().ok_or_else(|| failure!(Unreachable, "no server is connected"))
    }

    /// Computes the signature of an entry of this folder's `.log`; none without saved state.
    pub fn sign(&self, entry: &TransferEntry) -> Option<String> {
        let saved = self.session.saved.as_ref()?;
        let home = self.local.home().canonicalize().map_err(|e| e.to_string());
        let signed = home.and_then(|home| Ok(entry.signature(&saved.log_key()?, &home)));
        signed.inspect_err(|why| debug!("an entry of the .log is not signed: {why}")).ok()
    }

    /// As [`Self::origin`], and connects first if needed.
    ///
    /// # Errors
    /// No server can be reached, or it refuses.
    pub fn connected(&mut self) -> Result<Origin> {
        self.session.connect()?;
        self.origin()
    }
}

/// Adds the path to a server's failure, unless the message contains it.
pub fn with_path(path: &TreePath, failure: Failure) -> Failure {
    let about_path =
        !matches!(failure.code, ErrorCode::Interrupted | ErrorCode::Unreachable | ErrorCode::Local);
    if about_path && !failure.message.contains(&path.to_string()) {
        failure.of(&path.to_string())
    } else {
        failure
    }
}

/// Resolves `text` in `folder`.
///
/// A leading `/` starts at the root. Repeated and trailing slashes are ignored.
///
/// # Errors
/// The name is empty, above the root, or breaks the rules for names.
fn resolve(folder: &TreePath, text: &str) -> Result<TreePath> {
    if text.is_empty() {
        fail!(BadName, "the name is empty");
    }
    let mut path = if text.starts_with('/') { TreePath::root() } else { folder.clone() };
    for part in text.split('/') {
        path = match part {
            "" | "." => path,
            ".." => match path.split_last() {
                Some((parent, _)) => parent,
                None => {
                    fail!(BadName, "{text} is above the root");
                }
            },
            name => path.join(name).map_err(|e| Failure::from(e).of(text))?,
        };
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(folder: &str, text: &str) -> Result<String, String> {
        resolve(&TreePath::new(folder).unwrap(), text).map(|p| p.to_string()).map_err(|e| e.message)
    }

    #[test]
    fn names_are_resolved_against_the_folder() {
        for (folder, text, path) in [
            ("", "a", "/a"),
            ("a/b", "c", "/a/b/c"),
            ("a/b", "/c", "/c"),
            ("a/b", "..", "/a"),
            ("a/b", "../../c", "/c"),
            ("a/b", "./.././b//x/", "/a/b/x"),
            ("", "/", "/"),
            ("a", ".", "/a"),
            ("a", "...", "/a/..."),
            ("", "-r", "/-r"),
        ] {
            assert_eq!(at(folder, text).unwrap(), path, "{text} in {folder}");
        }
    }

    #[test]
    fn names_above_the_root_are_errors() {
        for (folder, text) in [("", ".."), ("a", "../.."), ("a/b", "/../c"), ("", "x/../../x")] {
            assert!(at(folder, text).unwrap_err().contains("above the root"), "{text}");
        }
    }

    #[test]
    fn names_that_break_the_rules_are_refused() {
        for text in ["", "a\nb", ".relais/x", &"x".repeat(256)] {
            assert!(at("", text).is_err(), "{text:?}");
        }
    }
}
