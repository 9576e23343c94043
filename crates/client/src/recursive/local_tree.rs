//! The local side of a recursive transfer: a pinned folder with all files below it.
//!
//! The user names the top folder. Every name below comes from a server or a listing, and is
//! resolved from the top's descriptor without following links. New content has a temporary name
//! until it is complete.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use relais_proto::{ContentHeader, Kind, TreePath};
use relais_tree::{Folder, Meta, MetaKind, OpenFile, TreeError, UnservedKind};

use crate::local::LocalTarget;
use crate::local_file::set_received;
use crate::transfer_log::part_name;

/// Attempts to read a small file that keeps changing.
const READ_ATTEMPTS: usize = 3;

/// A pinned top folder, and the folder below it that was used last.
pub struct LocalTree {
    pub top: Folder,
    /// Path of the top for messages; empty for the current folder.
    pub path: PathBuf,
    last: Option<(TreePath, Folder)>,
}

impl LocalTree {
    /// Creates the tree below `top`, with `path` as its path for messages.
    pub fn new(top: Folder, path: &Path) -> Self {
        Self { top, path: path.to_path_buf(), last: None }
    }

    /// Opens the tree at `top`, which lies in `parent`.
    ///
    /// # Errors
    /// The folder does not exist, or is a link.
    pub fn below(parent: Folder, top: &LocalTarget) -> Result<Self, TreeError> {
        let pinned = if top.is_folder_itself() { parent } else { parent.sub(&top.name)? };
        Ok(Self::new(pinned, &top.path()))
    }

    /// Returns the name of `path` for messages.
    pub fn shown(&self, path: &TreePath) -> String {
        self.path.join(path.as_str()).display().to_string()
    }

    /// Returns the local target of a file and its open folder.
    ///
    /// # Errors
    /// The folder cannot be reached without following a link.
    pub fn target(&mut self, path: &TreePath) -> Result<(LocalTarget, &Folder), TreeError> {
        let (parent, name) = split(path)?;
        let target = LocalTarget { folder: self.path.join(parent.as_str()), name: name.to_owned() };
        Ok((target, self.folder(&parent)?))
    }

    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// As [`Folder::open_folder`].
    pub fn folder(&mut self, path: &TreePath) -> Result<&Folder, TreeError> {
        if path.is_root() {
            return Ok(&self.top);
        }
        let last = match self.last.take() {
            Some(last) if last.0 == *path => last,
            _ => (path.clone(), self.top.open_folder(path)?),
        };
        Ok(&self.last.insert(last).1)
    }

    /// Makes a folder; an existing folder is a success.
    ///
    /// # Errors
    /// Something else has the name, or a system call fails.
    pub fn make(&mut self, path: &TreePath) -> Result<(), TreeError> {
        let (parent, name) = split(path)?;
        let folder = self.folder(&parent)?;
        match folder.make_folder(name, false) {
            Err(TreeError::Taken) => match folder.stat_part(name.as_bytes())?.kind {
                MetaKind::Folder => Ok(()),
                MetaKind::Link => Err(TreeError::NotServed(UnservedKind::Link)),
                MetaKind::File | MetaKind::Special => Err(TreeError::NotFolder),
            },
            other => other,
        }
    }

    /// Stores complete content under a name, and replaces a file of that name.
    ///
    /// The file is not synced, as with other downloads.
    ///
    /// # Errors
    /// The content cannot be written; the name is then unchanged.
    pub fn store(
        &mut self,
        path: &TreePath,
        header: &ContentHeader,
        bytes: &[u8],
    ) -> Result<(), TreeError> {
        let (parent, name) = split(path)?;
        let folder = self.folder(&parent)?;
        let temporary = temporary(name);
        let mut file = claim(folder, &temporary)?;
        let result = file
            .write_all(bytes)
            .map_err(|e| TreeError::Io("write", e))
            .and_then(|()| set_received(&file, folder, name, header.mode, header.mtime))
            .and_then(|()| folder.rename_file(&temporary, name));
        if result.is_err()
            && let Err(error) = folder.unlink(&temporary)
        {
            log::debug!("{temporary}: {error}");
        }
        result
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`Folder::open_read`]; also if its folder cannot be reached.
    pub fn open(&mut self, path: &TreePath) -> Result<OpenFile, TreeError> {
        let (parent, name) = split(path)?;
        self.folder(&parent)?.open_read(name)
    }

    /// Reads a consistent version of a file of at most `most` bytes, with its attributes.
    ///
    /// Returns none if the file is longer.
    ///
    /// # Errors
    /// The file cannot be read, or changes in each attempt.
    pub fn read(
        &mut self,
        path: &TreePath,
        most: u64,
    ) -> Result<Option<(Vec<u8>, Meta)>, TreeError> {
        for _ in 0..READ_ATTEMPTS {
            let file = self.open(path)?;
            if file.meta.size > most {
                return Ok(None);
            }
            let mut bytes = Vec::with_capacity(usize::try_from(file.meta.size).unwrap_or(0) + 1);
            (&file.file)
                .take(most + 1)
                .read_to_end(&mut bytes)
                .map_err(|e| TreeError::Io("read", e))?;
            if bytes.len() as u64 == file.meta.size && file.is_unchanged()? {
                return Ok(Some((bytes, file.meta)));
            }
        }
        Err(TreeError::Io("read", std::io::Error::other("it keeps changing")))
    }

    /// Removes a file or an empty folder, unless its kind has changed since the listing.
    ///
    /// # Errors
    /// [`TreeError::NotEmpty`], or another reason.
    pub fn remove(&mut self, path: &TreePath, kind: Kind) -> Result<(), TreeError> {
        let (parent, name) = split(path)?;
        self.last.take_if(|(known, _)| known == path);
        let folder = self.folder(&parent)?;
        let found = folder.survey(name.as_bytes())?;
        match (kind, found.meta.kind) {
            _ if found.mount_point => Err(TreeError::NotServed(UnservedKind::Mount)),
            (Kind::Folder, MetaKind::Folder) => folder.remove_folder(name),
            (Kind::File, MetaKind::File) => folder.unlink(name),
            (Kind::File, MetaKind::Folder) => Err(TreeError::IsFolder),
            (Kind::Folder, MetaKind::File) => Err(TreeError::NotFolder),
            (_, MetaKind::Link) => Err(TreeError::NotServed(UnservedKind::Link)),
            (_, MetaKind::Special) => Err(TreeError::NotServed(UnservedKind::Special)),
        }
    }
}

fn split(path: &TreePath) -> Result<(TreePath, &str), TreeError> {
    path.split_last().ok_or(TreeError::IsFolder)
}

/// Returns the temporary name of a small file.
///
/// It differs from the part file's name, because the `.log` may refer to that one.
fn temporary(name: &str) -> String {
    part_name(&format!("{name}\0whole"))
}

/// Creates and locks a temporary file; takes over the file of a killed run.
fn claim(folder: &Folder, temporary: &str) -> Result<File, TreeError> {
    match folder.create_new_locked(temporary) {
        Err(TreeError::Taken) => {
            let file = folder.create_or_open_part(temporary)?;
            file.set_len(0).map_err(|e| TreeError::Io("write", e))?;
            Ok(file)
        }
        other => other,
    }
}
