//! Content of files: opened, checked, and read in any range by the front end.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relais_cluster::LARGE;
use relais_proto::{
    Digest, Endpoint, ErrorCode, FileTime, FolderId, Identity, IfMatch, Kind, Lsn, Mode, Refusal,
    TreePath, WaitReason, limits,
};
use relais_storage::{EntryFacts, refuse};
use relais_tree::{OpenFile, TreeError, hash_file};

use crate::context::SessionContext;
use crate::engine::unreadable;
use crate::keep_alive::{KeepAlive, client_gone, poll};
use crate::session::Session;
use crate::transfer_log::{LoggedCommand, TransferRecord};

/// How long the folder may be ahead of the catalogue.
const CATALOG_LAG: Duration = Duration::from_millis(200);
/// Time between two checks whether they agree.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Something that needs the content of a file, which may be elsewhere.
#[derive(Debug)]
pub enum Located<T> {
    /// The content is on this slave.
    Here(T),
    /// The content is on other slaves; these are known to have it.
    Elsewhere(Vec<Endpoint>),
}

impl<T> Located<T> {
    /// Turns what is here into something else.
    ///
    /// # Errors
    /// That of `f`.
    pub fn and_then<U>(
        self,
        f: impl FnOnce(T) -> Result<U, Refusal>,
    ) -> Result<Located<U>, Refusal> {
        Ok(match self {
            Self::Here(found) => Located::Here(f(found)?),
            Self::Elsewhere(holders) => Located::Elsewhere(holders),
        })
    }
}

/// Content of a file that is about to be sent.
///
/// The front end reads [`Self::file`], and ends with [`Self::finish`] or [`Self::fail`]. Content
/// that is dropped before was cut.
pub struct Content {
    pub(crate) context: Arc<SessionContext>,
    pub(crate) path: TreePath,
    /// The file, which was opened before anything was decided about it.
    pub(crate) file: OpenFile,
    facts: EntryFacts,
    pub(crate) record: TransferRecord,
    pub(crate) bytes: u64,
    slot: Option<LargeTransferSlot>,
}

/// Why content could not be read to its end.
#[derive(Debug)]
pub enum ReadFailure {
    /// The file has become shorter.
    Short,
    /// The disk cannot read it.
    Unreadable(io::Error),
}

impl Session {
    /// Opens the content of a file.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if it is not what `if_match` names; those of the folder and of
    /// [`Session::check_ready`].
    pub fn open(
        &self,
        path: &TreePath,
        if_match: IfMatch,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<Content>, Refusal> {
        let mut record = self.begin(LoggedCommand::Get, path, None, keepalive)?;
        let context = &self.context;
        let opened = context
            .principal
            .resolve(path)
            .and_then(|path| Content::open(context, &path, if_match, keepalive));
        let mut opened = context.recorded(&mut record, opened)?;
        match &mut opened {
            Located::Here(content) => content.set_record(record),
            Located::Elsewhere(_) => record.end(Ok(())),
        }
        Ok(opened)
    }

    /// Returns the values of at most `count` pieces of a file, from number `first` on.
    ///
    /// A client asks for them after the content did not match its digest, so this has the content
    /// verified, unless the values prove here that it is undamaged.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn pieces(
        &self,
        path: &TreePath,
        if_match: IfMatch,
        (first, count): (u64, u32),
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<Vec<Digest>>, Refusal> {
        self.check_ready(keepalive)?;
        let context = &self.context;
        context.visible(context.principal.resolve(path).and_then(|path| {
            open(context, &path, keepalive)?.and_then(|found| {
                check_wanted(context, &path, &found, if_match, keepalive)?;
                let file = found.file;
                let (count, mut turns) =
                    (count.min(limits::PIECES_PER_PAGE), context.hashing(keepalive));
                let mut next = || turns.next();
                let values = next().and_then(|()| {
                    let size = file.meta.size;
                    relais_tree::piece_values(&file.file, size, first, count.into(), &mut |_| {
                        next()
                    })
                });
                let values = values.map_err(|e| hashing_failed(&path, &e))?;
                check_unchanged(&path, &file)?;
                // Only the values of all pieces make up the digest.
                let is_proved = matches!(if_match, IfMatch::Digest(digest)
                    if relais_tree::join(&values, file.meta.size) == Some(digest));
                if context.settings.is_cluster_member && !is_proved {
                    context.host().report_damaged(&path);
                }
                Ok(values)
            })
        }))
    }
}

impl Content {
    /// Opens the content that the tree has at a path. The caller records the transfer.
    pub(crate) fn open(
        context: &Arc<SessionContext>,
        path: &TreePath,
        if_match: IfMatch,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Located<Self>, Refusal> {
        open(context, path, keepalive)?.and_then(|found| {
            let facts = check_wanted(context, path, &found, if_match, keepalive)?;
            let (context, path, file) = (context.clone(), path.clone(), found.file);
            let record = TransferRecord::default();
            Ok(Self { context, path, file, facts, record, bytes: 0, slot: None })
        })
    }

    /// Has `record` record this transfer.
    pub(crate) fn set_record(&mut self, record: TransferRecord) {
        self.record = record;
    }

    /// Returns the open file. Its position belongs to the caller.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file.file
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.meta.size
    }

