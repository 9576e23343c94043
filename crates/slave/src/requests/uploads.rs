//! `put` and `resume`: content that comes in, into a staged file, until it is whole.
//!
//! Nothing here is visible to anybody. What is handed on in the end is sealed: nobody writes it any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use relais_proto::{
    Change, ChangeId, Digest, ErrorCode, Expect, FileTime, Kind, Mode, PutRequest, Refusal, Reply,
    Request, TreePath, WaitReason, limits,
};
use relais_tree::{OpenFile, TreeError, set_mode, set_times};

use super::change_ids::bound;
use super::{HandlerResult, KeepAlive, RequestContext, RequestOutcome, misrouted, refuse};
use crate::changes::{Commit, Proposal, changes_unavailable_at};
use crate::serving::ServingContext;
use crate::staging::StagedName;

/// Content up to this size is looked at only when it is whole; for more the target is looked at first, so that
/// nobody sends a lot in vain.
pub const SMALL: u64 = 64 * 1024;
/// Content from this size on is put on the disk by the worker, so that it does not hold up the changes of others.
const WORKER_SYNC_SIZE: u64 = limits::PIECE;
/// Bytes after which the limits and the disk's room are looked at again.
const SPACE_CHECK_BYTES: u64 = 4 * limits::PIECE;
/// How long the older connection of an upload may take to let go of it.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection that was lost waits for another one that may be completing its upload.
const COMPLETION_WAIT: Duration = Duration::from_secs(1);
/// How long a disk may take to store the content of an upload.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Seconds that some disks round times by.
const COARSEST_MTIME_S: u64 = 2;
/// Time between two looks whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Where the bytes go.
enum UploadTarget {
    /// Into the staged file.
    Staged(File),
    /// They are there already: an earlier connection sent all of them.
    Whole,
}

