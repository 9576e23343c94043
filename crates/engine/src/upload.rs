//! Uploads: content is received into a staged file until it is complete.
//!
//! No session can see a staged file. A complete one is sealed: nothing writes it any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use relais_os::SplicePipe;
use relais_proto::{
    Change, ChangeId, Digest, ErrorCode, Expect, FileTime, Kind, LockToken, Lsn, Mode, PutRequest,
    Refusal, TreePath, WaitReason, limits,
};
use relais_storage::{Commit, Proposal, StagedName, changes_unavailable_at, refuse};
use relais_tree::{TreeError, set_mode};

use crate::change::{Committed, PreparedChange, bind_id};
use crate::checksum::{ChecksumAlgorithm, ChecksumHasher};
use crate::context::SessionContext;
use crate::keep_alive::{KeepAlive, client_gone, poll};
use crate::locks::check_unlocked;
use crate::session::Session;
use crate::staged::{
    COMPLETION_WAIT, HANDOVER_TIMEOUT, POLL_INTERVAL, StagedState, cannot_stage, find_staged,
    hash_staged, is_complete_upload, mtime_of, store_time, sync, wait_for_commit,
};
use crate::staged_hasher::StagedHasher;
use crate::transfer_log::{LoggedCommand, TransferRecord};
use crate::upload_hasher::UploadHasher;

/// Size up to which the target of a put is checked only once the content has come.
///
/// For larger content the target is checked first, so that no client sends much in vain.
pub const SMALL_UPLOAD: u64 = 64 * 1024;
/// Size from which on the session syncs the content, so that other changes need not wait for it.
const SESSION_SYNC_SIZE: u64 = limits::PIECE;
/// Bytes after which limits and disk space are checked again.
const SPACE_CHECK_BYTES: u64 = 4 * limits::PIECE;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadProgress {
    /// Its change was made.
    Committed(Committed),
    /// Some bytes are staged.
    Staged {
        /// Number of staged bytes.
        offset: u64,
        /// What a put that continues now has to expect at the path.
        current: Expect,
        /// Whether the upload is not known here: it has not begun, was discarded, or is elsewhere.
        is_unknown: bool,
    },
}

/// Where the bytes of an upload go.
enum UploadTarget {
    /// To the staged file.
    Staged(File),
    /// Nowhere: an earlier session has received all of them.
    Complete,
    /// The upload has ended.
    Ended,
}

/// An upload under way.
///
/// An upload that is dropped was cut: what has come stays staged, so that it can be resumed.
pub struct Upload {
    context: Arc<SessionContext>,
    /// With the path in the tree, and the bound id.
    request: PutRequest,
    name: StagedName,
    /// Name of the staged file once it is complete.
    sealed: StagedName,
    target: UploadTarget,
    /// None if the bytes are hashed once all of them are here.
    hasher: Option<UploadHasher>,
    at: u64,
    /// Bytes at the beginning that the client has not sent. Without more, nothing is kept.
    inherited: u64,
    /// Mode of the file if it is new.
    mode: Mode,
    /// Tokens of the locks that the change may use.
    tokens: Vec<LockToken>,
    /// Bytes that the table of unfinished uploads knows of.
    reported: u64,
    record: TransferRecord,
}

