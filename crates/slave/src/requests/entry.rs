//! `stat` and `hash`: one entry.

use relais_proto::{Digest, Entry, ErrorCode, Kind, Refusal, Reply, Request, TreePath};

use super::{
    HandlerResult, RequestContext, RequestOutcome, content, digest_of, entry_of, misrouted, refuse,
};
use crate::catalogue::EntryFacts;
use crate::serving::ServingContext;

pub(super) fn stat(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Stat(path) = request else { return Err(misrouted()) };
    let top = path.is_root();
    let path = context.session.resolve(&path)?;
    if let Some(outcome) = from_tree(context, &path)? {
        return Ok(seen_from(top, outcome));
    }
    let serving = context.serving;
    let meta = content::while_moving(serving, &path, || serving.folder.stat(&path))?;
    let facts =
        if path.is_root() { EntryFacts::default() } else { context.serving.facts(&path, &meta)? };
    let entry = entry_of(&path, &meta, &facts)?;
    let outcome = details(context.serving, entry, facts.digest);
    Ok(seen_from(top, outcome))
}

/// The top has no name: what a user's own is called elsewhere is nothing to that user.
fn seen_from(top: bool, mut outcome: RequestOutcome) -> RequestOutcome {
    if let (true, RequestOutcome::Reply(Reply::Details { entry, .. })) = (top, &mut outcome) {
        entry.name.clear();
    }
    outcome
}

pub(super) fn hash(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Hash(path) = request else { return Err(misrouted()) };
    let top = path.is_root();
    let path: TreePath = context.session.resolve(&path)?;
    if let Some(outcome) = from_tree(context, &path)?.filter(has_digest) {
        return Ok(seen_from(top, outcome));
    }
    let file = match content::open(context, &path)? {
        content::FileLocation::Here(file) => file,
        content::FileLocation::Elsewhere(holders) => {
            return Ok(RequestOutcome::Reply(Reply::Elsewhere { holders }));
        }
    };
    let facts = context.serving.facts(&path, &file.meta)?;
    let digest = digest_of(&facts, &path, &file, context.keepalive)?;
    let outcome = details(context.serving, entry_of(&path, &file.meta, &facts)?, Some(digest));
    Ok(seen_from(top, outcome))
}

/// What the tree of a cluster has at a path; none where this slave stands alone, or nothing that was numbered is there.
fn from_tree(
    context: &RequestContext<'_>,
    path: &TreePath,
) -> Result<Option<RequestOutcome>, Refusal> {
    let serving = context.serving;
    if !serving.follows || path.is_root() {
        return Ok(None);
    }
    let Some((row, holders)) = serving.with_catalogue(|reader| reader.at(path))? else {
        // What lies there and is no part of the tree is not shown; the disk tells best why there is nothing.
        serving.folder.stat(path).map_err(|e| refuse(path, &e))?;
        return Err(Refusal::at(path, ErrorCode::NotFound, "not published yet"));
    };
    if row.entry.version.is_none() {
        return Ok(None);
    }
    let mark = serving.mark();
    let mut known = Vec::new();
    if let Some(put) = row.content.filter(|_| row.entry.kind == Kind::File) {
        let mut folders = holders;
        folders.extend(serving.holders(put, &context.session.owner));
        known = serving.slaves_of(&folders)?;
        if row.here {
            known.extend(serving.as_holder());
        }
    }
    Ok(Some(RequestOutcome::Reply(Reply::Details {
        entry: row.entry,
        digest: row.digest,
        holders: known,
        mark,
    })))
}

fn has_digest(outcome: &RequestOutcome) -> bool {
    matches!(outcome, RequestOutcome::Reply(Reply::Details { digest: Some(_), .. }))
}

fn details(serving: &ServingContext, entry: Entry, digest: Option<Digest>) -> RequestOutcome {
    RequestOutcome::Reply(Reply::Details {
        entry,
        digest,
        holders: serving.as_holder(),
        mark: serving.mark(),
    })
}
