//! `stat` and `hash`: one entry.

use relais_proto::{Digest, Entry, Reply, Request, TreePath};

use super::{Context, Handled, Outcome, content, digest_of, entry_of, misrouted, refuse};
use crate::catalogue::Facts;
use crate::serving::Serving;

pub(super) fn stat(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Stat(path) = request else { return Err(misrouted()) };
    let path = context.session.resolve(&path)?;
    let meta = context.serving.folder.stat(&path).map_err(|e| refuse(&path, &e))?;
    let facts = if path.is_root() { Facts::default() } else { context.serving.facts(&path, &meta)? };
    let entry = entry_of(&path, &meta, &facts)?;
    Ok(details(context.serving, entry, facts.digest))
}

pub(super) fn hash(context: &mut Context<'_>, request: Request) -> Handled {
    let Request::Hash(path) = request else { return Err(misrouted()) };
    let path: TreePath = context.session.resolve(&path)?;
    let file = content::open(context.serving, &path)?;
    let facts = context.serving.facts(&path, &file.meta)?;
    let digest = digest_of(&facts, &path, &file, context.patience)?;
    Ok(details(context.serving, entry_of(&path, &file.meta, &facts)?, Some(digest)))
}

fn details(serving: &Serving, entry: Entry, digest: Option<Digest>) -> Outcome {
    Outcome::Reply(Reply::Details { entry, digest, holders: serving.as_holder(), mark: serving.mark() })
}
