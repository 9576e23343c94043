//! `put` and `resume`: content is received into a staged file until it is complete.
//!
//! No session can see a staged file. A complete one is sealed: nothing writes it any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use relais_proto::{
    Change, ChangeId, Digest, ErrorCode, Expect, FileTime, Kind, Lsn, Mode, PutRequest, Refusal,
    Reply, Request, TreePath, WaitReason, limits,
};
use relais_storage::{Commit, Proposal, StagedName, changes_unavailable_at};
use relais_tree::{OpenFile, TreeError, set_mode, set_times};

use super::change_ids::bind_id;
use super::requests::{
    HandlerResult, KeepAlive, RequestContext, RequestOutcome, misrouted, refuse,
};
use crate::engine::serving::ServingContext;

/// Size up to which the target of a put is checked only once the content has come.
///
/// For larger content the target is checked first, so that no client sends much in vain.
pub const SMALL: u64 = 64 * 1024;
/// Size from which on the worker syncs the content, so that other changes need not wait for it.
const WORKER_SYNC_SIZE: u64 = limits::PIECE;
/// Bytes after which limits and disk space are checked again.
const SPACE_CHECK_BYTES: u64 = 4 * limits::PIECE;
/// How long the older connection of an upload may take to release the file.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a lost upload waits for another connection that may be completing it.
const COMPLETION_WAIT: Duration = Duration::from_secs(1);
/// How long a disk may take to sync the content of an upload.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Time between two checks of something that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Where the bytes of an upload go.
enum UploadTarget {
    /// To the staged file.
    Staged(File),
    /// Nowhere: an earlier connection has sent all of them.
    Complete,
}

/// An upload under way.
pub struct Upload {
    put: PutRequest,
    name: StagedName,
    target: UploadTarget,
    hasher: blake3::Hasher,
    at: u64,
    /// Mode of the file if it is new.
    mode: Mode,
    /// Bytes that the table of unfinished uploads knows of.
    reported: u64,
}

pub(super) fn put(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Put(mut put) = request else { return Err(misrouted()) };
    if put.path.is_root() {
        return Err(Refusal::new(
            ErrorCode::IsFolder,
            format!("{}: a folder has that name", put.path),
        ));
    }
    put.path = context.session.resolve(&put.path)?;
    if put.size.is_none_or(|size| size > SMALL) {
        check_target(context.serving, &put.path)?;
    }
    put.id = bind_id(context.session, put.id, "put", &[&put.path], put.size);
    let name = StagedName::new(put.id, &context.session.user, &put.path, put.size);
    let at = put.offset;
    if put.size != Some(at) || at == 0 {
        context
            .serving
            .check_disk_space(&put.path, put.size.map_or(0, |size| size.saturating_sub(at)))?;
    }
    let requested_mode = put.mode.unwrap_or(Mode::new(0o666));
    let mode = requested_mode.masked(context.serving.umask).with_owner_access(Kind::File);
    let file = match find_staged(context, &put.path, &name, true)? {
        StagedState::Complete => return Ok(complete_upload(put, &name, mode)),
        StagedState::Partial(file) => file,
        StagedState::Missing { .. } => {
            return Err(changes_unavailable_at(
                &put.path,
                "an earlier upload of this file is just ending",
            ));
        }
    };
    let staged_len = file.metadata().map_err(|e| cannot_stage(&put.path, e))?.len();
    if staged_len < at {
        if staged_len == 0 {
            context.serving.staging.discard(&name);
        }
        // The whole upload may have been here a moment ago, and its change is being made.
        if put.size == Some(at) && is_complete_upload(context, put.id, &name)? {
            return Ok(complete_upload(put, &name, mode));
        }
        return Err(Refusal::at(
            &put.path,
            ErrorCode::BadOffset,
            format!("the server has only {staged_len} bytes of the upload"),
        ));
    }
    // Check the mtime before the client sends the content.
    if let Some(mtime) = put.mtime {
        store_time(&file, mtime, &put.path)
            .inspect_err(|_| context.serving.staging.discard(&name))?;
    }
    let remaining = put.size.map_or(0, |size| size.saturating_sub(at));
    if let Err(refusal) =
        context.serving.scoreboard.uploads().begin(&name, at, remaining, &context.serving.staging)
    {
        if staged_len == 0 {
            context.serving.staging.discard(&name);
        }
        return Err(refusal);
    }
    if staged_len > at {
        file.set_len(at).map_err(|e| cannot_stage(&put.path, e))?;
    }
    let mut hasher = blake3::Hasher::new();
    hash_staged(&file, at, &mut hasher, &put.path, context.keepalive)?;
    Ok(RequestOutcome::Upload(Box::new(Upload {
        put,
        name,
        target: UploadTarget::Staged(file),
        hasher,
        at,
        mode,
        reported: at,
    })))
}

