//! `stat` and `hash`: one entry.

use relais_proto::{Digest, Entry, ErrorCode, Kind, Refusal, Reply, Request, TreePath};
use relais_storage::EntryFacts;

use super::content;
use super::requests::{
    HandlerResult, RequestContext, RequestOutcome, digest_of, entry_of, misrouted, refuse,
};
use crate::engine::serving::ServingContext;

pub(super) fn stat(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Stat(path) = request else { return Err(misrouted()) };
    let is_root = path.is_root();
    let path = context.session.resolve(&path)?;
    if let Some(outcome) = from_tree(context, &path)? {
        return Ok(hide_root_name(is_root, outcome));
    }
    let serving = context.serving;
    let meta = content::retry_while_moving(serving, &path, || serving.folder.stat(&path))?;
    let facts =
        if path.is_root() { EntryFacts::default() } else { context.serving.facts(&path, &meta)? };
    let entry = entry_of(&path, &meta, &facts)?;
    let outcome = details(context.serving, entry, facts.digest);
    Ok(hide_root_name(is_root, outcome))
}

/// Clears the entry's name if it is the user's root, whose real name the user may not see.
fn hide_root_name(is_root: bool, mut outcome: RequestOutcome) -> RequestOutcome {
    if let (true, RequestOutcome::Reply(Reply::Details { entry, .. })) = (is_root, &mut outcome) {
        entry.name.clear();
    }
    outcome
}

pub(super) fn hash(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Hash(path) = request else { return Err(misrouted()) };
    let is_root = path.is_root();
    let path: TreePath = context.session.resolve(&path)?;
    if let Some(outcome) = from_tree(context, &path)?.filter(has_digest) {
        return Ok(hide_root_name(is_root, outcome));
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
    Ok(hide_root_name(is_root, outcome))
}

/// Returns the tree's entry at a path.
///
/// There is none if the slave is standalone, or if the entry has no change id yet.
fn from_tree(
    context: &RequestContext<'_>,
    path: &TreePath,
) -> Result<Option<RequestOutcome>, Refusal> {
    let serving = context.serving;
    if !serving.is_cluster_member || path.is_root() {
        return Ok(None);
    }
    let Some((row, holders)) = serving.with_catalogue(|reader| reader.at(path))? else {
        // A file that is no part of the tree is not shown. The disk's error tells best why there is
        // nothing.
        serving.folder.stat(path).map_err(|e| refuse(path, &e))?;
        return Err(Refusal::at(path, ErrorCode::NotFound, "not published yet"));
    };
    if row.entry.version.is_none() {
        return Ok(None);
    }
    let lsn = serving.visible_lsn();
    let mut known = Vec::new();
    if let Some(put) = row.content.filter(|_| row.entry.kind == Kind::File) {
        let mut folders = holders;
        folders.extend(serving.ask_holders(put, &context.session.owner));
        known = serving.slaves_of(&folders)?;
        if row.here {
            known.extend(serving.as_holder());
        }
    }
    Ok(Some(RequestOutcome::Reply(Reply::Details {
        entry: row.entry,
        digest: row.digest,
        holders: known,
        lsn,
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
        lsn: serving.visible_lsn(),
    })
}
