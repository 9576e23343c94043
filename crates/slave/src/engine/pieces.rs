//! `pieces`: the hashes of single pieces, by which a client finds the damaged ones.

use relais_proto::{Refusal, Reply, Request, WaitReason, limits};

use super::content;
use super::requests::{HandlerResult, RequestContext, RequestOutcome, misrouted, refuse};

pub(super) fn pieces(context: &mut RequestContext<'_>, request: Request) -> HandlerResult {
    let Request::Pieces { path, if_match: wanted, first, count } = request else {
        return Err(misrouted());
    };
    let path = context.session.resolve(&path)?;
    let file = match content::open(context, &path)? {
        content::FileLocation::Here(file) => file,
        content::FileLocation::Elsewhere(holders) => {
            return Ok(RequestOutcome::Reply(Reply::Elsewhere { holders }));
        }
    };
    content::check_wanted(context, &path, &file, wanted)?;
    let count = count.min(limits::PIECES_PER_PAGE);
    context
        .keepalive
        .send_keepalive(WaitReason::Hashing)
        .map_err(|e| content::hashing_failed(&path, e))?;
    let values = relais_tree::piece_values(&file.file, file.meta.size, first, count, &mut |_| {
        context.keepalive.send_keepalive(WaitReason::Hashing)
    })
    .map_err(|e| content::hashing_failed(&path, e))?;
    if !file.is_unchanged().map_err(|e| refuse(&path, &e))? {
        return Err(content::content_changed(&path));
    }
    // A client asks for pieces only after the content did not match its digest.
    context.serving.report_damaged(&path);
    Ok::<_, Refusal>(RequestOutcome::Reply(Reply::PieceValues { first, values }))
}