/// Returns the upload of content that an earlier connection has sent completely.
fn complete_upload(put: PutRequest, name: &StagedName, mode: Mode) -> RequestOutcome {
    let at = put.offset;
    RequestOutcome::Upload(Box::new(Upload {
        put,
        name: name.sealed(),
        target: UploadTarget::Complete,
        hasher: blake3::Hasher::new(),
        at,
        mode,
        reported: at,
    }))
}

pub(super) fn resume(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Resume { id, path, size } = request else { return Err(misrouted()) };
    let path = context.session.resolve(&path)?;
    let serving = context.serving;
    let id = bind_id(context.session, id, "put", &[&path], Some(size));
    if let Some(commit) = serving.with_catalogue(|reader| reader.commit_of(id))?
        && !is_lost(context, &path, commit.version)?
    {
        return reply_committed(serving, commit, &path);
    }
    let name = StagedName::new(id, &context.session.user, &path, Some(size));
    let offset = match find_staged(context, &path, &name, false)? {
        StagedState::Complete => size,
        StagedState::Partial(file) => {
            Some(file.metadata().map_err(|e| cannot_stage(&path, e))?.len())
                .filter(|there| *there <= size)
                .unwrap_or(0)
        }
        StagedState::Missing { ending: false } => 0,
        // The upload was complete a moment ago: its change is being made.
        StagedState::Missing { ending: true } => match wait_for_commit(context, id)? {
            Some(commit) => return reply_committed(serving, commit, &path),
            None => 0,
        },
    };
    let current = Expect::exactly(serving.with_catalogue(|reader| reader.version_at(&path))?);
    Ok(RequestOutcome::Reply(Reply::Staged { offset, current }))
}

/// Whether no server that is known has the content of a committed put. The upload restores it.
fn is_lost(context: &RequestContext<'_>, path: &TreePath, put: Lsn) -> Result<bool, Refusal> {
    let serving = context.serving;
    let Some((row, holders)) = serving.with_catalogue(|reader| reader.at(path))? else {
        return Ok(false);
    };
    Ok(row.content == Some(put)
        && !row.here
        && holders.is_empty()
        && serving.ask_holders(put, &context.session.owner).is_empty())
}

/// Returns the answer for an upload whose change was made already.
fn reply_committed(serving: &ServingContext, commit: Commit, path: &TreePath) -> HandlerResult {
    let Commit { version, digest } = commit;
    Ok(RequestOutcome::Reply(Reply::Committed {
        version,
        copies: 1,
        lsn: serving.visible_lsn().max(version),
        digest,
        current: serving.is_current(path, version)?,
    }))
}

/// Waits for the change of a complete upload; none if it is not made after all.
fn wait_for_commit(
    context: &mut RequestContext<'_>,
    id: ChangeId,
) -> Result<Option<Commit>, Refusal> {
    let began = Instant::now();
    loop {
        let commit = context.serving.with_catalogue(|reader| reader.commit_of(id))?;
        if commit.is_some() || began.elapsed() >= HANDOVER_TIMEOUT {
            return Ok(commit);
        }
        std::thread::sleep(POLL_INTERVAL);
        context.keepalive.send_keepalive(WaitReason::Storing).map_err(|_| client_gone())?;
    }
}

