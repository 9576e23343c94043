//! SHA-256 hashes of contents: stored ones, or computed once for all requests that wait for them.
//!
//! A short thread computes the hashes of one content, because the content may be too large for the
//! patience of any client. It goes on if all have given up, and the next request finds the result.
//! The other workers of the slave see by a locked file in staging that one of them is at work.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use relais_proto::{
    Change, ChangeId, ContentHashes, Digest, Endpoint, ErrorCode, Lsn, Refusal, TreePath,
    WaitReason, limits,
};
use relais_storage::{EntryFacts, FileIdentity, Proposal, StagedName};
use relais_tree::{OpenFile, TreeError};

use crate::change::PreparedChange;
use crate::computations::Computation;
use crate::content::{self, Content, Located, check_unchanged, hashing_failed};
use crate::content_hasher::ContentHasher;
use crate::context::SessionContext;
use crate::engine::stopping;
use crate::keep_alive::{KeepAlive, keep_waiting, poll};
use crate::pending_changes::PendingChanges;
use crate::session::Session;
use crate::transfer_log::TransferRecord;

/// How long a request waits for a place among them.
const PLACE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two checks of something that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A computation under way. Dropping it ends the computation in any case.
struct Running {
    context: Arc<SessionContext>,
    file: FileIdentity,
    computation: Arc<Computation>,
}

impl Session {
    /// Returns the SHA-256 hashes of a file. Unknown ones are computed, which may take long, and
    /// recorded for all slaves.
    ///
    /// If `keepalive` cancels the wait the computation goes on.
    ///
    /// # Errors
    /// [`ErrorCode::Damaged`] if the content does not have its digest; [`ErrorCode::Changed`] if it
    /// changes meanwhile; [`ErrorCode::Busy`] if too many contents are being hashed; those of
    /// [`Session::open`].
    pub fn sha256(
        &self,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<ContentHashes>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            Ok(match find(context, &path, keepalive)? {
                Found::Known(_, hashes) => Located::Here(hashes),
                Found::Elsewhere(holders) => Located::Elsewhere(holders),
                Found::Computing(computation) => {
                    Located::Here(wait(context, &computation, keepalive)?)
                }
            })
        }))
    }

    /// Returns the SHA-256 hashes of content with a digest if they are known, without waiting.
    ///
    /// # Errors
    /// Those of the path; [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn known_sha256(
        &self,
        path: &TreePath,
        digest: Digest,
    ) -> Result<Option<ContentHashes>, Refusal> {
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            let row = context.with_catalogue(|store| store.row(&path))?;
            let row = row.filter(|row| row.digest == Some(digest));
            stored(context, row.and_then(|row| row.content))
        }))
    }

    /// Has the SHA-256 hashes of a file recorded for a master that lacks them.
    ///
    /// A master forgets hashes above a limit, and slaves do not.
    ///
    /// # Errors
    /// [`ErrorCode::Exists`] if the master has them; [`ErrorCode::NoContent`] if the content is not
    /// here; as [`Self::sha256`].
    pub fn record_sha256(
        &self,
        path: &TreePath,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<(), Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            match find(context, &path, keepalive)? {
                Found::Known(put, hashes) => record(context, put, hashes, keepalive),
                Found::Computing(computation) => wait(context, &computation, keepalive).map(drop),
                Found::Elsewhere(_) => {
                    let message = "the content is not on this slave";
                    Err(Refusal::at(&path, ErrorCode::NoContent, message))
                }
            }
        }))
    }
}

/// Where the hashes of a file come from.
enum Found {
    /// They are stored, for the content of this put.
    Known(Lsn, ContentHashes),
    /// They are being computed.
    Computing(Arc<Computation>),
    /// They are unknown, and the content is on other slaves.
    Elsewhere(Vec<Endpoint>),
}

