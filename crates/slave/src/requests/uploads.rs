//! `put` and `resume`: content that comes in, into a staged file, until it is whole.
//!
//! Nothing here is visible to anybody. What is handed on in the end is sealed: nobody writes it any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use relais_proto::{Change, Digest, ErrorCode, Expect, Kind, PutRequest, Refusal, Reply, Request, TreePath, WaitReason, limits};
use relais_tree::{TreeError, set_executable, set_times};

use super::{Context, Handled, Outcome, Patience, misrouted, refuse};
use crate::changes::Proposal;
use crate::serving::Serving;
use crate::staging::StagedName;

/// Content up to this size is looked at only when it is whole; for more the place is looked at first, so that
/// nobody sends a lot in vain.
pub const SMALL: u64 = 64 * 1024;
/// Content from this size on is put on the disk by the worker, so that it does not hold up the changes of others.
const SYNC_HERE: u64 = limits::PIECE;
/// How long the older connection of an upload may take to let go of it.
const LET_GO: Duration = Duration::from_secs(5);
/// Time between two looks whether it has.
const LOOK: Duration = Duration::from_millis(10);

/// Where the bytes go.
enum Place {
    /// Into the staged file.
    Staged(File),
    /// They are there already: an earlier connection sent all of them.
    Whole,
}

/// An upload under way.
pub struct Upload {
    put: PutRequest,
    name: StagedName,
    place: Place,
    hasher: blake3::Hasher,
    at: u64,
}

pub(super) fn put(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Put(mut put) = request else { return Err(misrouted()) };
    put.path = context.session.resolve(&put.path)?;
    if put.size.is_none_or(|size| size > SMALL) {
        look_ahead(context.serving, &put.path)?;
    }
    let name = StagedName::new(put.id, &context.session.user, &put.path, put.size);
    let mut hasher = blake3::Hasher::new();
    let at = put.offset;
    if context.serving.staging.has(&name.sealed()) {
        return Ok(Outcome::Upload(Box::new(Upload { put, name: name.sealed(), place: Place::Whole, hasher, at })));
    }
    let file = claim(context, &put.path, &name)?;
    let there = file.metadata().map_err(|e| cannot_stage(&put.path, e))?.len();
    if there < at {
        return Err(Refusal::new(ErrorCode::BadOffset, format!("{}: only {there} bytes of the upload are here", put.path)));
    }
    if there > at {
        file.set_len(at).map_err(|e| cannot_stage(&put.path, e))?;
    }
    hash_staged(&file, at, &mut hasher, &put.path, context.patience)?;
    Ok(Outcome::Upload(Box::new(Upload { put, name, place: Place::Staged(file), hasher, at })))
}

pub(super) fn resume(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Resume { id, path, size } = request else { return Err(misrouted()) };
    let path = context.session.resolve(&path)?;
    let serving = context.serving;
    if let Some(version) = serving.with_catalogue(|reader| reader.number_of(id))? {
        return Ok(Outcome::Reply(Reply::Committed { version, copies: 1, mark: serving.mark().max(version) }));
    }
    let name = StagedName::new(id, &context.session.user, &path, Some(size));
    let offset = if serving.staging.has(&name.sealed()) {
        size
    } else if serving.staging.has(&name) {
        let there = claim(context, &path, &name)?.metadata().map_err(|e| cannot_stage(&path, e))?.len();
        if there <= size { there } else { 0 }
    } else {
        0
    };
    let current = Expect::exactly(serving.with_catalogue(|reader| reader.version_at(&path))?);
    Ok(Outcome::Reply(Reply::Staged { offset, current }))
}

/// What can be told before any byte is sent. What counts is what is there when the put is made.
fn look_ahead(serving: &Serving, path: &TreePath) -> Result<(), Refusal> {
    let Some((parent, _)) = path.split_last() else {
        return Err(Refusal::new(ErrorCode::IsFolder, format!("{path}: a folder has that name")));
    };
    serving.folder.open_folder(&parent).map_err(|e| refuse(&parent, &e))?;
    match serving.folder.stat(path) {
        Ok(meta) if meta.served_kind() == Some(Kind::File) => Ok(()),
        Ok(meta) if meta.served_kind() == Some(Kind::Folder) => {
            Err(Refusal::new(ErrorCode::IsFolder, format!("{path}: a folder has that name")))
        }
        Ok(_) => Err(Refusal::new(ErrorCode::NotServed, format!("{path}: something that is not served has that name"))),
        Err(TreeError::NotFound) => Ok(()),
        Err(e) => Err(refuse(path, &e)),
    }
}

/// Takes the staged file. A connection that still sends this upload is closed: its client has come back.
fn claim(context: &mut Context<'_>, path: &TreePath, name: &StagedName) -> Result<File, Refusal> {
    let began = Instant::now();
    loop {
        match context.serving.staging.claim(name) {
            Ok(file) => return Ok(file),
            Err(TreeError::InUse) if began.elapsed() < LET_GO => context.serving.uploads.end_everywhere(name),
            Err(TreeError::InUse) => {
                return Err(Refusal::new(ErrorCode::Busy, format!("{path}: another connection is still sending this upload")));
            }
            Err(e) => return Err(refuse(path, &e)),
        }
        std::thread::sleep(LOOK);
        context.patience.still(WaitReason::Storing).map_err(|_| gone())?;
    }
}