impl Session {
    /// Begins an upload.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`] if fewer bytes are staged than the client continues from; the
    /// reason why the file cannot be put; those of [`Session::check_ready`].
    pub fn begin_upload(
        &self,
        request: PutRequest,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Upload, Refusal> {
        let mut upload = self.begin_part(request, keepalive)?;
        let hashed = upload.hash_received(keepalive);
        if let Err(refusal) = self.context.recorded(&mut upload.record, hashed) {
            upload.pause();
            return Err(refusal);
        }
        Ok(upload)
    }

    /// Begins to receive a part of an upload after which others follow, without hashing it.
    ///
    /// An upload in many parts would read again for each part what is there.
    ///
    /// # Errors
    /// As [`Session::begin_upload`].
    pub fn begin_part(
        &self,
        request: PutRequest,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Upload, Refusal> {
        let record = self.begin(LoggedCommand::Put, &request.path, None, keepalive)?;
        self.stage(request, None, record, keepalive)
    }

    /// Begins to stage the content of an upload, or of a copy of `source`. Nothing is hashed.
    pub(crate) fn stage(
        &self,
        request: PutRequest,
        source: Option<&TreePath>,
        mut record: TransferRecord,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Upload, Refusal> {
        let begun = begin(&self.context, request, source, &self.lock_tokens, keepalive);
        let mut upload = self.context.recorded(&mut record, begun)?;
        upload.tokens.clone_from(&self.lock_tokens);
        upload.activate(record);
        Ok(upload)
    }

    /// Returns how far an upload is, and ends an older session that still receives it.
    ///
    /// # Errors
    /// As [`Session::begin_upload`].
    pub fn find_upload(
        &self,
        id: ChangeId,
        path: &TreePath,
        size: u64,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<UploadProgress, Refusal> {
        self.check_ready(keepalive)?;
        self.context.check_writable()?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            let id = bind_id(&context.principal, id, b"put", &[&path], Some(size));
            let mut is_put_again = false;
            if let Some(commit) = context.with_catalogue(|store| store.commit_of(id))?
                && !is_lost(context, &path, commit.version)?
            {
                if !is_awaiting_copies(context, &path, commit.version)? {
                    return committed(context, commit, &path);
                }
                is_put_again = true;
            }
            let name = StagedName::new(id, &context.principal.user, &path, Some(size));
            let staged = match find_staged(context, &path, &name, false, keepalive)? {
                _ if is_put_again => Some(size),
                StagedState::Complete => Some(size),
                StagedState::Partial(file) => {
                    let there = file.metadata().map_err(|e| cannot_stage(&path, e))?.len();
                    Some(if there <= size { there } else { 0 })
                }
                StagedState::Missing { ending: false } => None,
                // The upload was complete a moment ago: its change is being made.
                StagedState::Missing { ending: true } => {
                    match wait_for_commit(context, id, keepalive)? {
                        Some(commit) => return committed(context, commit, &path),
                        None => None,
                    }
                }
            };
            let current = context.with_catalogue(|store| store.version_at(&path))?;
            let (offset, is_unknown) = (staged.unwrap_or(0), staged.is_none());
            Ok(UploadProgress::Staged { offset, current: Expect::exactly(current), is_unknown })
        }))
    }
}

fn begin(
    context: &Arc<SessionContext>,
    mut request: PutRequest,
    source: Option<&TreePath>,
    tokens: &[LockToken],
    keepalive: &mut dyn KeepAlive,
) -> Result<Upload, Refusal> {
    if request.path.is_root() {
        return Err(Refusal::new(
            ErrorCode::IsFolder,
            format!("{}: a folder has that name", request.path),
        ));
    }
    request.path = context.principal.resolve(&request.path)?;
    let (path, size, at) = (request.path.clone(), request.size, request.offset);
    if !is_small(size) {
        check_target(context, &path, tokens)?;
    }
    request.id = match source {
        None => bind_id(&context.principal, request.id, b"put", &[&path], size),
        Some(source) => bind_id(&context.principal, request.id, b"cp", &[source, &path], size),
    };
    let name = StagedName::new(request.id, &context.principal.user, &path, size);
    let remaining = size.map_or(0, |size| size.saturating_sub(at));
    if size != Some(at) || at == 0 {
        context.check_disk_space(&path, remaining)?;
    }
    // The row comes before the file, so that a worker that is killed leaves no file without a row.
    let uploads = context.host().uploads();
    uploads.begin(&name, 0, remaining, &context.staging)?;
    let target = open_target(context, &request, &name, keepalive)
        .inspect_err(|_| uploads.release(&name, &context.staging))?;
    let name = if matches!(target, UploadTarget::Complete) { name.sealed() } else { name };
    Ok(Upload::new(context, request, name, target))
}

/// Opens the staged file of an upload whose row exists, and cuts it at the offset of the request.
fn open_target(
    context: &SessionContext,
    request: &PutRequest,
    name: &StagedName,
    keepalive: &mut dyn KeepAlive,
) -> Result<UploadTarget, Refusal> {
    let (path, size, at) = (&request.path, request.size, request.offset);
    let uploads = context.host().uploads();
    let file = match find_staged(context, path, name, true, keepalive)? {
        StagedState::Complete => {
            uploads.record_bytes(name, size.unwrap_or(at));
            return Ok(UploadTarget::Complete);
        }
        StagedState::Partial(file) => file,
        StagedState::Missing { .. } => {
            let reason = "an earlier upload of this file is just ending";
            return Err(changes_unavailable_at(path, reason));
        }
    };
    let staged_len = file.metadata().map_err(|e| cannot_stage(path, e))?.len();
    if staged_len < at {
        if staged_len == 0 {
            context.staging.discard(name);
        } else {
            uploads.record_bytes(name, staged_len);
        }
        // The whole upload may have been here a moment ago, and its change is being made.
        if size == Some(at) && is_complete_upload(context, request.id, name, keepalive)? {
            return Ok(UploadTarget::Complete);
        }
        let message = format!("the server has only {staged_len} bytes of the upload");
        return Err(Refusal::at(path, ErrorCode::BadOffset, message));
    }
    // Check the mtime before the client sends much content.
    if let Some(mtime) = request.mtime
        && !is_small(size)
    {
        store_time(&file, mtime, path).inspect_err(|_| context.staging.discard(name))?;
    }
    if at > 0 {
        uploads.record_bytes(name, at);
    }
    if staged_len > at {
        file.set_len(at).map_err(|e| cannot_stage(path, e))?;
    }
    Ok(UploadTarget::Staged(file))
}

/// Whether a put of this size is checked only once its content has come.
fn is_small(size: Option<u64>) -> bool {
    size.is_some_and(|size| size <= SMALL_UPLOAD)
}

/// Whether no server that is known has the content of a committed put. The upload restores it.
fn is_lost(context: &SessionContext, path: &TreePath, put: Lsn) -> Result<bool, Refusal> {
    let Some((row, holders)) = context.with_catalogue(|store| store.at(path))? else {
        return Ok(false);
    };
    Ok(row.content == Some(put)
        && !row.here
        && holders.is_empty()
        && context.ask_holders(put, &context.principal.owner).is_empty())
}

/// Whether a put may have fewer copies than its client wants, so that it has to be put again.
///
/// Nothing of it is sent again, but only its answer waits for the copies.
fn is_awaiting_copies(
    context: &SessionContext,
    path: &TreePath,
    put: Lsn,
) -> Result<bool, Refusal> {
    let row = context.with_catalogue(|store| store.at(path))?;
    Ok(context.settings.is_cluster_member && row.is_some_and(|(row, _)| row.content == Some(put)))
}

/// Returns the answer for an upload whose change was made already.
fn committed(
    context: &SessionContext,
    commit: Commit,
    path: &TreePath,
) -> Result<UploadProgress, Refusal> {
    let Commit { version, digest } = commit;
    Ok(UploadProgress::Committed(Committed {
        version,
        copies: 1,
        lsn: context.visible_lsn().max(version),
        digest,
        is_current: context.is_current(path, version)?,
    }))
}

/// Checks the target of a put before its content is sent.
///
/// The check that counts is made with the change itself.
pub(crate) fn check_target(
    context: &SessionContext,
    path: &TreePath,
    tokens: &[LockToken],
) -> Result<(), Refusal> {
    check_unlocked(context, path, tokens)?;
    let is_folder = || Refusal::at(path, ErrorCode::IsFolder, "a folder has that name");
    let (parent, _) = path.split_last().ok_or_else(is_folder)?;
    if context.settings.is_cluster_member {
        // The folder may lack what the tree has.
        let kind = |path: &TreePath| {
            context
                .with_catalogue(|store| store.at(path))
                .map(|found| found.map(|(row, _)| row.entry.kind))
        };
        match if parent.is_root() { Some(Kind::Folder) } else { kind(&parent)? } {
            Some(Kind::Folder) => {}
            Some(Kind::File) => return Err(refuse(&parent, &TreeError::NotFolder)),
            None => {
                let message = "no such folder; make it first";
                return Err(Refusal::at(&parent, ErrorCode::NotFound, message));
            }
        }
        return if kind(path)? == Some(Kind::Folder) { Err(is_folder()) } else { Ok(()) };
    }
    let folder = &context.settings.folder;
    folder.open_folder(&parent).map_err(|e| refuse(&parent, &e))?;
    match folder.stat(path).map(|meta| meta.served_kind()) {
        Ok(Some(Kind::File)) | Err(TreeError::NotFound) => Ok(()),
        Ok(Some(Kind::Folder)) => Err(is_folder()),
        Ok(None) => {
            let message = "something that is not served has that name";
            Err(Refusal::at(path, ErrorCode::NotServed, message))
        }
        Err(e) => Err(refuse(path, &e)),
    }
}

impl Upload {
    /// Makes an upload that receives the bytes from the request's offset on.
    fn new(
        context: &Arc<SessionContext>,
        request: PutRequest,
        name: StagedName,
        target: UploadTarget,
    ) -> Self {
        let mode = request.mode.unwrap_or(Mode::new(0o666)).masked(context.settings.umask);
        Self {
            context: context.clone(),
            name,
            sealed: name.sealed(),
            target,
            hasher: None,
            at: request.offset,
            inherited: 0,
            mode: mode.with_owner_access(Kind::File),
            tokens: Vec::new(),
            reported: request.offset,
            record: TransferRecord::default(),
            request,
        }
    }