/// Finds the hashes of a file, or begins to compute them.
fn find(
    context: &Arc<SessionContext>,
    path: &TreePath,
    keepalive: &mut dyn KeepAlive,
) -> Result<Found, Refusal> {
    let known = |put: Option<Lsn>| {
        let known = stored(context, put)?;
        Ok::<_, Refusal>(put.zip(known).map(|(put, hashes)| Found::Known(put, hashes)))
    };
    match content::open(context, path, keepalive)? {
        Located::Here(found) => {
            let (facts, file) = (found.facts(context, path)?, found.file);
            match known(facts.content)? {
                Some(found) => Ok(found),
                None => join(context, path, file, facts, keepalive).map(Found::Computing),
            }
        }
        Located::Elsewhere(holders) => {
            let row = context.with_catalogue(|store| store.row(path))?;
            let found = known(row.and_then(|row| row.content))?;
            Ok(found.unwrap_or(Found::Elsewhere(holders)))
        }
    }
}

impl Content {
    /// Returns the SHA-256 hashes if they are known.
    ///
    /// # Errors
    /// [`ErrorCode::Storage`] if the catalogue cannot be read.
    pub fn known_sha256(&self) -> Result<Option<ContentHashes>, Refusal> {
        stored(&self.context, self.version())
    }
}

impl Running {
    fn end(&self, result: Result<ContentHashes, Refusal>) {
        self.context.computations.end(&self.file, &self.computation, result);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Err(Refusal::new(ErrorCode::Storage, "the slave could not hash the file")));
    }
}

/// Ends the work of a thread without a client when the process stops.
struct Unattended<'a>(&'a SessionContext);