/// Whether a complete upload is known here: its change was made, or its sealed file exists.
///
/// A file that has just got its final name appears in the catalogue soon.
fn is_complete_upload(
    context: &mut RequestContext<'_>,
    id: ChangeId,
    name: &StagedName,
) -> Result<bool, Refusal> {
    let began = Instant::now();
    loop {
        let known = context.serving.with_catalogue(|reader| reader.commit_of(id))?.is_some();
        if known || context.serving.staging.contains(&name.sealed()) {
            return Ok(true);
        }
        if began.elapsed() >= COMPLETION_WAIT {
            return Ok(false);
        }
        std::thread::sleep(POLL_INTERVAL);
        context.keepalive.send_keepalive(WaitReason::Storing).map_err(|_| client_gone())?;
    }
}

/// Checks the target of a put before its content is sent.
///
/// The check that counts is made with the change itself.
fn check_target(serving: &ServingContext, path: &TreePath) -> Result<(), Refusal> {
    if serving.is_cluster_member {
        return check_target_in_tree(serving, path);
    }
    let Some((parent, _)) = path.split_last() else {
        return Err(Refusal::at(path, ErrorCode::IsFolder, "a folder has that name"));
    };
    serving.folder.open_folder(&parent).map_err(|e| refuse(&parent, &e))?;
    match serving.folder.stat(path) {
        Ok(meta) if meta.served_kind() == Some(Kind::File) => Ok(()),
        Ok(meta) if meta.served_kind() == Some(Kind::Folder) => {
            Err(Refusal::at(path, ErrorCode::IsFolder, "a folder has that name"))
        }
        Ok(_) => Err(Refusal::at(
            path,
            ErrorCode::NotServed,
            "something that is not served has that name",
        )),
        Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(refuse(path, &e)),
    }
}

/// As [`check_target`], by the tree: the folder may lack what the tree has.
fn check_target_in_tree(serving: &ServingContext, path: &TreePath) -> Result<(), Refusal> {
    let kind = |path: &TreePath| {
        serving
            .with_catalogue(|reader| reader.at(path))
            .map(|found| found.map(|(row, _)| row.entry.kind))
    };
    let Some((parent, _)) = path.split_last() else {
        return Err(Refusal::at(path, ErrorCode::IsFolder, "a folder has that name"));
    };
    if !parent.is_root() {
        match kind(&parent)? {
            Some(Kind::Folder) => {}
            Some(Kind::File) => return Err(refuse(&parent, &TreeError::NotFolder)),
            None => {
                return Err(Refusal::at(
                    &parent,
                    ErrorCode::NotFound,
                    "no such folder; make it first",
                ));
            }
        }
    }
    match kind(path)? {
        Some(Kind::Folder) => Err(Refusal::at(path, ErrorCode::IsFolder, "a folder has that name")),
        Some(Kind::File) | None => Ok(()),
    }
}

/// What earlier connections have left of an upload.
enum StagedState {
    /// All of it: the file is sealed, and its change may be on its way.
    Complete,
    /// Part of it; the file stays locked while it is open.
    Partial(File),
    /// Nothing; `ending` if an older connection has just completed the upload.
    Missing { ending: bool },
}

/// Finds and locks the staged file of an upload; `make` creates it if there is none.
///
/// A connection that still sends this upload is closed, because its client has come back.
fn find_staged(
    context: &mut RequestContext<'_>,
    path: &TreePath,
    name: &StagedName,
    make: bool,
) -> Result<StagedState, Refusal> {
    let (began, mut was_in_use) = (Instant::now(), false);
    let staging = &context.serving.staging;
    loop {
        if staging.contains(&name.sealed()) {
            return Ok(StagedState::Complete);
        }
        match if make { staging.claim(name) } else { staging.reopen(name) } {
            // The file was sealed between the two checks, so the new one is of no use.
            Ok(_) if staging.contains(&name.sealed()) => {
                staging.discard(name);
                return Ok(StagedState::Complete);
            }
            Ok(file) => return Ok(StagedState::Partial(file)),
            Err(TreeError::NotFound) if staging.contains(&name.sealed()) => {
                return Ok(StagedState::Complete);
            }
            Err(TreeError::NotFound) => return Ok(StagedState::Missing { ending: was_in_use }),
            Err(TreeError::InUse) if began.elapsed() < HANDOVER_TIMEOUT => {
                was_in_use = true;
                context.serving.uploads.end_everywhere(name);
            }
            Err(TreeError::InUse) => {
                return Err(Refusal::at(
                    path,
                    ErrorCode::Busy,
                    "another connection is still sending this upload",
                ));
            }
            Err(e) => return Err(refuse(path, &e)),
        }
        std::thread::sleep(POLL_INTERVAL);
        context.keepalive.send_keepalive(WaitReason::Storing).map_err(|_| client_gone())?;
    }
}

