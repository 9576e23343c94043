//! The present content of a path as the first bytes of an upload, so that no client sends it again.
//!
//! The change then replaces exactly the version that these bytes are of.

use std::fs::File;
use std::time::Duration;

use relais_proto::{
    Digest, Endpoint, ErrorCode, Expect, FileContent, Kind, Lsn, Refusal, TreePath, WaitReason,
};
use relais_storage::{changes_unavailable_at, refuse};
use relais_tree::{OpenFile, TreeError};

use crate::content::{self, Located, check_unchanged, content_changed};
use crate::context::SessionContext;
use crate::copy::copy_bytes;
use crate::keep_alive::{KeepAlive, poll};
use crate::staged::{cannot_stage, hash_staged};
use crate::transfer_log::TransferRecord;
use crate::upload::Upload;

/// How long a file may have no number, because it was just changed in the folder.
const NUMBER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two checks for it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The file at the path of an upload.
pub(crate) enum ExistingFile {
    Absent,
    Here(LocalFile),
    Elsewhere(RemoteFile),
}

/// A version of a file whose content is on this slave.
pub(crate) struct LocalFile {
    file: OpenFile,
    version: Lsn,
    digest: Option<Digest>,
}

/// A version of a file whose content is on other slaves.
pub(crate) struct RemoteFile {
    version: Lsn,
    content: FileContent,
    holders: Vec<Endpoint>,
}

/// The first bytes of an upload, which this slave has to fetch before the client's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingPrefix {
    /// The path in the tree.
    pub path: TreePath,
    /// The content that they are the first bytes of.
    pub content: FileContent,
    /// Number of these bytes.
    pub length: u64,
    /// The slaves that have the content.
    pub holders: Vec<Endpoint>,
}

/// An upload whose first bytes have to come from another slave.
///
/// If it is dropped nothing is kept.
pub struct PrefixUpload {
    upload: Upload,
    prefix: MissingPrefix,
}

impl ExistingFile {
    /// Returns what a change of this version expects.
    pub fn expect(&self) -> Expect {
        match self {
            Self::Absent => Expect::Absent,
            Self::Here(LocalFile { version, .. }) | Self::Elsewhere(RemoteFile { version, .. }) => {
                Expect::Lsn(*version)
            }
        }
    }

    pub fn size(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::Here(here) => here.file.meta.size,
            Self::Elsewhere(remote) => remote.content.size,
        }
    }
}

/// Finds the file that the tree has at a path, and waits for the number of its last change.
pub(crate) fn find_existing(
    context: &SessionContext,
    path: &TreePath,
    keepalive: &mut dyn KeepAlive,
) -> Result<ExistingFile, Refusal> {
    let limits = (NUMBER_TIMEOUT, POLL_INTERVAL);
    let found = poll(limits, WaitReason::Storing, keepalive, |keepalive| {
        let Some((row, _)) = context.with_catalogue(|store| store.at(path))? else {
            return match context.settings.folder.open_file(path) {
                Ok(_) => Ok(None),
                Err(TreeError::NotFound) => Ok(Some(ExistingFile::Absent)),
                Err(e) => Err(refuse(path, &e)),
            };
        };
        if row.entry.kind == Kind::Folder {
            return Err(refuse(path, &TreeError::IsFolder));
        }
        let Some(version) = row.entry.version else { return Ok(None) };
        match content::open(context, path, keepalive)? {
            Located::Here(file) => Ok(row
                .matches(&file.meta)
                .then(|| ExistingFile::Here(LocalFile { file, version, digest: row.digest }))),
            Located::Elsewhere(holders) => {
                let content = row.tree_entry().and_then(|entry| entry.content);
                Ok(content.map(|content| {
                    ExistingFile::Elsewhere(RemoteFile { version, content, holders })
                }))
            }
        }
    })?;
    found.ok_or_else(|| {
        changes_unavailable_at(path, "the file was just changed, and has no number yet")
    })
}

impl LocalFile {
    /// Copies the first `length` bytes to an empty staged file; returns their hasher.
    pub fn copy_prefix(
        &self,
        context: &SessionContext,
        path: &TreePath,
        (staged, length): (&File, u64),
        keepalive: &mut dyn KeepAlive,
    ) -> Result<blake3::Hasher, Refusal> {
        copy_bytes(&self.file.file, staged, length, keepalive)
            .map_err(|e| cannot_stage(path, e))?;
        if staged.metadata().map_err(|e| cannot_stage(path, e))?.len() != length {
            return Err(content_changed(path));
        }
        let hasher = hash_staged(context, staged, length, path, keepalive)?;
        check_unchanged(path, &self.file)?;
        let known = self.digest.filter(|_| length == self.file.meta.size);
        if known.is_some_and(|known| known.0 != *hasher.finalize().as_bytes()) {
            if context.settings.is_cluster_member {
                context.host().report_damaged(path);
            }
            let message = "the content does not match its digest";
            return Err(Refusal::at(path, ErrorCode::Damaged, message));
        }
        Ok(hasher)
    }
}

impl RemoteFile {
    /// Returns the first `length` bytes as what has to be fetched.
    pub fn into_prefix(self, path: &TreePath, length: u64) -> Result<MissingPrefix, Refusal> {
        if self.holders.is_empty() {
            let message = "no slave that is known has the content";
            return Err(Refusal::at(path, ErrorCode::NoContent, message));
        }
        let Self { content, holders, .. } = self;
        Ok(MissingPrefix { path: path.clone(), content, length, holders })
    }
}

impl PrefixUpload {
    pub(crate) fn new(upload: Upload, prefix: MissingPrefix) -> Self {
        Self { upload, prefix }
    }

    pub(crate) fn activate(&mut self, record: TransferRecord) {
        self.upload.activate(record);
    }

    /// Returns what has to be fetched.
    #[must_use]
    pub fn prefix(&self) -> &MissingPrefix {
        &self.prefix
    }

    /// Writes the next of these bytes.
    ///
    /// # Errors
    /// As [`Upload::write`]; [`ErrorCode::BadRequest`] if they are more than these.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let end = self.upload.offset() + bytes.len() as u64;
        if end > self.prefix.length {
            let message = "there are more bytes than the upload begins with";
            let refused = Refusal::at(&self.prefix.path, ErrorCode::BadRequest, message);
            return self.upload.fail_on(Err(refused));
        }
        self.upload.write(bytes)
    }

    /// Returns the upload for the bytes of the client, once all of these have come.
    ///
    /// # Errors
    /// [`ErrorCode::Cut`] if they have not; [`ErrorCode::Damaged`] if they are the whole content
    /// and do not match its digest. Nothing is kept.
    pub fn complete(mut self) -> Result<Upload, Refusal> {
        let MissingPrefix { path, content, length, .. } = &self.prefix;
        let checked = if self.upload.offset() != *length {
            Err(Refusal::at(path, ErrorCode::Cut, "the present content did not come completely"))
        } else if *length == content.size && self.upload.digest() != content.digest {
            let message = "the present content does not match its digest";
            Err(Refusal::at(path, ErrorCode::Damaged, message))
        } else {
            Ok(())
        };
        self.upload.fail_on(checked)?;
        Ok(self.upload)
    }

    /// Discards the upload.
    pub fn discard(self) {
        self.upload.discard();
    }
}
