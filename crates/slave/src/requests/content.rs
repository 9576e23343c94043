//! `get`: content of a file from any offset.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use relais_proto::{
    ContentHeader, Digest, Endpoint, ErrorCode, FolderId, GetRequest, Kind, Lsn, Refusal, Reply,
    Request, TreePath, WaitReason, Wanted,
};
use relais_tree::{OpenFile, TreeError, hash_file};

use super::{
    FileContent, HandlerResult, KeepAlive, RequestContext, RequestOutcome, digest_of, misrouted,
    refuse,
};
use crate::catalogue::EntryFacts;
use crate::serving::ServingContext;

/// How long the folder may be ahead of the catalogue.
const AGREE: Duration = Duration::from_millis(200);
/// Time between two looks whether they agree.
const LOOK: Duration = Duration::from_millis(5);

pub(super) fn get(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Get(get) = request else { return Err(misrouted()) };
    let path = context.session.resolve(&get.path)?;
    let file = match open(context, &path)? {
        FileLocation::Here(file) => file,
        FileLocation::Elsewhere(holders) => {
            return Ok(RequestOutcome::Reply(Reply::Elsewhere { holders }));
        }
    };
    let facts = check_wanted(context, &path, &file, get.wanted)?;
    let header = header(context.serving, &file, &get, facts)?;
    Ok(RequestOutcome::Content(Box::new(FileContent { file, path, header })))
}

/// A file that was asked for.
pub(super) enum FileLocation {
    /// It is here.
    Here(OpenFile),
    /// Its content is not here yet. These slaves are known to have it.
    Elsewhere(Vec<Endpoint>),
}

/// Opens a file. In a cluster it is what the tree has there, or nothing: for what is just being changed on the disk the
/// catalogue gets a moment to follow.
pub(super) fn open(
    context: &mut RequestContext<'_>,
    path: &TreePath,
) -> Result<FileLocation, Refusal> {
    let serving = context.serving;
    let opened = || serving.folder.open_file(path).map_err(|e| refuse(path, &e));
    if !serving.follows || path.is_root() {
        return while_moving(serving, path, || serving.folder.open_file(path))
            .map(FileLocation::Here);
    }
    let began = Instant::now();
    loop {
        let Some((row, holders)) = serving.with_catalogue(|reader| reader.at(path))? else {
            // The disk tells best why, but nothing that is no part of the tree is served.
            return Err(opened()
                .err()
                .unwrap_or_else(|| Refusal::at(path, ErrorCode::NotFound, "not published yet")));
        };
        if row.entry.kind == Kind::Folder {
            return Err(refuse(path, &TreeError::IsFolder));
        }
        if !row.here {
            return elsewhere(context, path, row.content, holders).map(FileLocation::Elsewhere);
        }
        match serving.folder.open_file(path) {
            Ok(file) if row.is_of(&file.meta) => return Ok(FileLocation::Here(file)),
            // What was found and has no number yet is served as it is.
            Ok(file) if row.entry.version.is_none() => return Ok(FileLocation::Here(file)),
            Ok(_) | Err(TreeError::NotFound | TreeError::NotFolder | TreeError::NotServed(_)) => {}
            Err(e) => {
                // Others have it where they may read it.
                let others = serving.others()?;
                let refusal = refuse(path, &e);
                return if others.is_empty() {
                    Err(refusal)
                } else {
                    Ok(FileLocation::Elsewhere(others))
                };
            }
        }
        if began.elapsed() >= AGREE {
            // Somebody has changed it by hand.
            serving.hint(path);
            return Ok(FileLocation::Elsewhere(serving.others()?));
        }
        std::thread::sleep(LOOK);
        context
            .keepalive
            .send_keepalive(WaitReason::Storing)
            .map_err(|_| Refusal::new(ErrorCode::Cut, "the client has gone"))?;
    }
}

/// Does something with what lies at a path. Where nothing lies there although the catalogue has something it is tried again
/// for a moment: a change may be about to put its content there.
pub(super) fn while_moving<T>(
    serving: &ServingContext,
    path: &TreePath,
    look: impl Fn() -> Result<T, TreeError>,
) -> Result<T, Refusal> {
    let began = Instant::now();
    loop {
        match look() {
            Err(TreeError::NotFound)
                if began.elapsed() < AGREE
                    && serving.with_catalogue(|reader| reader.version_at(path))?.is_some() =>
            {
                std::thread::sleep(LOOK);
            }
            other => return other.map_err(|e| refuse(path, &e)),
        }
    }
}

/// The slaves that have content which is not here. What the disk refuses stays so for long, and the master knows best who has it by now.
fn elsewhere(
    context: &RequestContext<'_>,
    path: &TreePath,
    put: Option<Lsn>,
    mut holders: Vec<FolderId>,
) -> Result<Vec<Endpoint>, Refusal> {
    let serving = context.serving;
    if let Some(put) = put
        && serving.with_catalogue(|reader| reader.is_unapplied(path))?
    {
        holders.extend(serving.holders(put, &context.session.owner));
        holders.sort_unstable();
        holders.dedup();
    }
    serving.slaves_of(&holders)
}

/// Checks that the open file is what the client wants to go on with; what is known of it.
pub(super) fn check_wanted(
    context: &mut RequestContext<'_>,
    path: &TreePath,
    file: &OpenFile,
    wanted: Wanted,
) -> Result<EntryFacts, Refusal> {
    let serving = context.serving;
    let mut facts = serving.facts(path, &file.meta)?;
    let fits = match wanted {
        Wanted::Any => true,
        Wanted::Identity(identity) => file.meta.identity(&serving.folder_id) == identity,
        Wanted::Digest(digest) => {
            let ours = digest_of(&facts, path, file, context.keepalive)?;
            facts.digest = Some(ours);
            ours == digest
        }
    };
    if fits { Ok(facts) } else { Err(changed(path)) }
}

pub(crate) fn changed(path: &TreePath) -> Refusal {
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
            format!("offset {} is behind the end at {size}", get.offset),
        ));
    };
    let found = (file.meta.mode.served(Kind::File), file.meta.mtime);
    let (mode, mtime) = facts.attributes.unwrap_or(found);
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
    let mut gone = None;
    keepalive.send_keepalive(WaitReason::Hashing).map_err(|e| unhashed(path, e))?;
    let result = hash_file(&file.file, file.meta.size, &mut |_| match keepalive
        .send_keepalive(WaitReason::Hashing)
    {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => {
            gone = Some(e);
            ControlFlow::Break(())
        }
    });
    match result {
        Ok(computed) if file.is_unchanged().map_err(|e| refuse(path, &e))? => Ok(computed),
        Ok(_) => Err(changed(path)),
        Err(e) => Err(unhashed(path, gone.unwrap_or(e))),
    }
}

/// The refusal for what kept a file from being hashed: reading it, or a client that has gone.
pub(super) fn unhashed(path: &TreePath, error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => changed(path),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut => {
            Refusal::new(ErrorCode::Cut, "the client has gone")
        }
        _ => ServingContext::storage(path, &error),
    }
}
