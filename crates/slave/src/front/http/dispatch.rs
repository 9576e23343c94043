//! Chooses the handler of a request by its path and method. It has no other rule.

use relais_http::{Method, Status};

use super::dav;
use super::error::{HttpError, HttpResult};
use super::files;
use super::path::UrlPath;
use super::request::{CheckedRequest, TreeRequest};
use super::session::HttpSession;
use super::uploads;

/// Carries out a request, and sends its answer unless it fails.
///
/// # Errors
/// The reason why it failed; nothing has been sent then, unless the connection has failed.
pub fn run(http: &mut HttpSession, request: &CheckedRequest) -> HttpResult {
    if request.head.target.path == "*" {
        return files::options::all(http, request);
    }
    match UrlPath::of(&request.head.target)? {
        UrlPath::Tree { path, has_slash } => tree(http, &TreeRequest { request, path, has_slash }),
        UrlPath::Own(parts) => own(http, request, &parts),
    }
}

fn tree(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    let head = &request.request.head;
    dav::apply_if(http, head, &request.path)?;
    let answered = match &head.method {
        Method::Get | Method::Head => files::get::get(http, request),
        Method::Put => files::put::put(http, request),
        Method::Delete => files::delete::delete(http, request),
        Method::Options => files::options::options(http, request),
        _ => dav::run(http, request),
    };
    answered.map_err(|error| dav::name_locks(http, head, &request.path, error))
}

/// The server's own pages. Those without a session are answered in the pool.
fn own(http: &mut HttpSession, request: &CheckedRequest, parts: &[String]) -> HttpResult {
    match parts {
        [page, token] if page == "uploads" => uploads::resource(http, request, token),
        [page] if page == "metrics" && request.head.method.is_get_or_head() => {
            let rights = http.session.principal().rights;
            let answer = http.context.metrics.answer_user(&request.head, rights);
            http.respond_answer(request, answer)
        }
        _ => Err(HttpError::status(Status::NOT_FOUND, "no such page")),
    }
}
