//! Local names: the folder of `-d`, the folder of `lcd`, and how names are resolved.
//!
//! The process never changes its own current folder. Names in messages therefore stay short and
//! correct, and the `.log` stays where it was opened. Nothing here writes.

use std::path::{Component, Path, PathBuf};

use relais_proto::ErrorCode;

use crate::{Failure, Result};

/// The default local folder, if the current folder contains it.
pub const DEFAULT_FOLDER: &str = "_CLIENTROOT";

/// The name of a target that is a folder itself, also in the `.log`.
const FOLDER_ITSELF: &str = ".";

/// The local folders of a session.
#[derive(Debug)]
pub struct LocalFolders {
    /// The folder of `-d`, as the user named it; empty for the current folder.
    pub home: PathBuf,
    /// The folder against which relative names are resolved.
    current: PathBuf,
}

/// The local side of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTarget {
    /// The folder; empty for the current one.
    pub folder: PathBuf,
    /// The name in the folder, or [`FOLDER_ITSELF`].
    pub name: String,
}

impl LocalTarget {
    /// Splits a path into folder and name; returns none if it does not end in a UTF-8 name.
    pub fn of(path: &Path) -> Option<Self> {
        match (path.components().next_back(), path.parent()) {
            (Some(Component::Normal(name)), Some(folder)) => {
                Some(Self { folder: folder.to_path_buf(), name: name.to_str()?.to_owned() })
            }
            _ => None,
        }
    }

    /// Returns the target whose content is that of `folder` itself.
    pub fn folder_itself(folder: PathBuf) -> Self {
        Self { folder, name: FOLDER_ITSELF.to_owned() }
    }

    /// Whether the target is the folder, and no name in it.
    pub fn is_folder_itself(&self) -> bool {
        self.name == FOLDER_ITSELF
    }

    /// Returns the path of the target.
    pub fn path(&self) -> PathBuf {
        if self.is_folder_itself() { self.folder.clone() } else { self.folder.join(&self.name) }
    }

    /// Returns the local name for messages.
    pub fn shown(&self) -> String {
        self.path().display().to_string()
    }
}

impl LocalFolders {
    /// Starts in `folder`, else in [`DEFAULT_FOLDER`] or the current folder.
    ///
    /// # Errors
    /// The folder does not exist, which is a usage error.
    pub fn new(folder: Option<PathBuf>) -> Result<Self> {
        let home = match folder {
            Some(folder) => folder,
            None if Path::new(DEFAULT_FOLDER).is_dir() => PathBuf::from(DEFAULT_FOLDER),
            None => PathBuf::new(),
        };
        match std::fs::metadata(openable(&home)) {
            Ok(found) if found.is_dir() => Ok(Self { current: home.clone(), home }),
            Ok(_) => Err(failure!(Usage, "{} is not a folder", home.display())),
            Err(e) => Err(Failure { code: ErrorCode::Usage, ..Failure::local(&home, &e) }),
        }
    }

    /// Returns the folder of `-d` as a path that can be opened.
    pub fn home(&self) -> &Path {
        openable(&self.home)
    }

    /// Resolves a name against the current local folder.
    pub fn resolve(&self, name: &str) -> PathBuf {
        self.current.join(name)
    }

    /// Returns the absolute path of the current local folder.
    ///
    /// # Errors
    /// The folder no longer exists.
    pub fn current_dir(&self) -> Result<PathBuf> {
        openable(&self.current).canonicalize().map_err(|e| Failure::local(&self.current, &e))
    }

    /// Changes the local folder; without a name back to that of `-d`.
    ///
    /// # Errors
    /// The name is not a folder.
    pub fn change(&mut self, name: Option<&str>) -> Result<PathBuf> {
        let wanted = name.map_or_else(|| self.home.clone(), |name| self.resolve(name));
        let place = openable(&wanted).canonicalize().map_err(|e| Failure::local(&wanted, &e))?;
        if !place.is_dir() {
            fail!(Local, "{} is not a folder", wanted.display());
        }
        // In the folder of `-d`, names are shown as at the start.
        let at_home = self.home().canonicalize().is_ok_and(|home| home == place);
        self.current = if at_home { self.home.clone() } else { place.clone() };
        Ok(place)
    }

    /// Returns where a remote file called `remote_name` is stored.
    ///
    /// `into` is the user's choice. If it names a folder or ends in `/`, the file goes into that
    /// folder. With several files it must name a folder.
    ///
    /// # Errors
    /// The name cannot be used.
    pub fn target(
        &self,
        remote_name: &str,
        into: Option<&str>,
        several: bool,
    ) -> Result<LocalTarget> {
        let Some(into) = into else {
            return Ok(LocalTarget { folder: self.current.clone(), name: remote_name.to_owned() });
        };
        if into.is_empty() {
            fail!(Usage, "the local name is empty");
        }
        let folder = self.resolve(into);
        if folder.is_dir() {
            return Ok(LocalTarget { folder, name: remote_name.to_owned() });
        }
        if into.ends_with('/') {
            fail!(Local, "{into}: no such folder");
        }
        if several {
            fail!(Local, "{into} is not a folder, and several files need a folder");
        }
        self.exact_target(into).ok_or_else(|| failure!(Usage, "{into} is not a file name"))
    }

