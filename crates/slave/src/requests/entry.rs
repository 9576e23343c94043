//! `stat` and `hash`: one entry.

use relais_proto::{Digest, Entry, Kind, Reply, Request, TreePath};

use super::{Context, Handled, Outcome, content, digest_of, entry_of, misrouted, refuse};
use crate::serving::Serving;

pub(super) fn stat(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Stat(path) = request else { return Err(misrouted()) };
    let path = context.session.resolve(&path)?;
    let meta = context.serving.folder.stat(&path).map_err(|e| refuse(&path, &e))?;
    let entry = entry_of(&path, &meta)?;
    let digest = if entry.kind == Kind::File { context.serving.known_digest(&path, &meta)? } else { None };
    Ok(details(context.serving, entry, digest))
}

pub(super) fn hash(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Hash(path) = request else { return Err(misrouted()) };
    let path: TreePath = context.session.resolve(&path)?;
    let file = content::open(context.serving, &path)?;
    let digest = digest_of(context.serving, &path, &file, context.patience)?;
    Ok(details(context.serving, entry_of(&path, &file.meta)?, Some(digest)))
}

fn details(serving: &Serving, entry: Entry, digest: Option<Digest>) -> Outcome {
    Outcome::Reply(Reply::Details { entry, digest, holders: serving.as_holder(), mark: serving.board.mark() })
}