/// An upload under way.
pub struct Upload {
    put: PutRequest,
    name: StagedName,
    target: UploadTarget,
    hasher: blake3::Hasher,
    at: u64,
    /// The mode of the file where it is new.
    mode: Mode,
    /// Bytes of which the table of unfinished uploads knows.
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
    put.id = bound(context.session, put.id, "put", &[&put.path], put.size);
    let name = StagedName::new(put.id, &context.session.user, &put.path, put.size);
    let mut hasher = blake3::Hasher::new();
    let at = put.offset;
    if put.size != Some(at) || at == 0 {
        context
            .serving
            .check_room(&put.path, put.size.map_or(0, |size| size.saturating_sub(at)))?;
    }
    let sent = put.mode.unwrap_or(Mode::new(0o666));
    let mode = sent.masked(context.serving.umask).served(Kind::File);
    let file = match find_staged(context, &put.path, &name, true)? {
        StagedState::Whole => {
            return Ok(RequestOutcome::Upload(Box::new(Upload {
                put,
                name: name.sealed(),
                target: UploadTarget::Whole,
                hasher,
                at,
                mode,
                reported: at,
            })));
        }
        StagedState::Part(file) => file,
        StagedState::Nothing { .. } => {
            return Err(changes_unavailable_at(
                &put.path,
                "an earlier upload of it is just ending",
            ));
        }
    };
    let there = file.metadata().map_err(|e| cannot_stage(&put.path, e))?.len();
    if there < at {
        if there == 0 {
            context.serving.staging.discard(&name);
        }
        // All of it may have been here a moment ago, and its change is being made.
        if put.size == Some(at) && is_ending(context, put.id, &name)? {
            return Ok(RequestOutcome::Upload(Box::new(Upload {
                put,
                name: name.sealed(),
                target: UploadTarget::Whole,
                hasher,
                at,
                mode,
                reported: at,
            })));
        }
        return Err(Refusal::at(
            &put.path,
            ErrorCode::BadOffset,
            format!("only {there} bytes of the upload are here"),
        ));
    }
    // Before the content is sent in vain.
    if let Some(mtime) = put.mtime {
        store_time(&file, mtime, &put.path)
            .inspect_err(|_| context.serving.staging.discard(&name))?;
    }
    let more = put.size.map_or(0, |size| size.saturating_sub(at));
    if let Err(refusal) =
        context.serving.scoreboard.uploads().begin(&name, at, more, &context.serving.staging)
    {
        if there == 0 {
            context.serving.staging.discard(&name);
        }
        return Err(refusal);
    }
    if there > at {
        file.set_len(at).map_err(|e| cannot_stage(&put.path, e))?;
    }
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

pub(super) fn resume(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Resume { id, path, size } = request else { return Err(misrouted()) };
    let path = context.session.resolve(&path)?;
    let serving = context.serving;
    let id = bound(context.session, id, "put", &[&path], Some(size));
    if let Some(commit) = serving.with_catalogue(|reader| reader.commit_of(id))? {
        return committed(serving, commit, &path);
    }
    let name = StagedName::new(id, &context.session.user, &path, Some(size));
    let offset = match find_staged(context, &path, &name, false)? {
        StagedState::Whole => size,
        StagedState::Part(file) => Some(file.metadata().map_err(|e| cannot_stage(&path, e))?.len())
            .filter(|there| *there <= size)
            .unwrap_or(0),
        StagedState::Nothing { ending: false } => 0,
        // It was whole a moment ago: its change is being made.
        StagedState::Nothing { ending: true } => match wait_for_commit(context, id)? {
            Some(commit) => return committed(serving, commit, &path),
            None => 0,
        },
    };
    let current = Expect::exactly(serving.with_catalogue(|reader| reader.version_at(&path))?);
    Ok(RequestOutcome::Reply(Reply::Staged { offset, current }))
}

/// The answer to who asks for an upload that was put already.
fn committed(serving: &ServingContext, commit: Commit, path: &TreePath) -> HandlerResult {
    let Commit { version, digest } = commit;
    Ok(RequestOutcome::Reply(Reply::Committed {
        version,
        copies: 1,
        mark: serving.mark().max(version),
        digest,
        current: serving.is_current(path, version)?,
    }))
}

/// The change that is just being made; none where it is not made after all.
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

/// Whether an upload that is whole by its offset is known here: its change was made, or the file for it is there. One whose file has just got
/// its name is in the catalogue soon.
fn is_ending(
    context: &mut RequestContext<'_>,
    id: ChangeId,
    name: &StagedName,
) -> Result<bool, Refusal> {
    let began = Instant::now();
    loop {
        let known = context.serving.with_catalogue(|reader| reader.commit_of(id))?.is_some();
        if known || context.serving.staging.has(&name.sealed()) {
            return Ok(true);
        }
        if began.elapsed() >= COMPLETION_WAIT {
            return Ok(false);
        }
        std::thread::sleep(POLL_INTERVAL);
        context.keepalive.send_keepalive(WaitReason::Storing).map_err(|_| client_gone())?;
    }
}

/// What can be told before any byte is sent. What counts is what is there when the put is made.
fn check_target(serving: &ServingContext, path: &TreePath) -> Result<(), Refusal> {
    if serving.follows {
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

/// As [`check_target`], where the folder may lack what the tree has.
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

/// What an earlier connection has left of an upload.
enum StagedState {
    /// All of it: the file is sealed, and its change may be under way.
    Whole,
    /// Some of it; the file is ours as long as it is open.
    Part(File),
    /// Nothing; `ending` where an older connection has just completed it.
    Nothing { ending: bool },
}

/// Looks for what is staged, and takes it; with `make` an empty file where there is nothing. A connection that still sends this upload
/// is closed: its client has come back.
fn find_staged(
    context: &mut RequestContext<'_>,
    path: &TreePath,
    name: &StagedName,
    make: bool,
) -> Result<StagedState, Refusal> {
    let (began, mut met) = (Instant::now(), false);
    let staging = &context.serving.staging;
    loop {
        if staging.has(&name.sealed()) {
            return Ok(StagedState::Whole);
        }
        match if make { staging.claim(name) } else { staging.reopen(name) } {
            // Sealed between the two looks: what was made just now is of no use.
            Ok(_) if staging.has(&name.sealed()) => {
                staging.discard(name);
                return Ok(StagedState::Whole);
            }
            Ok(file) => return Ok(StagedState::Part(file)),
            Err(TreeError::NotFound) if staging.has(&name.sealed()) => {
                return Ok(StagedState::Whole);
            }
            Err(TreeError::NotFound) => return Ok(StagedState::Nothing { ending: met }),
            Err(TreeError::InUse) if began.elapsed() < HANDOVER_TIMEOUT => {
                met = true;
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

/// Sets the time of last modification. What is not stored to the second or two is refused: every replica has the time that the
/// client has sent, or, where this disk's times are coarser, the one that is stored here.
fn store_time(file: &File, mtime: FileTime, path: &TreePath) -> Result<(), Refusal> {
    set_times(file, mtime).map_err(|e| refuse(path, &e))?;
    let stored = file.metadata().map_err(|e| cannot_stage(path, e))?.mtime();
    if stored.abs_diff(mtime.seconds) <= COARSEST_MTIME_S {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::BadRequest,
        format!(
            "{path}: the server's disk cannot store its time of last modification, {} s since 1970, and would make it {stored} s; \
             give the file another time and put it again",
            mtime.seconds
        ),
    ))
}

/// Hashes what an earlier connection has sent.
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
    /// The name of the staged file.
    #[must_use]
    pub fn name(&self) -> &StagedName {
        &self.name
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Why the upload has failed; what was staged is gone then.
    pub fn write(&mut self, bytes: &[u8], serving: &ServingContext) -> Result<(), Refusal> {
        let end = self.at + bytes.len() as u64;
        if end > self.put.size.unwrap_or(limits::FILE_SIZE) {
            self.discard(serving);
            return Err(Refusal::at(
                &self.put.path,
                ErrorCode::BadRequest,
                "there are more bytes than announced",
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

    /// Notes how much has come, and makes room for what still comes.
    fn check_space(&mut self, serving: &ServingContext) -> Result<(), Refusal> {
        if matches!(self.target, UploadTarget::Whole) {
            return Ok(());
        }
        self.reported = self.at;
        let more = self.put.size.map_or(0, |size| size.saturating_sub(self.at));
        serving.scoreboard.uploads().begin(&self.name, self.at, more, &serving.staging)?;
        serving.check_room(&self.put.path, 0)
    }

    /// The content is whole, and `digest` is what the client says of it.
    ///
    /// # Errors
    /// Why it cannot be put.
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
            return self.finish_whole(digest, serving, keepalive);
        };
        if self.hasher.finalize().as_bytes() != &digest.0 {
            self.discard(serving);
            return Err(Refusal::at(
                &self.put.path,
                ErrorCode::Damaged,
                "the bytes that came do not have the digest",
            ));
        }
        // What could not be completed must not be taken for something that can be gone on with.
        let synced =
            self.complete(file, serving, keepalive).inspect_err(|_| self.discard(serving))?;
        match serving.staging.seal(&self.name) {
            Ok(sealed) => self
                .propose(digest, serving, sealed.clone(), synced)
                .inspect_err(|_| serving.discard_upload(&sealed)),
            // Another connection has sent the same upload and was faster.
            Err(TreeError::Taken) => {
                self.discard(serving);
                Self { name: self.name.sealed(), target: UploadTarget::Whole, ..self }
                    .finish_whole(digest, serving, keepalive)
            }
            Err(e) => {
                self.discard(serving);
                Err(refuse(&self.put.path, &e))
            }
        }
    }

    /// Gives the file its mode and time, and puts it on the disk where it is large; whether it did. The mode that counts is decided
    /// with the number of the change: where that is another, the file gets it before its name.
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

    /// An earlier connection has sent everything. Its change may be under way: then the sealed file is about to get its name, and what
    /// has its staged name for a moment is what it replaces.
    fn finish_whole(
        self,
        digest: Digest,
        serving: &ServingContext,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Proposal, Refusal> {
        let (began, mut other) = (Instant::now(), None);
        while began.elapsed() < HANDOVER_TIMEOUT {
            if serving.with_catalogue(|reader| reader.commit_of(self.put.id))?.is_some() {
                return Ok(self.known(digest));
            }
            match serving.staging.staged.open_read(self.name.as_str()) {
                Ok(file) if other == Some(file.meta.ino) => {}
                Ok(file) if self.hash_whole(&file, keepalive)?.as_bytes() == &digest.0 => {
                    match self.propose(digest, serving, self.name.clone(), false) {
                        // It has just got its name.
                        Err(refusal) if refusal.code == ErrorCode::NotFound => {}
                        result => return result,
                    }
                }
                Ok(file) => other = Some(file.meta.ino),
                Err(TreeError::NotFound) => {}
                Err(e) => return Err(refuse(&self.put.path, &e)),
            }
            std::thread::sleep(POLL_INTERVAL);
            keepalive.send_keepalive(WaitReason::Storing).map_err(|_| client_gone())?;
        }
        if !serving.staging.has(&self.name) {
            return Err(Refusal::at(
                &self.put.path,
                ErrorCode::BadOffset,
                "nothing of the upload is here",
            ));
        }
        Err(changes_unavailable_at(&self.put.path, "an earlier upload of it is still being stored"))
    }

    fn hash_whole(
        &self,
        file: &OpenFile,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<blake3::Hash, Refusal> {
        let mut hasher = blake3::Hasher::new();
        hash_staged(&file.file, file.meta.size, &mut hasher, &self.put.path, keepalive)?;
        Ok(hasher.finalize())
    }

    /// The change that was made already; its id brings its number.
    fn known(self, digest: Digest) -> Proposal {
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

    /// The connection is lost. What came of the upload stays, so that it can be gone on with; but where another connection has completed
    /// it meanwhile, nobody will. One that is doing so in this moment is waited for; whoever wants to go on can, since the file is free.
    pub fn suspend(self, serving: &ServingContext) {
        let Self { name, put, target: UploadTarget::Staged(file), at, .. } = self else { return };
        if at == 0 {
            return serving.discard_upload(&name);
        }
        serving.scoreboard.uploads().record_bytes(&name, at);
        drop(file);
        let left = Instant::now();
        while let Ok(made) = serving.with_catalogue(|reader| reader.commit_of(put.id)) {
            if made.is_some() && serving.staging.reopen(&name).is_ok() {
                serving.discard_upload(&name);
            }
            if made.is_some() || !serving.staging.has(&name) || left.elapsed() >= COMPLETION_WAIT {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn discard(&self, serving: &ServingContext) {
        serving.discard_upload(&self.name);
    }
}

/// Puts a file on the disk; whoever waits is told meanwhile.
fn sync(file: &File, keepalive: &mut dyn KeepAlive) -> io::Result<()> {
    let (began, file) = (Instant::now(), file.try_clone()?);
    let syncing =
        std::thread::Builder::new().name("sync".to_owned()).spawn(move || file.sync_all())?;
    while !syncing.is_finished() {
        if began.elapsed() >= SYNC_TIMEOUT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer"));
        }
        std::thread::sleep(Duration::from_millis(1));
        // Whether the client is still there is seen when it is answered.
        let _ = keepalive.send_keepalive(WaitReason::Storing);
    }
    syncing.join().map_err(|_| io::Error::other("the thread that syncs failed"))?
}