    /// Returns mode and time of last modification, in the tree.
    #[must_use]
    pub fn attributes(&self) -> (Mode, FileTime) {
        let meta = &self.file.meta;
        self.facts.attributes.unwrap_or((meta.mode.with_owner_access(Kind::File), meta.mtime))
    }

    /// Returns the put that stored the content; none if it was never numbered.
    #[must_use]
    #[allow(clippy::misnamed_getters, reason = "`content` of the facts is the put's number")]
    pub fn version(&self) -> Option<Lsn> {
        self.facts.content
    }

    /// Returns what identifies the content while it stays on this folder's disk.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.file.meta.identity(&self.context.settings.folder_id)
    }

    /// Returns the digest if it is known without reading the file.
    #[must_use]
    pub fn known_digest(&self) -> Option<Digest> {
        self.facts.digest
    }

    /// Returns how many of `length` bytes there are from `offset` on, which are sent next.
    ///
    /// # Errors
    /// [`ErrorCode::BadOffset`] if the offset is beyond the end; [`ErrorCode::Busy`] if this slave
    /// is sending much content to another slave.
    pub fn range(&mut self, offset: u64, length: u64) -> Result<u64, Refusal> {
        let result = available(&self.path, self.size(), offset, length).and_then(|length| {
            count_resume(&self.record, self.size(), (offset, length));
            self.slot = LargeTransferSlot::for_bytes(&self.context, length)?;
            Ok(length)
        });
        self.context.recorded(&mut self.record, result)
    }

    /// Counts bytes that were sent, for the transfer log and the metrics.
    pub fn add_sent(&mut self, bytes: u64) {
        self.send(|_, count| count(bytes));
    }

    /// Has `send` send the file, and count bytes as they are sent.
    pub fn send<T>(&mut self, send: impl FnOnce(&File, &mut dyn FnMut(u64)) -> T) -> T {
        let Self { file, bytes, record, .. } = self;
        send(&file.file, &mut |sent| {
            *bytes += sent;
            record.set_bytes(*bytes);
            record.count(sent);
        })
    }

    /// Returns the digest of the whole content, and computes it if it is not known by now.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if the file changes meanwhile, and those of reading it.
    pub fn digest(&mut self, keepalive: &mut dyn KeepAlive) -> Result<Digest, Refusal> {
        if let Some(digest) = self.facts.digest {
            return Ok(digest);
        }
        let facts = self.context.facts(&self.path, &self.file.meta);
        let digest = facts
            .and_then(|facts| digest_of(&self.context, &facts, &self.path, &self.file, keepalive));
        let digest = self.context.recorded(&mut self.record, digest)?;
        self.facts.digest = Some(digest);
        Ok(digest)
    }

    /// Checks that the file has been the same all the time, before the last bytes are sent.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if it has not; the transfer has failed.
    pub fn check_unchanged(&mut self) -> Result<(), Refusal> {
        let result = check_unchanged(&self.path, &self.file);
        self.context.recorded(&mut self.record, result)
    }

    /// Ends a transfer: checks that the file was the same all the time.
    ///
    /// # Errors
    /// [`ErrorCode::Changed`] if it was not: what was sent may be a mixture.
    pub fn finish(mut self) -> Result<(), Refusal> {
        let result = check_unchanged(&self.path, &self.file);
        self.context.recorded(&mut self.record, result)?;
        self.record.end(Ok(()));
        Ok(())
    }

