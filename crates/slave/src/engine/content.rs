//! `get`: content of a file from any offset.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use relais_proto::{
    ContentHeader, Digest, Endpoint, ErrorCode, FolderId, GetRequest, IfMatch, Kind, Lsn, Refusal,
    Reply, Request, TreePath, WaitReason,
};
use relais_storage::EntryFacts;
use relais_tree::{OpenFile, TreeError, hash_file};

use super::requests::{
    FileContent, HandlerResult, KeepAlive, RequestContext, RequestOutcome, digest_of, misrouted,
    refuse,
};
use crate::engine::serving::ServingContext;

/// How long the folder may be ahead of the catalogue.
const CATALOG_LAG: Duration = Duration::from_millis(200);
/// Time between two checks whether they agree.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

pub(super) fn get(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Get(get) = request else { return Err(misrouted()) };
    let path = context.session.resolve(&get.path)?;
    let file = match open(context, &path)? {
        FileLocation::Here(file) => file,
        FileLocation::Elsewhere(holders) => {
            return Ok(RequestOutcome::Reply(Reply::Elsewhere { holders }));
        }
    };
    let facts = check_wanted(context, &path, &file, get.if_match)?;
    let header = header(context.serving, &file, &get, facts)?;
    Ok(RequestOutcome::Content(Box::new(FileContent { file, path, header })))
}

/// Where the content of a requested file is.
pub(super) enum FileLocation {
    /// On this slave.
    Here(OpenFile),
    /// On other slaves; these are known to have it.
    Elsewhere(Vec<Endpoint>),
}

/// Opens the file that the tree has at a path.
///
/// The catalogue gets a moment to agree with the disk about a file that is being changed.
pub(super) fn open(
    context: &mut RequestContext<'_>,
    path: &TreePath,
) -> Result<FileLocation, Refusal> {
    let serving = context.serving;
    let opened = || serving.folder.open_file(path).map_err(|e| refuse(path, &e));
    if !serving.is_cluster_member || path.is_root() {
        return retry_while_moving(serving, path, || serving.folder.open_file(path))
            .map(FileLocation::Here);
    }
    let began = Instant::now();
    loop {
        let Some((row, holders)) = serving.with_catalogue(|reader| reader.at(path))? else {
            // The disk's error tells best why, but a file that is no part of the tree is not
            // served.
            return Err(opened()
                .err()
                .unwrap_or_else(|| Refusal::at(path, ErrorCode::NotFound, "not published yet")));
        };
        if row.entry.kind == Kind::Folder {
            return Err(refuse(path, &TreeError::IsFolder));
        }
        if !row.here {
            return find_holders(context, path, row.content, holders).map(FileLocation::Elsewhere);
        }
        match serving.folder.open_file(path) {
            Ok(file) if row.matches(&file.meta) => return Ok(FileLocation::Here(file)),
            // A local change that has no change id yet is served as it is.
            Ok(file) if row.entry.version.is_none() => return Ok(FileLocation::Here(file)),
            Ok(_) | Err(TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_)) => {}
            Err(e) => {
                // Other slaves may be able to read it.
                let others = serving.other_slaves()?;
                let refusal = refuse(path, &e);
                return if others.is_empty() {
                    Err(refusal)
                } else {
                    Ok(FileLocation::Elsewhere(others))
                };
            }
        }
        if began.elapsed() >= CATALOG_LAG {
            // Another program has changed the file.
            serving.report_different(path);
            return Ok(FileLocation::Elsewhere(serving.other_slaves()?));
        }
        std::thread::sleep(POLL_INTERVAL);
        context
            .keepalive
            .send_keepalive(WaitReason::Storing)
            .map_err(|_| Refusal::new(ErrorCode::Cut, "the client has gone"))?;
    }
}