    /// Makes an upload by path, whose staged file is locked and has `inherited` bytes that the
    /// client has not sent.
    pub(crate) fn by_path(
        context: &Arc<SessionContext>,
        request: PutRequest,
        (name, file): (StagedName, File),
        hasher: StagedHasher,
        inherited: u64,
    ) -> Self {
        let sealed = StagedName::new(request.id, &context.principal.user, &request.path, None);
        let mut upload = Self::new(context, request, name, UploadTarget::Staged(file));
        (upload.sealed, upload.inherited) = (sealed.sealed(), inherited);
        upload.hasher = Some(UploadHasher::new(hasher));
        upload
    }

    /// Registers the upload, and has `record` log its end.
    pub(crate) fn activate(&mut self, record: TransferRecord) {
        if matches!(self.target, UploadTarget::Staged(_)) {
            self.context.active_uploads.begin(&self.name, &self.context.disconnect);
        }
        // Bytes of the present content are no part of an earlier upload.
        if self.at > self.inherited {
            record.count_resume();
        }
        self.record = record;
    }

    /// Returns the number of bytes that are here, which is where the next ones go.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// Hashes the bytes that are here, and has those hashed that follow.
    fn hash_received(&mut self, keepalive: &mut dyn KeepAlive) -> Result<(), Refusal> {
        let UploadTarget::Staged(file) = &self.target else { return Ok(()) };
        let (path, length) = (&self.request.path, (self.at, self.request.size));
        let hasher = hash_staged(&self.context, file, length, path, keepalive)?;
        self.hasher = Some(UploadHasher::new(hasher));
        Ok(())
    }