fn gone() -> Refusal {
    Refusal::new(ErrorCode::Cut, "the client has gone")
}

fn cannot_stage(path: &TreePath, error: io::Error) -> Refusal {
    refuse(path, &TreeError::Io("write the staged file", error))
}

/// Hashes what an earlier connection has sent.
fn hash_staged(file: &File, len: u64, hasher: &mut blake3::Hasher, path: &TreePath, patience: &mut dyn Patience) -> Result<(), Refusal> {
    let mut buffer = vec![0; usize::try_from(len.min(limits::PIECE)).unwrap_or(0)];
    let mut at = 0;
    while at < len {
        let want = usize::try_from((len - at).min(limits::PIECE)).unwrap_or(0);
        file.read_exact_at(&mut buffer[..want], at).map_err(|e| cannot_stage(path, e))?;
        hasher.update(&buffer[..want]);
        at += want as u64;
        patience.still(WaitReason::Hashing).map_err(|_| gone())?;
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
    pub fn write(&mut self, bytes: &[u8], serving: &Serving) -> Result<(), Refusal> {
        let end = self.at + bytes.len() as u64;
        if end > self.put.size.unwrap_or(limits::FILE_SIZE) {
            self.discard(serving);
            return Err(Refusal::new(ErrorCode::BadRequest, format!("{}: there are more bytes than announced", self.put.path)));
        }
        if let Place::Staged(file) = &self.place {
            if let Err(e) = file.write_all_at(bytes, self.at) {
                self.discard(serving);
                return Err(cannot_stage(&self.put.path, e));
            }
            self.hasher.update(bytes);
        }
        self.at = end;
        Ok(())
    }

    /// The content is whole, and `digest` is what the client says of it.
    ///
    /// # Errors
    /// Why it cannot be put.
    pub fn finish(self, digest: Digest, serving: &Serving, patience: &mut dyn Patience) -> Result<Proposal, Refusal> {
        if self.put.size.is_some_and(|size| size != self.at) {
            let message = format!("{}: the upload ended at byte {}", self.put.path, self.at);
            return Err(Refusal::new(ErrorCode::BadRequest, message));
        }
        let found = match &self.place {
            Place::Staged(_) => self.hasher.finalize(),
            Place::Whole => self.hash_whole(serving, patience)?,
        };
        if found.as_bytes() != &digest.0 {
            self.discard(serving);
            return Err(Refusal::new(ErrorCode::Damaged, format!("{}: the bytes that came do not have the digest", self.put.path)));
        }
        self.seal(digest, serving, patience)
    }

    fn hash_whole(&self, serving: &Serving, patience: &mut dyn Patience) -> Result<blake3::Hash, Refusal> {
        let file = serving.staging.staged.open_read(self.name.as_str()).map_err(|e| refuse(&self.put.path, &e))?;
        let mut hasher = blake3::Hasher::new();
        hash_staged(&file.file, file.meta.size, &mut hasher, &self.put.path, patience)?;
        Ok(hasher.finalize())
    }

    fn seal(self, digest: Digest, serving: &Serving, patience: &mut dyn Patience) -> Result<Proposal, Refusal> {
        let path = self.put.path.clone();
        let failed = |e: TreeError| refuse(&path, &e);
        let mut synced = false;
        let name = match &self.place {
            Place::Whole => self.name.clone(),
            Place::Staged(file) => {
                if self.put.executable {
                    set_executable(file, true).map_err(failed)?;
                }
                if let Some(mtime) = self.put.mtime {
                    set_times(file, mtime).map_err(failed)?;
                }
                if self.at >= SYNC_HERE {
                    sync(file, patience).map_err(|e| self.unsynced(e, serving))?;
                    synced = true;
                }
                serving.staging.seal(&self.name).map_err(|e| {
                    self.discard(serving);
                    failed(e)
                })?
            }
        };
        let meta = serving.staging.staged.stat_part(name.as_str().as_bytes()).map_err(failed)?;
        let change = Change::Put { path: path.clone(), size: meta.size, digest, mtime: meta.mtime, executable: meta.executable };
        Ok(Proposal { id: self.put.id, change, expect: self.put.expect, staged: Some(name), synced })
    }

    /// What could not be put on the disk must not be taken for something that can be gone on with.
    fn unsynced(&self, error: io::Error, serving: &Serving) -> Refusal {
        self.discard(serving);
        cannot_stage(&self.put.path, error)
    }

    fn discard(&self, serving: &Serving) {
        serving.staging.discard(&self.name);
    }
}

/// Puts a file on the disk; whoever waits is told meanwhile.
fn sync(file: &File, patience: &mut dyn Patience) -> io::Result<()> {
    std::thread::scope(|scope| {
        let syncing = std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, || file.sync_all())?;
        while !syncing.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
            // Whether the client is still there is seen when it is answered.
            let _ = patience.still(WaitReason::Storing);
        }
        syncing.join().map_err(|_| io::Error::other("the thread that syncs failed"))?
    })
}