    /// Ends a transfer that the disk did not allow to complete; returns the refusal.
    #[must_use]
    pub fn fail(mut self, failure: &ReadFailure) -> Refusal {
        let refusal = match failure {
            ReadFailure::Short => content_changed(&self.path),
            ReadFailure::Unreadable(e) => unreadable(&self.path, e),
        };
        self.record.end(Err(refusal.code));
        refusal.below(&self.context.principal.root)
    }
}

/// Counts a download that continues after the bytes of an earlier one.
///
/// It begins above 0 and lasts to the end: a client that wants a part alone names its end.
pub(crate) fn count_resume(record: &TransferRecord, size: u64, (offset, length): (u64, u64)) {
    if offset > 0 && length > 0 && offset + length == size {
        record.count_resume();
    }
}

/// Returns how many of `length` bytes there are from `offset` on in content of `size` bytes.
pub(crate) fn available(
    path: &TreePath,
    size: u64,
    offset: u64,
    length: u64,
) -> Result<u64, Refusal> {
    let rest = size.checked_sub(offset).ok_or_else(|| {
        let message = format!("offset {offset} is beyond the end at {size}");
        Refusal::at(path, ErrorCode::BadOffset, message)
    })?;
    Ok(rest.min(length))
}

/// The slot for sending large content to another slave, freed when dropped.
///
/// A slave sends large content to one slave at a time. So the number of its holders doubles, and
/// the slave that took the put does not send all copies. A slave that streams content to a client
/// requests short ranges, which need no slot: the client must not wait for replication, nor
/// replication for a slow client.
struct LargeTransferSlot(Arc<SessionContext>);

impl LargeTransferSlot {
    fn for_bytes(context: &Arc<SessionContext>, bytes: u64) -> Result<Option<Self>, Refusal> {
        if !context.principal.is_peer || bytes < LARGE {
            return Ok(None);
        }
        if context.host().begin_large_transfer() {
            return Ok(Some(Self(context.clone())));
        }
        let message = "this slave is already sending large content to another one";
        Err(Refusal::new(ErrorCode::Busy, message))
    }
}

impl Drop for LargeTransferSlot {
    fn drop(&mut self) {
        self.0.host().end_large_transfer();
    }
}

/// An open file of the tree.
pub(crate) struct TreeFile {
    pub file: OpenFile,
    /// What the catalogue knew of the file when it was opened; none if it was not asked, or knew of
    /// another file.
    known: Option<EntryFacts>,
}

impl TreeFile {
    /// Returns what the catalogue knows of the file.
    pub fn facts(&self, context: &SessionContext, path: &TreePath) -> Result<EntryFacts, Refusal> {
        self.known.map_or_else(|| context.facts(path, &self.file.meta), Ok)
    }
}

/// Opens the file that the tree has at a path.
///
/// The catalogue gets a moment to agree with the disk about a file that is being changed.
pub(crate) fn open(
    context: &SessionContext,
    path: &TreePath,
    keepalive: &mut dyn KeepAlive,
) -> Result<Located<TreeFile>, Refusal> {
    let folder = &context.settings.folder;
    if !context.settings.is_cluster_member || path.is_root() {
        let file = retry_while_moving(context, path, || folder.open_file(path))?;
        return Ok(Located::Here(TreeFile { file, known: None }));
    }
    let limits = (CATALOG_LAG, POLL_INTERVAL);
    let located = poll(limits, WaitReason::Storing, keepalive, |_| {
        let Some((row, holders)) = context.with_catalogue(|store| store.at(path))? else {
            // The disk's error tells best why, but a file that is no part of the tree is not
            // served.
            return Err(folder.open_file(path).err().map_or_else(
                || Refusal::at(path, ErrorCode::NotFound, "not published yet"),
                |e| refuse(path, &e),
            ));
        };
        if row.entry.kind == Kind::Folder {
            return Err(refuse(path, &TreeError::IsFolder));
        }
        if !row.here {
            let holders = find_holders(context, path, row.content, holders)?;
            return Ok(Some(Located::Elsewhere(holders)));
        }
        match folder.open_file(path) {
            Ok(file) if row.matches(&file.meta) => {
                Ok(Some(Located::Here(TreeFile { file, known: Some(row.facts()) })))
            }
            // A local change that has no change id yet is served as it is.
            Ok(file) if row.entry.version.is_none() => {
                Ok(Some(Located::Here(TreeFile { file, known: None })))
            }
            Ok(_) | Err(TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_)) => {
                Ok(None)
            }
            Err(e) => {
                // Other slaves may be able to read it.
                let others = context.other_slaves()?;
                let refusal = refuse(path, &e);
                if others.is_empty() { Err(refusal) } else { Ok(Some(Located::Elsewhere(others))) }
            }
        }
    })?;
    match located {
        Some(located) => Ok(located),
        None => {
            // Another program has changed the file.
            context.host().report_different(path);
            Ok(Located::Elsewhere(context.other_slaves()?))
        }
    }
}

