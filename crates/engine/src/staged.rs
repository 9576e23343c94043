//! The staged file of an upload: found, locked, hashed again and given its time.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use relais_proto::{ChangeId, ErrorCode, FileTime, Refusal, TreePath, WaitReason, limits};
use relais_storage::{Commit, StagedName, refuse};
use relais_tree::{TreeError, set_times};

use crate::context::SessionContext;
use crate::keep_alive::{KeepAlive, client_gone, poll};
use crate::staged_hasher::StagedHasher;

/// How long the older session of an upload may take to release the file.
pub(crate) const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a lost upload waits for another session that may be completing it.
pub(crate) const COMPLETION_WAIT: Duration = Duration::from_secs(1);
/// How long a disk may take to sync the content of an upload.
const SYNC_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// Time between two checks of something that is waited for.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What earlier sessions have left of an upload.
pub(crate) enum StagedState {
    /// All of it: the file is sealed, and its change may be on its way.
    Complete,
    /// Part of it; the file stays locked while it is open.
    Partial(File),
    /// Nothing; `ending` if an older session has just completed the upload.
    Missing { ending: bool },
}

/// Finds and locks the staged file of an upload; `make` creates it if there is none.
///
/// A session that still receives this upload is disconnected, because its client has come back.
pub(crate) fn find_staged(
    context: &SessionContext,
    path: &TreePath,
    name: &StagedName,
    make: bool,
    keepalive: &mut dyn KeepAlive,
) -> Result<StagedState, Refusal> {
    let (staging, mut was_in_use) = (&context.staging, false);
    let limits = (HANDOVER_TIMEOUT, POLL_INTERVAL);
    let found = poll(limits, WaitReason::Storing, keepalive, |_| {
        match if make { staging.claim(name) } else { staging.reopen(name) } {
            // The file was sealed before, so this one is of no use.
            Ok(_) if staging.contains(&name.sealed()) => {
                staging.discard(name);
                Ok(Some(StagedState::Complete))
            }
            Ok(file) => Ok(Some(StagedState::Partial(file))),
            Err(TreeError::NotFound | TreeError::InUse) if staging.contains(&name.sealed()) => {
                Ok(Some(StagedState::Complete))
            }
            Err(TreeError::NotFound) => Ok(Some(StagedState::Missing { ending: was_in_use })),
            Err(TreeError::InUse) => {
                was_in_use = true;
                context.end_upload_everywhere(name);
                Ok(None)
            }
            Err(e) => Err(refuse(path, &e)),
        }
    })?;
    found.ok_or_else(|| {
        let message = "another connection is still sending this upload";
        Refusal::at(path, ErrorCode::Busy, message)
    })
}

/// Waits for the change of a complete upload; none if it is not made after all.
pub(crate) fn wait_for_commit(
    context: &SessionContext,
    id: ChangeId,
    keepalive: &mut dyn KeepAlive,
) -> Result<Option<Commit>, Refusal> {
    poll((HANDOVER_TIMEOUT, POLL_INTERVAL), WaitReason::Storing, keepalive, |_| {
        context.with_catalogue(|store| store.commit_of(id))
    })
}

/// Whether a complete upload is known here: its change was made, or its sealed file exists.
///
/// A file that has just got its final name appears in the catalogue soon.
pub(crate) fn is_complete_upload(
    context: &SessionContext,
    id: ChangeId,
    name: &StagedName,
    keepalive: &mut dyn KeepAlive,
) -> Result<bool, Refusal> {
    let known = poll((COMPLETION_WAIT, POLL_INTERVAL), WaitReason::Storing, keepalive, |_| {
        let commit = context.with_catalogue(|store| store.commit_of(id))?;
        Ok((commit.is_some() || context.staging.contains(&name.sealed())).then_some(()))
    });
    Ok(known?.is_some())
}

pub(crate) fn cannot_stage(path: &TreePath, error: io::Error) -> Refusal {
    refuse(path, &TreeError::Io("write the staged file", error))
}

/// Returns the mtime of a file.
pub(crate) fn mtime_of(file: &File) -> io::Result<FileTime> {
    let meta = file.metadata()?;
    let nanos = u32::try_from(meta.mtime_nsec()).unwrap_or_default();
    Ok(FileTime { seconds: meta.mtime(), nanos })
}

/// Sets the mtime of a staged file, and returns the one that the disk has stored.
///
/// All replicas must have the time that the client has sent, or the time that a coarser disk here
/// stores. So a time is refused if the disk clamps it.
pub(crate) fn store_time(
    file: &File,
    mtime: FileTime,
    path: &TreePath,
) -> Result<FileTime, Refusal> {
    let store = |seconds: i64| {
        set_times(file, FileTime { seconds, ..mtime }).map_err(|e| refuse(path, &e))?;
        mtime_of(file).map_err(|e| cannot_stage(path, e))
    };
    let found = store(mtime.seconds)?;
    let stored = found.seconds;
    if stored == mtime.seconds {
        return Ok(found);
    }
    // FAT stores even seconds. A disk with that as its latest time would clamp the next one too.
    if is_even_second_of(stored, mtime.seconds) {
        let next = mtime.seconds.saturating_add(1);
        if store(next)?.seconds == next {
            return store(mtime.seconds);
        }
    }
    Err(Refusal::at(
        path,
        ErrorCode::BadRequest,
        format!(
            "the server's disk cannot store its time of last modification, \
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

/// Hashes the first `len` bytes of a staged file, whose content will have `size` bytes.
pub(crate) fn hash_staged(
    context: &SessionContext,
    file: &File,
    (len, size): (u64, Option<u64>),
    path: &TreePath,
    keepalive: &mut dyn KeepAlive,
) -> Result<StagedHasher, Refusal> {
    let mut hasher = context.staged_hasher(size);
    let mut buffer = vec![0; usize::try_from(len.min(limits::PIECE)).unwrap_or(0)];
    let (mut at, mut turns) = (0, context.hashing(keepalive));
    while at < len {
        turns.next().map_err(|_| client_gone())?;
        let want = usize::try_from((len - at).min(limits::PIECE)).unwrap_or(0);
        file.read_exact_at(&mut buffer[..want], at).map_err(|e| cannot_stage(path, e))?;
        hasher.update(&buffer[..want]);
        at += want as u64;
    }
    Ok(hasher)
}

/// Syncs a file, and keeps the client's connection alive meanwhile.
pub(crate) fn sync(file: &File, keepalive: &mut dyn KeepAlive) -> io::Result<()> {
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