/// Calls `look` for a path, and retries for a moment while only the catalogue has an entry there.
///
/// A change may be about to put its content there.
pub(super) fn retry_while_moving<T>(
    serving: &ServingContext,
    path: &TreePath,
    look: impl Fn() -> Result<T, TreeError>,
) -> Result<T, Refusal> {
    let began = Instant::now();
    loop {
        match look() {
            Err(TreeError::NotFound)
                if began.elapsed() < CATALOG_LAG
                    && serving.with_catalogue(|reader| reader.version_at(path))?.is_some() =>
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
    context: &RequestContext<'_>,
    path: &TreePath,
    put: Option<Lsn>,
    mut holders: Vec<FolderId>,
) -> Result<Vec<Endpoint>, Refusal> {
    let serving = context.serving;
    if let Some(put) = put
        && serving.with_catalogue(|reader| reader.is_unapplied(path))?
    {
        holders.extend(serving.ask_holders(put, &context.session.owner));
        holders.sort_unstable();
        holders.dedup();
    }
    serving.slaves_of(&holders)
}

/// Checks that the open file is the one the client wants to resume; returns its facts.
pub(super) fn check_wanted(
    context: &mut RequestContext<'_>,
    path: &TreePath,
    file: &OpenFile,
    wanted: IfMatch,
) -> Result<EntryFacts, Refusal> {
    let serving = context.serving;
    let mut facts = serving.facts(path, &file.meta)?;
    let fits = match wanted {
        IfMatch::Any => true,
        IfMatch::Identity(identity) => file.meta.identity(&serving.folder_id) == identity,
        IfMatch::Digest(digest) => {
            let ours = digest_of(&facts, path, file, context.keepalive)?;
            facts.digest = Some(ours);
            ours == digest
        }
    };
    if fits { Ok(facts) } else { Err(content_changed(path)) }
}

pub(crate) fn content_changed(path: &TreePath) -> Refusal {
    Refusal::at(path, ErrorCode::Changed, "the content has been replaced")
}

fn header(
    serving: &ServingContext,
    file: &OpenFile,
    get: &GetRequest,
    facts: EntryFacts,
) -> Result<ContentHeader, Refusal> {
    let size = file.meta.size;
    let Some(rest) = size.checked_sub(get.offset) else {
        return Err(Refusal::at(
            &get.path,
            ErrorCode::BadOffset,
            format!("offset {} is beyond the end at {size}", get.offset),
        ));
    };
    let on_disk = (file.meta.mode.with_owner_access(Kind::File), file.meta.mtime);
    let (mode, mtime) = facts.attributes.unwrap_or(on_disk);
    Ok(ContentHeader {
        size,
        offset: get.offset,
        length: rest.min(get.length),
        block_size: serving.block_size,
        mtime,
        mode,
        version: facts.content,
        digest: facts.digest,
        identity: file.meta.identity(&serving.folder_id),
    })
}

/// Computes the digest of an open file, and its piece values.
pub(crate) fn compute(
    path: &TreePath,
    file: &OpenFile,
    keepalive: &mut dyn KeepAlive,
) -> Result<(Digest, Vec<Digest>), Refusal> {
    let mut disconnect = None;
    keepalive.send_keepalive(WaitReason::Hashing).map_err(|e| hashing_failed(path, e))?;
    let result = hash_file(&file.file, file.meta.size, &mut |_| match keepalive
        .send_keepalive(WaitReason::Hashing)
    {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => {
            disconnect = Some(e);
            ControlFlow::Break(())
        }
    });
    match result {
        Ok(computed) if file.is_unchanged().map_err(|e| refuse(path, &e))? => Ok(computed),
        Ok(_) => Err(content_changed(path)),
        Err(e) => Err(hashing_failed(path, disconnect.unwrap_or(e))),
    }
}

/// Returns the refusal for a failed hashing: a read error, or a client that has gone.
pub(super) fn hashing_failed(path: &TreePath, error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => content_changed(path),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut => {
            Refusal::new(ErrorCode::Cut, "the client has gone")
        }
        _ => ServingContext::storage_refusal(path, &error),
    }
}
