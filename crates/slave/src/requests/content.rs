//! `get`: content of a file from any offset.

use std::io;
use std::ops::ControlFlow;

use relais_proto::{Digest, ErrorCode, GetRequest, Header, Refusal, Request, TreePath, WaitReason, Wanted};
use relais_tree::{OpenFile, hash_file};

use super::{Content, Context, Handled, Outcome, Patience, digest_of, misrouted, refuse};
use crate::catalogue::Facts;
use crate::serving::Serving;

pub(super) fn get(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Get(get) = request else { return Err(misrouted()) };
    let path = context.session.resolve(&get.path)?;
    let file = open(context.serving, &path)?;
    let facts = check_wanted(context, &path, &file, get.wanted)?;
    let header = header(context.serving, &file, &get, facts)?;
    Ok(Outcome::Content(Box::new(Content { file, path, header })))
}

pub(super) fn open(serving: &Serving, path: &TreePath) -> Result<OpenFile, Refusal> {
    serving.folder.open_file(path).map_err(|e| refuse(path, &e))
}

/// Checks that the open file is what the client wants to go on with; what is known of it.
pub(super) fn check_wanted(context: &mut Context<'_>, path: &TreePath, file: &OpenFile, wanted: Wanted) -> Result<Facts, Refusal> {
    let serving = context.serving;
    let mut facts = serving.facts(path, &file.meta)?;
    let fits = match wanted {
        Wanted::Any => true,
        Wanted::Identity(identity) => file.meta.identity(&serving.folder_id) == identity,
        Wanted::Digest(digest) => {
            let ours = digest_of(&facts, path, file, context.patience)?;
            facts.digest = Some(ours);
            ours == digest
        }
    };
    if fits { Ok(facts) } else { Err(changed(path)) }
}

pub(crate) fn changed(path: &TreePath) -> Refusal {
    Refusal::new(ErrorCode::Changed, format!("{path}: the content has been replaced"))
}

fn header(serving: &Serving, file: &OpenFile, get: &GetRequest, facts: Facts) -> Result<Header, Refusal> {
    let size = file.meta.size;
    let Some(rest) = size.checked_sub(get.offset) else {
        return Err(Refusal::new(ErrorCode::BadOffset, format!("{}: offset {} is behind the end at {size}", get.path, get.offset)));
    };
    Ok(Header {
        size,
        offset: get.offset,
        length: rest.min(get.length),
        block_size: serving.block_size,
        mtime: file.meta.mtime,
        executable: file.meta.executable,
        version: facts.content,
        digest: facts.digest,
        identity: file.meta.identity(&serving.folder_id),
    })
}

/// Computes the digest of an open file, and its piece values.
pub(crate) fn compute(path: &TreePath, file: &OpenFile, patience: &mut dyn Patience) -> Result<(Digest, Vec<Digest>), Refusal> {
    let mut gone = None;
    let result = hash_file(&file.file, file.meta.size, &mut |_| match patience.still(WaitReason::Hashing) {
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
        _ => Serving::storage(path, &error),
    }
}