fn client_gone() -> Refusal {
    Refusal::new(ErrorCode::Cut, "the client has gone")
}

fn cannot_stage(path: &TreePath, error: io::Error) -> Refusal {
    refuse(path, &TreeError::Io("write the staged file", error))
}

/// Sets the mtime of a staged file.
///
/// All replicas must have the time that the client has sent, or the time that a coarser disk here
/// stores. So a time is refused if the disk clamps it.
fn store_time(file: &File, mtime: FileTime, path: &TreePath) -> Result<(), Refusal> {
    let store = |seconds: i64| {
        set_times(file, FileTime { seconds, ..mtime }).map_err(|e| refuse(path, &e))?;
        Ok(file.metadata().map_err(|e| cannot_stage(path, e))?.mtime())
    };
    let stored = store(mtime.seconds)?;
    if stored == mtime.seconds {
        return Ok(());
    }
    // FAT stores even seconds. A disk with that as its latest time would clamp the next one too.
    if is_even_second_of(stored, mtime.seconds) {
        let next = mtime.seconds.saturating_add(1);
        if store(next)? == next {
            return store(mtime.seconds).map(drop);
        }
    }
    Err(Refusal::new(
        ErrorCode::BadRequest,
        format!(
            "{path}: the server's disk cannot store its time of last modification, \
             {} s since 1970, and would make it {stored} s; \
             give the file another time and put it again",
            mtime.seconds
        ),
    ))
}

/// Whether a disk that stores only even seconds stores `seconds` as `stored`.
fn is_even_second_of(stored: i64, seconds: i64) -> bool {
    seconds % 2 != 0 && seconds.checked_sub(1) == Some(stored)
}