/// Calls `look` for a path, and retries for a moment while only the catalogue has an entry there.
///
/// A change may be about to put its content there.
pub(crate) fn retry_while_moving<T>(
    context: &SessionContext,
    path: &TreePath,
    look: impl Fn() -> Result<T, TreeError>,
) -> Result<T, Refusal> {
    let began = Instant::now();
    loop {
        match look() {
            Err(TreeError::NotFound)
                if began.elapsed() < CATALOG_LAG
                    && context.with_catalogue(|store| store.version_at(path))?.is_some() =>
            {
                std::thread::sleep(POLL_INTERVAL);
            }
            other => return other.map_err(|e| refuse(path, &e)),
        }
    }
}

/// Returns the slaves that have content which this slave lacks.
///
/// A path that this slave's disk refuses stays behind for long, so the master is asked for the
/// holders as well.
fn find_holders(
    context: &SessionContext,
    path: &TreePath,
    put: Option<Lsn>,
    mut holders: Vec<FolderId>,
) -> Result<Vec<Endpoint>, Refusal> {
    if let Some(put) = put
        && context.with_catalogue(|store| store.is_unapplied(path))?
    {
        holders.extend(context.ask_holders(put, &context.principal.owner));
    }
    context.slaves_of(|folder| holders.contains(folder))
}

/// Checks that the open file is the one that the client wants; returns its facts.
pub(crate) fn check_wanted(
    context: &SessionContext,
    path: &TreePath,
    found: &TreeFile,
    wanted: IfMatch,
    keepalive: &mut dyn KeepAlive,
) -> Result<EntryFacts, Refusal> {
    let (mut facts, file) = (found.facts(context, path)?, &found.file);
    let fits = match wanted {
        IfMatch::Any => true,
        IfMatch::Identity(identity) => file.meta.identity(&context.settings.folder_id) == identity,
        IfMatch::Digest(digest) => {
            let ours = digest_of(context, &facts, path, file, keepalive)?;
            facts.digest = Some(ours);
            ours == digest
        }
    };
    if fits { Ok(facts) } else { Err(content_changed(path)) }
}

pub(crate) fn content_changed(path: &TreePath) -> Refusal {
    Refusal::at(path, ErrorCode::Changed, "the content has been replaced")
}

pub(crate) fn check_unchanged(path: &TreePath, file: &OpenFile) -> Result<(), Refusal> {
    match file.is_unchanged() {
        Ok(true) => Ok(()),
        Ok(false) => Err(content_changed(path)),
        Err(e) => Err(refuse(path, &e)),
    }
}

/// Returns the digest of an open file: from the catalogue's `facts`, or computed now.
pub(crate) fn digest_of(
    context: &SessionContext,
    facts: &EntryFacts,
    path: &TreePath,
    file: &OpenFile,
    keepalive: &mut dyn KeepAlive,
) -> Result<Digest, Refusal> {
    if let Some(digest) = facts.digest {
        return Ok(digest);
    }
    let mut turns = context.hashing(keepalive);
    let hashed =
        turns.next().and_then(|()| hash_file(&file.file, file.meta.size, &mut |_| turns.next()));
    let (digest, _) = hashed.map_err(|e| hashing_failed(path, &e))?;
    check_unchanged(path, file)?;
    Ok(digest)
}

/// Returns the refusal for a failed hashing: a read error, or a client that has gone.
pub(crate) fn hashing_failed(path: &TreePath, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => content_changed(path),
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::TimedOut
        | io::ErrorKind::Interrupted => client_gone(),
        _ => unreadable(path, error),
    }
}