    /// Returns the target with exactly this name, even if a folder has it.
    ///
    /// Returns none if the name can only mean a folder.
    pub fn exact_target(&self, name: &str) -> Option<LocalTarget> {
        if name.ends_with('/') { None } else { LocalTarget::of(&self.resolve(name)) }
    }

    /// Returns a local name for the `.log`: relative to the folder of `-d` if possible, else
    /// absolute.
    ///
    /// # Errors
    /// The folder no longer exists.
    pub fn log_name(&self, target: &LocalTarget) -> Result<String> {
        let full =
            |path: &Path| openable(path).canonicalize().map_err(|e| Failure::local(path, &e));
        let (home, folder) = (full(&self.home)?, full(&target.folder)?);
        let folder = folder.strip_prefix(&home).unwrap_or(&folder);
        Ok(folder.join(&target.name).to_string_lossy().into_owned())
    }

    /// As [`Self::log_name`], for a file that is sent.
    ///
    /// If its folder no longer exists, the name stays as the user gave it.
    pub fn log_name_of(&self, path: &Path) -> String {
        LocalTarget::of(path)
            .and_then(|target| self.log_name(&target).ok())
            .unwrap_or_else(|| path.display().to_string())
    }
}

/// Returns the path to open for a name: the empty name is the current folder.
pub fn openable(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> (tempfile::TempDir, LocalFolders) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(dir.path().join("file"), "x").unwrap();
        let local = LocalFolders::new(Some(dir.path().to_path_buf())).unwrap();
        (dir, local)
    }

    #[test]
    fn missing_local_folder_is_a_usage_error() {
        let (dir, _) = local();
        for bad in ["none", "file"] {
            assert_eq!(LocalFolders::new(Some(dir.path().join(bad))).unwrap_err().status(), 2);
        }
    }

    #[test]
    fn local_targets_are_resolved() {
        let (dir, local) = local();
        let target = |into, several| {
            local.target("r", into, several).map(|t| (t.folder, t.name)).map_err(|e| e.code)
        };
        let (home, sub) = (dir.path().to_path_buf(), dir.path().join("sub"));
        assert_eq!(target(None, true), Ok((home.clone(), "r".into())));
        assert_eq!(target(Some("new"), false), Ok((home.clone(), "new".into())));
        assert_eq!(target(Some("sub"), true), Ok((sub.clone(), "r".into())));
        assert_eq!(target(Some("sub/"), false).unwrap().1, "r");
        assert_eq!(target(Some("sub/n"), false), Ok((sub, "n".into())));
        assert_eq!(target(Some("none/"), false), Err(ErrorCode::Local));
        assert_eq!(target(Some("new"), true), Err(ErrorCode::Local));
        assert_eq!(target(Some(""), false), Err(ErrorCode::Usage));
        assert_eq!(target(Some("sub/.."), false).unwrap().1, "r");
    }

    #[test]
    fn lcd_changes_the_folder_and_returns() {
        let (dir, mut local) = local();
        let home = dir.path().canonicalize().unwrap();
        assert_eq!(local.change(Some("sub")).unwrap(), home.join("sub"));
        assert_eq!(local.resolve("a"), home.join("sub/a"));
        assert!(local.change(Some("none")).is_err() && local.change(Some("../file")).is_err());
        assert_eq!(local.current_dir().unwrap(), home.join("sub"));
        assert_eq!(local.change(None).unwrap(), home);
        assert_eq!(local.resolve("a"), dir.path().join("a"));
    }

    #[test]
    fn log_names_are_relative_if_possible() {
        let (dir, local) = local();
        let log_name = |folder: &Path| {
            local.log_name(&LocalTarget { folder: folder.to_path_buf(), name: "n".into() }).unwrap()
        };
        assert_eq!(log_name(dir.path()), "n");
        assert_eq!(log_name(&dir.path().join("sub/../sub")), "sub/n");
        assert!(log_name(Path::new("/")).starts_with('/'));
    }

    #[test]
    fn sent_file_is_logged_under_the_users_name() {
        let (dir, local) = local();
        std::os::unix::fs::symlink("file", dir.path().join("link")).unwrap();
        assert_eq!(local.log_name_of(&dir.path().join("sub/../link")), "link");
        assert_eq!(local.log_name_of(Path::new("/etc/hosts")), "/etc/hosts");
        assert_eq!(local.log_name_of(Path::new("/none/such/x")), "/none/such/x");
    }
}