    /// Waits for the digest of these bytes.
    pub(crate) fn digest(&mut self, keepalive: &mut dyn KeepAlive) -> Result<Digest, Refusal> {
        match &mut self.hasher {
            Some(hasher) => hasher.finish().map_err(|e| cannot_stage(&self.request.path, e)),
            None => self.hash_staged(keepalive),
        }
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The reason why the upload has failed. Its staged file is discarded.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let written = self.try_write(bytes.len(), |file, at, hasher| {
            file.write_all_at(bytes, at)?;
            hasher.map_or(Ok(()), |hasher| hasher.update(bytes, file, at))
        });
        self.fail_on(written)
    }

    /// Whether so much has come that the next bytes should come through a pipe, if they can.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.hasher.as_ref().is_none_or(UploadHasher::is_beside)
    }

    /// Writes the bytes that `pipe` holds, without a copy to this process.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_from(&mut self, pipe: &mut SplicePipe) -> Result<(), Refusal> {
        let length = pipe.held();
        let mut is_dropped = true;
        let written = self.try_write(length, |file, at, hasher| {
            is_dropped = false;
            pipe.empty_into(Some((file, at)))?;
            hasher.map_or(Ok(()), |hasher| hasher.follow(file, at, length as u64))
        });
        let written = match written {
            Ok(()) if is_dropped => {
                pipe.empty_into(None).map_err(|e| cannot_stage(&self.request.path, e))
            }
            written => written,
        };
        self.fail_on(written)
    }

    /// Has `write` write the next `length` bytes and hash them, unless they are here already.
    fn try_write(
        &mut self,
        length: usize,
        write: impl FnOnce(&File, u64, Option<&mut UploadHasher>) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        let path = &self.request.path;
        let end = self.at + length as u64;
        if end > self.request.size.unwrap_or(limits::FILE_SIZE) {
            let message = "the upload has more bytes than announced";
            return Err(Refusal::at(path, ErrorCode::BadRequest, message));
        }
        if let UploadTarget::Staged(file) = &self.target {
            write(file, self.at, self.hasher.as_mut()).map_err(|e| cannot_stage(path, e))?;
        }
        // The first bytes may come from another slave, and not from the client.
        self.record.count(end.saturating_sub(self.at.max(self.inherited)));
        self.at = end;
        if end - self.reported >= SPACE_CHECK_BYTES
            && matches!(self.target, UploadTarget::Staged(_))
        {
            // Report the received bytes to the table of uploads, and make room for the rest.
            self.reported = end;
            let remaining = self.request.size.map_or(0, |size| size.saturating_sub(end));
            let uploads = self.context.host().uploads();
            uploads.begin(&self.name, end, remaining, &self.context.staging)?;
            self.context.check_disk_space(path, 0)?;
        }
        Ok(())
    }

    /// Has `fill` write the whole content, whose size is known, at once.
    pub(crate) fn fill(
        &mut self,
        fill: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), Refusal> {
        if let UploadTarget::Staged(file) = &self.target {
            fill(file).map_err(|e| cannot_stage(&self.request.path, e))?;
        }
        self.at = self.request.size.unwrap_or_default();
        Ok(())
    }

    /// Returns the digest of what is staged.
    pub(crate) fn hash_staged(&mut self, keepalive: &mut dyn KeepAlive) -> Result<Digest, Refusal> {
        let path = &self.request.path;
        let sealed;
        let (file, len) = match &self.target {
            UploadTarget::Staged(file) => (file, self.at),
            _ => {
                let file = self.context.staging.staged.open_read(self.name.to_string());
                sealed = file.map_err(|e| refuse(path, &e))?;
                (&sealed.file, sealed.meta.size)
            }
        };
        let hasher = hash_staged(&self.context, file, (len, Some(len)), path, keepalive)?;
        let digest = hasher.digest();
        self.hasher = Some(UploadHasher::new(hasher));
        Ok(digest)
    }

    /// Completes the upload; `digest` is what the client says about the content, if it says
    /// anything.
    ///
    /// # Errors
    /// The reason why the content cannot be put.
    pub fn finish(
        mut self,
        digest: Option<Digest>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<PreparedChange, Refusal> {
        self.context.active_uploads.end(&self.name, &self.context.disconnect);
        let finished = self.try_finish(digest, keepalive);
        let proposal = self.fail_on(finished)?;
        self.target = UploadTarget::Ended;
        if let Change::Put { size, .. } = proposal.change {
            self.record.set_bytes(size);
        }
        Ok(PreparedChange::new(proposal, self.record.take()))
    }

    fn try_finish(
        &mut self,
        digest: Option<Digest>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Proposal, Refusal> {
        // The login may have ended during the upload, or lost its rights.
        self.context.check_login()?;
        self.context.check_writable()?;
        let path = self.request.path.clone();
        if self.request.size.is_some_and(|size| size != self.at) {
            let message = format!("the upload ended at byte {}", self.at);
            return Err(Refusal::at(&path, ErrorCode::BadRequest, message));
        }
        if !matches!(self.target, UploadTarget::Staged(_)) {
            return self.finish_complete(digest, keepalive);
        }
        let received = self.digest(keepalive)?;
        if digest.is_some_and(|digest| digest != received) {
            let message = "the received bytes do not match the digest";
            return Err(Refusal::at(&path, ErrorCode::Damaged, message));
        }
        let (mtime, synced) = self.complete(keepalive)?;
        if self.name.is_by_path() {
            // Once the file is sealed the name may belong to the next upload.
            self.context.staging.remove_base(&self.name);
            self.context.host().uploads().record_bytes(&self.sealed, self.at);
            self.context.host().uploads().end(&self.name);
            self.context.host().path_upload_ended();
        }
        match self.context.staging.seal(&self.name, &self.sealed) {
            Ok(()) => {
                self.name = self.sealed;
                let hashes = self.hasher.as_ref().and_then(UploadHasher::hashes);
                let proposal = self.proposal(Some(self.name), self.at, received, mtime, synced);
                Ok(Proposal { hashes, ..proposal })
            }
            // Another session has received the same upload, and was faster.
            Err(TreeError::Taken) => {
                self.context.discard_upload(&self.name);
                (self.name, self.target) = (self.sealed, UploadTarget::Complete);
                self.finish_complete(Some(received), keepalive)
            }
            Err(e) => Err(refuse(&path, &e)),
        }
    }

    /// Sets mode and mtime of a staged file, and syncs it if it is large. Returns the mtime that
    /// it has, and whether it is synced.
    ///
    /// The final mode is decided when the change gets its number. If it differs, the file gets it
    /// before its final name.
    fn complete(&self, keepalive: &mut dyn KeepAlive) -> Result<(FileTime, bool), Refusal> {
        let UploadTarget::Staged(file) = &self.target else { return Ok(Default::default()) };
        let path = &self.request.path;
        set_mode(file, self.expected_mode()?).map_err(|e| refuse(path, &e))?;
        let mtime = match self.request.mtime {
            Some(mtime) => store_time(file, mtime, path)?,
            None => mtime_of(file).map_err(|e| cannot_stage(path, e))?,
        };
        if self.at < SESSION_SYNC_SIZE {
            return Ok((mtime, false));
        }
        sync(file, keepalive).map_err(|e| cannot_stage(path, e))?;
        Ok((mtime, true))
    }

    /// Returns the mode that the change probably sets: that of the file which it replaces.
    ///
    /// For small content a look at the catalogue costs more than setting another mode later.
    fn expected_mode(&self) -> Result<Mode, Refusal> {
        if is_small(self.request.size) {
            return Ok(self.mode);
        }
        let there = self.context.with_catalogue(|store| store.at(&self.request.path))?;
        let file = there.filter(|(row, _)| row.entry.kind == Kind::File);
        Ok(file.map_or(self.mode, |(row, _)| row.entry.mode))
    }

    /// Makes the proposal for the sealed file.
    fn propose(&self, digest: Digest, synced: bool) -> Result<Proposal, Refusal> {
        let path = &self.request.path;
        let meta = self.context.staging.staged.stat_part(self.name.to_string().as_bytes());
        let meta = meta.map_err(|e| refuse(path, &e))?;
        Ok(self.proposal(Some(self.name), meta.size, digest, meta.mtime, synced))
    }

    fn proposal(
        &self,
        staged: Option<StagedName>,
        size: u64,
        digest: Digest,
        mtime: FileTime,
        synced: bool,
    ) -> Proposal {
        let PutRequest { id, ref path, expect, copies, .. } = self.request;
        let change = Change::Put { path: path.clone(), size, digest, mtime, mode: self.mode };
        let tokens = self.tokens.clone();
        let proposal = Proposal::new(id, change);
        Proposal { expect, keep_mode: true, staged, synced, copies, tokens, ..proposal }
    }

    /// Makes the proposal for content that an earlier session has received completely.
    ///
    /// Its change may be on its way: then the sealed file is about to get its final name. For a
    /// moment the staged name belongs to the file that it replaces.
    fn finish_complete(
        &self,
        digest: Option<Digest>,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Proposal, Refusal> {
        let (context, request) = (&self.context, &self.request);
        let (limits, mut replaced_inode) = ((HANDOVER_TIMEOUT, POLL_INTERVAL), None);
        let proposal = poll(limits, WaitReason::Storing, keepalive, |keepalive| {
            if let Some(commit) = context.with_catalogue(|store| store.commit_of(request.id))? {
                // The id leads to the number of the change.
                let Some(digest) = digest.or(commit.digest) else {
                    let message = "this upload id was used before; use a new id";
                    return Err(Refusal::at(&request.path, ErrorCode::Conflict, message));
                };
                let (size, mtime) = (request.size.unwrap_or(self.at), request.mtime);
                let mtime = mtime.unwrap_or_default();
                return Ok(Some(self.proposal(None, size, digest, mtime, false)));
            }
            let file = match context.staging.staged.open_read(self.name.to_string()) {
                Ok(file) if replaced_inode != Some(file.meta.ino) => file,
                Ok(_) | Err(TreeError::NotFound) => return Ok(None),
                Err(e) => return Err(refuse(&request.path, &e)),
            };
            let len = file.meta.size;
            let len = (len, Some(len));
            let hasher = hash_staged(context, &file.file, len, &request.path, keepalive)?;
            let found = hasher.digest();
            if digest.is_some_and(|digest| digest != found) {
                replaced_inode = Some(file.meta.ino);
                return Ok(None);
            }
            match self.propose(found, false) {
                // The file has just got its final name.
                Err(refusal) if refusal.code == ErrorCode::NotFound => Ok(None),
                proposal => Ok(Some(Proposal { hashes: hasher.hashes(), ..proposal? })),
            }
        })?;
        if let Some(proposal) = proposal {
            return Ok(proposal);
        }
        if !context.staging.contains(&self.name) {
            let message = "the server has no part of the upload";
            return Err(Refusal::at(&request.path, ErrorCode::BadOffset, message));
        }
        let reason = "an earlier upload of this file is still being stored";
        Err(changes_unavailable_at(&request.path, reason))
    }

    /// Keeps what has come for a client that continues in another request.
    ///
    /// Unlike a drop it does not wait for another session that may complete the upload.
    pub fn pause(mut self) {
        if let UploadTarget::Staged(_) = std::mem::replace(&mut self.target, UploadTarget::Ended) {
            self.context.active_uploads.end(&self.name, &self.context.disconnect);
            self.context.host().uploads().record_bytes(&self.name, self.at);
        }
        self.record.set_bytes(self.at);
        self.record.end(Err(ErrorCode::Cut));
    }

    /// Returns the checksum of what is staged.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if it cannot be read; [`ErrorCode::Cut`] if the client goes.
    pub fn checksum(
        &self,
        algorithm: ChecksumAlgorithm,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Vec<u8>, Refusal> {
        let UploadTarget::Staged(file) = &self.target else {
            let reason = "an earlier upload of this file is just ending";
            return Err(changes_unavailable_at(&self.request.path, reason));
        };
        let mut hasher = ChecksumHasher::new(algorithm);
        let mut turns = self.context.hashing(keepalive);
        let mut buffer = vec![0; usize::try_from(self.at.min(limits::PIECE)).unwrap_or(0)];
        let mut at = 0;
        while at < self.at {
            turns.next().map_err(|_| client_gone())?;
            let want = usize::try_from((self.at - at).min(limits::PIECE)).unwrap_or(0);
            let read = file.read_exact_at(&mut buffer[..want], at);
            read.map_err(|e| cannot_stage(&self.request.path, e))?;
            hasher.update(&buffer[..want]);
            at += want as u64;
        }
        Ok(hasher.finish())
    }

    /// Discards the upload: the client wants no part of it to be kept.
    pub fn discard(mut self) {
        self.discard_staged();
        self.record.end(Err(ErrorCode::Cut));
    }

    /// Has a refusal end the upload.
    ///
    /// A file that could not be completed must not look like one that can be resumed.
    pub(crate) fn fail_on<T>(&mut self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        if result.is_err() {
            self.discard_staged();
        }
        self.context.recorded(&mut self.record, result)
    }

    fn discard_staged(&mut self) {
        if let Some(hasher) = &mut self.hasher {
            hasher.stop();
        }
        if let UploadTarget::Staged(_) = std::mem::replace(&mut self.target, UploadTarget::Ended) {
            self.context.discard_upload(&self.name);
        }
    }

    /// Keeps what has come of an upload whose connection is lost, so that it can be resumed.
    ///
    /// If another session has completed the upload meanwhile the rest is discarded, because no
    /// client will resume it. This call waits for one that is doing so now. The file is unlocked
    /// meanwhile, so a client can resume at any time.
    fn suspend(&mut self) {
        if let Some(hasher) = &mut self.hasher {
            hasher.stop();
        }
        let UploadTarget::Staged(file) = std::mem::replace(&mut self.target, UploadTarget::Ended)
        else {
            return;
        };
        let (context, name) = (&self.context, &self.name);
        context.active_uploads.end(name, &context.disconnect);
        if self.at <= self.inherited {
            return context.discard_upload(name);
        }
        context.host().uploads().record_bytes(name, self.at);
        drop(file);
        if name.is_by_path() {
            return;
        }
        let began = Instant::now();
        while let Ok(made) = context.with_catalogue(|store| store.commit_of(self.request.id)) {
            if made.is_some() && context.staging.reopen(name).is_ok() {
                context.discard_upload(name);
            }
            if made.is_some()
                || !context.staging.contains(name)
                || began.elapsed() >= COMPLETION_WAIT
            {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.suspend();
    }
}