/// Hashes what earlier connections have sent.
fn hash_staged(
    file: &File,
    len: u64,
    hasher: &mut blake3::Hasher,
    path: &TreePath,
    keepalive: &mut dyn KeepAlive,
) -> Result<(), Refusal> {
    let mut buffer = vec![0; usize::try_from(len.min(limits::PIECE)).unwrap_or(0)];
    let mut at = 0;
    while at < len {
        keepalive.send_keepalive(WaitReason::Hashing).map_err(|_| client_gone())?;
        let want = usize::try_from((len - at).min(limits::PIECE)).unwrap_or(0);
        file.read_exact_at(&mut buffer[..want], at).map_err(|e| cannot_stage(path, e))?;
        hasher.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(())
}

impl Upload {
    /// Returns the name of the staged file.
    #[must_use]
    pub fn name(&self) -> &StagedName {
        &self.name
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The reason why the upload has failed. Its staged file is discarded.
    pub fn write(&mut self, bytes: &[u8], serving: &ServingContext) -> Result<(), Refusal> {
        let end = self.at + bytes.len() as u64;
        if end > self.put.size.unwrap_or(limits::FILE_SIZE) {
            self.discard(serving);
            return Err(Refusal::at(
                &self.put.path,
                ErrorCode::BadRequest,
                "the upload has more bytes than announced",
            ));
        }
        if let UploadTarget::Staged(file) = &self.target {
            if let Err(e) = file.write_all_at(bytes, self.at) {
                self.discard(serving);
                return Err(cannot_stage(&self.put.path, e));
            }
            self.hasher.update(bytes);
        }
        self.at = end;
        if end - self.reported >= SPACE_CHECK_BYTES
            && let Err(refusal) = self.check_space(serving)
        {
            self.discard(serving);
            return Err(refusal);
        }
        Ok(())
    }

    /// Reports the received bytes to the table of uploads, and makes room for the rest.
    fn check_space(&mut self, serving: &ServingContext) -> Result<(), Refusal> {
        if matches!(self.target, UploadTarget::Complete) {
            return Ok(());
        }
        self.reported = self.at;
        let remaining = self.put.size.map_or(0, |size| size.saturating_sub(self.at));
        serving.scoreboard.uploads().begin(&self.name, self.at, remaining, &serving.staging)?;
        serving.check_disk_space(&self.put.path, 0)
    }

    /// Completes the upload; `digest` is what the client says about the content.
    ///
    /// # Errors
    /// The reason why the content cannot be put.
    pub fn finish(
        self,
        digest: Digest,
        serving: &ServingContext,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Proposal, Refusal> {
        if self.put.size.is_some_and(|size| size != self.at) {
            let message = format!("the upload ended at byte {}", self.at);
            if matches!(self.target, UploadTarget::Staged(_)) {
                self.discard(serving);
            }
            return Err(Refusal::at(&self.put.path, ErrorCode::BadRequest, message));
        }
        let UploadTarget::Staged(file) = &self.target else {
            return self.finish_complete(digest, serving, keepalive);
        };
        if self.hasher.finalize().as_bytes() != &digest.0 {
            self.discard(serving);
            return Err(Refusal::at(
                &self.put.path,
                ErrorCode::Damaged,
                "the received bytes do not match the digest",
            ));
        }
        // A file that could not be completed must not look like one that can be resumed.
        let synced =
            self.complete(file, serving, keepalive).inspect_err(|_| self.discard(serving))?;
        match serving.staging.seal(&self.name) {
            Ok(sealed) => self
                .propose(digest, serving, sealed.clone(), synced)
                .inspect_err(|_| serving.discard_upload(&sealed)),
            // Another connection has sent the same upload, and was faster.
            Err(TreeError::Taken) => {
                self.discard(serving);
                Self { name: self.name.sealed(), target: UploadTarget::Complete, ..self }
                    .finish_complete(digest, serving, keepalive)
            }
            Err(e) => {
                self.discard(serving);
                Err(refuse(&self.put.path, &e))
            }
        }
    }

    /// Sets mode and mtime of the file, and syncs it if it is large; true if it is synced.
    ///
    /// The final mode is decided when the change gets its number. If it differs, the file gets it
    /// before its final name.
    fn complete(
        &self,
        file: &File,
        serving: &ServingContext,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<bool, Refusal> {
        let failed = |e: TreeError| refuse(&self.put.path, &e);
        let there = serving.with_catalogue(|reader| reader.at(&self.put.path))?;
        let kept =
            there.filter(|(row, _)| row.entry.kind == Kind::File).map(|(row, _)| row.entry.mode);
        set_mode(file, kept.unwrap_or(self.mode)).map_err(failed)?;
        if let Some(mtime) = self.put.mtime {
            store_time(file, mtime, &self.put.path)?;
        }
        if self.at < WORKER_SYNC_SIZE {
            return Ok(false);
        }
        sync(file, keepalive).map_err(|e| cannot_stage(&self.put.path, e))?;
        Ok(true)
    }

    fn propose(
        &self,
        digest: Digest,
        serving: &ServingContext,
        sealed: StagedName,
        synced: bool,
    ) -> Result<Proposal, Refusal> {
        let path = self.put.path.clone();
        let meta = serving
            .staging
            .staged
            .stat_part(sealed.as_str().as_bytes())
            .map_err(|e| refuse(&path, &e))?;
        let change =
            Change::Put { path, size: meta.size, digest, mtime: meta.mtime, mode: self.mode };
        Ok(Proposal {
            id: self.put.id,
            change,
            expect: self.put.expect,
            keep_mode: true,
            staged: Some(sealed),
            synced,
            copies: self.put.copies,
        })
    }

    /// Makes the proposal for content that an earlier connection has sent completely.
    ///
    /// Its change may be on its way: then the sealed file is about to get its final name. For a
    /// moment the staged name belongs to the file that it replaces.
    fn finish_complete(
        self,
        digest: Digest,
        serving: &ServingContext,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Proposal, Refusal> {
        let (began, mut replaced_inode) = (Instant::now(), None);
        while began.elapsed() < HANDOVER_TIMEOUT {
            if serving.with_catalogue(|reader| reader.commit_of(self.put.id))?.is_some() {
                return Ok(self.committed_proposal(digest));
            }
            match serving.staging.staged.open_read(self.name.as_str()) {
                Ok(file) if replaced_inode == Some(file.meta.ino) => {}
                Ok(file) if self.hash_complete(&file, keepalive)?.as_bytes() == &digest.0 => {
                    match self.propose(digest, serving, self.name.clone(), false) {
                        // The file has just got its final name.
                        Err(refusal) if refusal.code == ErrorCode::NotFound => {}
                        result => return result,
                    }
                }
                Ok(file) => replaced_inode = Some(file.meta.ino),
                Err(TreeError::NotFound) => {}
                Err(e) => return Err(refuse(&self.put.path, &e)),
            }
            std::thread::sleep(POLL_INTERVAL);
            keepalive.send_keepalive(WaitReason::Storing).map_err(|_| client_gone())?;
        }
        if !serving.staging.contains(&self.name) {
            return Err(Refusal::at(
                &self.put.path,
                ErrorCode::BadOffset,
                "the server has no part of the upload",
            ));
        }
        Err(changes_unavailable_at(
            &self.put.path,
            "an earlier upload of this file is still being stored",
        ))
    }

    fn hash_complete(
        &self,
        file: &OpenFile,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<blake3::Hash, Refusal> {
        let mut hasher = blake3::Hasher::new();
        hash_staged(&file.file, file.meta.size, &mut hasher, &self.put.path, keepalive)?;
        Ok(hasher.finalize())
    }

    /// Returns the proposal of a change that was made already; its id leads to its number.
    fn committed_proposal(self, digest: Digest) -> Proposal {
        let mode = self.mode;
        let PutRequest { id, path, size, mtime, expect, copies, .. } = self.put;
        let change = Change::Put {
            path,
            size: size.unwrap_or(self.at),
            digest,
            mtime: mtime.unwrap_or_default(),
            mode,
        };
        Proposal { id, change, expect, keep_mode: true, staged: None, synced: false, copies }
    }

    /// Keeps what has come of an upload whose connection is lost, so that it can be resumed.
    ///
    /// If another connection has completed the upload meanwhile the rest is discarded, because no
    /// client will resume it. This call waits for one that is doing so now. The file is unlocked
    /// meanwhile, so a client can resume at any time.
    pub fn suspend(self, serving: &ServingContext) {
        let Self { name, put, target: UploadTarget::Staged(file), at, .. } = self else { return };
        if at == 0 {
            return serving.discard_upload(&name);
        }
        serving.scoreboard.uploads().record_bytes(&name, at);
        drop(file);
        let began = Instant::now();
        while let Ok(made) = serving.with_catalogue(|reader| reader.commit_of(put.id)) {
            if made.is_some() && serving.staging.reopen(&name).is_ok() {
                serving.discard_upload(&name);
            }
            if made.is_some()
                || !serving.staging.contains(&name)
                || began.elapsed() >= COMPLETION_WAIT
            {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn discard(&self, serving: &ServingContext) {
        serving.discard_upload(&self.name);
    }
}

/// Syncs a file, and keeps the client's connection alive meanwhile.
fn sync(file: &File, keepalive: &mut dyn KeepAlive) -> io::Result<()> {
    let (began, file) = (Instant::now(), file.try_clone()?);
    let syncing =
        std::thread::Builder::new().name("sync".to_owned()).spawn(move || file.sync_all())?;
    while !syncing.is_finished() {
        if began.elapsed() >= SYNC_TIMEOUT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer"));
        }
        std::thread::sleep(Duration::from_millis(1));
        // A client that has gone is noticed when it is answered.
        let _ = keepalive.send_keepalive(WaitReason::Storing);
    }
    syncing.join().map_err(|_| io::Error::other("the thread that syncs failed"))?
}
