//! The present content of a path as the first bytes of an upload, so that no client sends it again.
//!
//! The change then replaces exactly the version that these bytes are of.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use relais_proto::{Digest, ErrorCode, Expect, Kind, Lsn, Refusal, TreePath, WaitReason};
use relais_storage::{changes_unavailable_at, refuse};
use relais_tree::{OpenFile, TreeError};

use crate::content::{self, Located, TreeFile, check_unchanged, content_changed};
use crate::context::SessionContext;
use crate::copy::copy_bytes;
use crate::keep_alive::{KeepAlive, poll};
use crate::remote_content::RemoteContent;
use crate::staged::{cannot_stage, hash_staged};
use crate::staged_hasher::StagedHasher;
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
    pub content: Box<RemoteContent>,
}

/// An upload whose first bytes have to come from another slave.
///
/// If it is dropped nothing is kept.
pub struct PrefixUpload {
    upload: Upload,
    path: TreePath,
    /// Number of these bytes.
    length: u64,
    /// Digest that they must have, if they are the whole content.
    digest: Option<Digest>,
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
            Self::Elsewhere(remote) => remote.content.size(),
        }
    }
}

/// Finds the file that the tree has at a path, and waits for the number of its last change.
pub(crate) fn find_existing(
    context: &Arc<SessionContext>,
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
            Located::Here(TreeFile { file, .. }) => Ok(row
                .matches(&file.meta)
                .then(|| ExistingFile::Here(LocalFile { file, version, digest: row.digest }))),
            Located::Elsewhere(holders) => {
                let known = holders.into_iter().map(|holder| holder.id).collect();
                let content = RemoteContent::look_up(context, path.clone(), known)?;
                Ok((row.content == Some(content.version())).then(|| {
                    ExistingFile::Elsewhere(RemoteFile { version, content: Box::new(content) })
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
    ) -> Result<StagedHasher, Refusal> {
        copy_bytes(&self.file.file, staged, length, keepalive)
            .map_err(|e| cannot_stage(path, e))?;
        if staged.metadata().map_err(|e| cannot_stage(path, e))?.len() != length {
            return Err(content_changed(path));
        }
        let hasher = hash_staged(context, staged, (length, None), path, keepalive)?;
        check_unchanged(path, &self.file)?;
        let known = self.digest.filter(|_| length == self.file.meta.size);
        if known.is_some_and(|known| known != hasher.digest()) {
            if context.settings.is_cluster_member {
                context.host().report_damaged(path);
            }
            let message = "the content does not match its digest";
            return Err(Refusal::at(path, ErrorCode::Damaged, message));
        }
        Ok(hasher)
    }
}

impl PrefixUpload {
    pub(crate) fn new(upload: Upload, content: &RemoteContent, length: u64) -> Self {
        let digest = Some(content.digest()).filter(|_| length == content.size());
        Self { upload, path: content.path().clone(), length, digest }
    }

    pub(crate) fn activate(&mut self, record: TransferRecord) {
        self.upload.activate(record);
    }

    /// Returns how many bytes have to be fetched.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes the next of these bytes.
    ///
    /// # Errors
    /// As [`Upload::write`]; [`ErrorCode::BadRequest`] if they are more than these.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.upload.offset() + bytes.len() as u64 > self.length {
            let message = "there are more bytes than the upload begins with";
            let refused = Refusal::at(&self.path, ErrorCode::BadRequest, message);
            return self.upload.fail_on(Err(refused));
        }
        self.upload.write(bytes)
    }

    /// Returns the upload for the bytes of the client, once all of these have come.
    ///
    /// # Errors
    /// [`ErrorCode::Cut`] if they have not; [`ErrorCode::Damaged`] if they are the whole content
    /// and do not match its digest. Nothing is kept.
    pub fn complete(mut self, keepalive: &mut dyn KeepAlive) -> Result<Upload, Refusal> {
        let checked = self.check(keepalive);
        self.upload.fail_on(checked)?;
        Ok(self.upload)
    }

    fn check(&mut self, keepalive: &mut dyn KeepAlive) -> Result<(), Refusal> {
        if self.upload.offset() != self.length {
            let message = "the present content did not come completely";
            return Err(Refusal::at(&self.path, ErrorCode::Cut, message));
        }
        if let Some(digest) = self.digest
            && self.upload.digest(keepalive)? != digest
        {
            let message = "the present content does not match its digest";
            return Err(Refusal::at(&self.path, ErrorCode::Damaged, message));
        }
        Ok(())
    }

    /// Discards the upload.
    pub fn discard(self) {
        self.upload.discard();
    }
}