impl KeepAlive for Unattended<'_> {
    fn send_keepalive(&mut self, _: WaitReason) -> io::Result<()> {
        if self.0.is_stopping() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// Returns the stored hashes of a put's content.
pub(crate) fn stored(
    context: &SessionContext,
    put: Option<Lsn>,
) -> Result<Option<ContentHashes>, Refusal> {
    let Some(put) = put else { return Ok(None) };
    // Hashes come by changes. Many slaves never have any, and need not look for each file's.
    let applied = context.host().applied_lsn();
    if applied != Lsn::default() && *context.unhashed_at.lock() == Some(applied) {
        return Ok(None);
    }
    let (found, has_any) = context.with_catalogue(|store| {
        let found = store.content_hashes(put)?;
        Ok((found.clone(), found.is_some() || store.has_hashes()?))
    })?;
    *context.unhashed_at.lock() = (!has_any).then_some(applied);
    Ok(found)
}

/// Joins the computation for a file, or begins it once there is a place.
fn join(
    context: &Arc<SessionContext>,
    path: &TreePath,
    file: OpenFile,
    facts: EntryFacts,
    keepalive: &mut dyn KeepAlive,
) -> Result<Arc<Computation>, Refusal> {
    let key = FileIdentity::from(&file.meta);
    let limits = (PLACE_TIMEOUT, POLL_INTERVAL);
    let joined =
        poll(limits, WaitReason::Hashing, keepalive, |_| Ok(context.computations.join(key)))?;
    let Some((computation, is_new)) = joined else {
        let message = "the slave is hashing too many other files";
        return Err(Refusal::at(path, ErrorCode::Busy, message));
    };
    if is_new {
        let running =
            Running { context: context.clone(), file: key, computation: computation.clone() };
        let path = path.clone();
        let work = move || {
            let context = &running.context;
            running.end(find_or_compute(context, &path, &file, &facts));
        };
        // If the thread cannot be started, the computation ends with a refusal.
        if let Err(e) = std::thread::Builder::new().name("sha256".to_owned()).spawn(work) {
            warn!("cannot start a thread to hash a file: {e}");
        }
    }
    Ok(computation)
}

/// Waits for the result of a computation.
fn wait(
    context: &SessionContext,
    computation: &Computation,
    keepalive: &mut dyn KeepAlive,
) -> Result<ContentHashes, Refusal> {
    loop {
        if let Some(result) = computation.wait(POLL_INTERVAL) {
            return result;
        }
        if context.is_stopping() {
            return Err(stopping());
        }
        keep_waiting(keepalive, WaitReason::Hashing)?;
    }
}

/// Computes and records the hashes of a file, unless another worker does.
fn find_or_compute(
    context: &Arc<SessionContext>,
    path: &TreePath,
    file: &OpenFile,
    facts: &EntryFacts,
) -> Result<ContentHashes, Refusal> {
    let Some(put) = facts.content else { return compute(context, path, file, facts.digest) };
    let name = StagedName::for_hashing(put);
    let claimed = claim(context, &name, put)?;
    if let Some(known) = stored(context, Some(put))? {
        return Ok(known);
    }
    let result = compute(context, path, file, facts.digest).inspect(|hashes| {
        let mut unattended = Unattended(context);
        if let Err(e) = record(context, put, hashes.clone(), &mut unattended) {
            debug!("the SHA-256 hashes of {path} are not recorded: {e}");
        }
    });
    if claimed.is_some() {
        context.staging.discard(&name);
    }
    result
}

/// Waits until no other worker hashes the content of a put. Returns the locked file that says so;
/// none if the hashes are stored, or the disk has no room for the file.
fn claim(context: &SessionContext, name: &StagedName, put: Lsn) -> Result<Option<File>, Refusal> {
    loop {
        match context.staging.claim(name) {
            Ok(file) => return Ok(Some(file)),
            Err(TreeError::InUse) => {}
            Err(e) => {
                debug!("other workers may hash the same content: {}", e.reason());
                return Ok(None);
            }
        }
        if stored(context, Some(put))?.is_some() {
            return Ok(None);
        }
        keep_waiting(&mut Unattended(context), WaitReason::Hashing)?;
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Hashes a file, and checks that it has its digest.
fn compute(
    context: &SessionContext,
    path: &TreePath,
    file: &OpenFile,
    digest: Option<Digest>,
) -> Result<ContentHashes, Refusal> {
    let size = file.meta.size;
    let (mut sha256, mut blake3) = (ContentHasher::new(Some(size)), blake3::Hasher::new());
    let mut unattended = Unattended(context);
    let mut turns = context.hashing(&mut unattended);
    let piece = |left: u64| usize::try_from(left.min(limits::PIECE)).unwrap_or(0);
    let (mut at, mut buffer) = (0, vec![0; piece(size)]);
    while at < size {
        let buffer = &mut buffer[..piece(size - at)];
        let read = turns.next().and_then(|()| file.file.read_exact_at(buffer, at));
        read.map_err(|e| hashing_failed(path, &e))?;
        sha256.update(buffer);
        blake3.update(buffer);
        at += buffer.len() as u64;
    }
    check_unchanged(path, file)?;
    let is_damaged = digest.is_some_and(|digest| digest.0 != *blake3.finalize().as_bytes());
    if is_damaged && context.settings.is_cluster_member {
        context.host().report_damaged(path);
    }
    let damaged = || Refusal::at(path, ErrorCode::Damaged, "the content does not match its digest");
    sha256.finish().filter(|_| !is_damaged).ok_or_else(damaged)
}

/// Has the hashes of a content recorded, on all slaves.
fn record(
    context: &Arc<SessionContext>,
    put: Lsn,
    hashes: ContentHashes,
    keepalive: &mut dyn KeepAlive,
) -> Result<(), Refusal> {
    let id = relais_os::random().map_err(|e| Refusal::new(ErrorCode::Storage, e.to_string()))?;
    let proposal = Proposal::new(ChangeId(id), Change::RecordSha256 { put, hashes });
    let change = PreparedChange::new(proposal, TransferRecord::default());
    PendingChanges::new(context.clone()).commit(change, keepalive).map(drop)
}
