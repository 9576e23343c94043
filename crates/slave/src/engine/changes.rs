//! `mkdir`, `rm` and `mv`: changes without content.

use relais_proto::{Change, ChangeId, Expect, Kind, Mode, Request};
use relais_storage::Proposal;

use super::change_ids::bind_id;
use super::requests::{HandlerResult, RequestContext, RequestOutcome, misrouted};

fn propose(id: ChangeId, change: Change, expect: Expect) -> HandlerResult {
    Ok(RequestOutcome::Change(Box::new(Proposal {
        id,
        change,
        expect,
        keep_mode: false,
        staged: None,
        synced: false,
        copies: 0,
    })))
}

pub(super) fn make_folder(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::MakeFolder { id, path } = request else { return Err(misrouted()) };
    // The operator that assigns a root folder to a user also makes it.
    let has_own_root = !context.session.root.is_root();
    let path = if has_own_root {
        context.session.resolve_below(&path)?
    } else {
        context.session.resolve(&path)?
    };
    let id = bind_id(context.session, id, "mkdir", &[&path], None);
    let mode = Mode::new(0o777).masked(context.serving.umask).with_owner_access(Kind::Folder);
    propose(id, Change::MakeFolder { path, mode }, Expect::Any)
}

pub(super) fn remove(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Remove { id, path, recursive, expect } = request else { return Err(misrouted()) };
    let path = context.session.resolve_below(&path)?;
    let id = bind_id(context.session, id, if recursive { "rm -r" } else { "rm" }, &[&path], None);
    propose(id, Change::Remove { path, recursive }, expect)
}

pub(super) fn move_to(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Move { id, from, to, expect } = request else { return Err(misrouted()) };
    let (from, to) = (context.session.resolve_below(&from)?, context.session.resolve_below(&to)?);
    let id = bind_id(context.session, id, "mv", &[&from, &to], None);
    propose(id, Change::Move { from, to }, expect)
}
