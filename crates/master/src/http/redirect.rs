//! The redirect of a request to the slaves that can serve it.

use std::time::Duration;

use relais_auth::{AuthenticatedUser, UrlSignature};
use relais_cluster::{HttpEndpoint, LocatedEntry};
use relais_http::{RequestHead, Status, digest};
use relais_proto::{ErrorCode, Refusal, TreePath};

use super::answer::Answer;
use super::metalink;
use super::request::Request;
use super::site::{HttpSite, Outcome};
use super::url_path::{encoded, url_parts};

/// Retry delay of a client in seconds while no slave can serve its request.
const RETRY_AFTER: u16 = 1;
/// Time for which a request waits until a slave has applied a change that was just made.
const APPLY_TIME: Duration = Duration::from_secs(1);

/// The URLs of one path on all slaves.
pub(super) struct SlaveUrls {
    scheme: &'static str,
    /// Path and query.
    target: String,
}

impl SlaveUrls {
    pub fn on(&self, slave: &HttpEndpoint) -> String {
        format!("{}://{}{}", self.scheme, slave.authority, self.target)
    }
}

impl HttpSite {
    /// Redirects a request to the next slave in turn, and names the others (RFC 6249).
    ///
    /// `waited` is the time for which the request has waited.
    pub(super) fn redirect(
        &self,
        request: &Request,
        path: &TreePath,
        user: &AuthenticatedUser,
        waited: Duration,
    ) -> Outcome {
        let head = &request.head;
        let reads = head.method.is_get_or_head();
        let found = self.locate(path, user);
        if reads && found.is_none() && !path.is_root() {
            let refusal = Refusal::new(ErrorCode::NotFound, "no such file or folder");
            return Outcome::Answer(Answer::refused(head, &refusal));
        }
        let slaves = match self.slaves(request, found.as_ref(), reads) {
            Ok(slaves) => slaves,
            Err(refusal) => return Outcome::Answer(Answer::refused(head, &refusal)),
        };
        let Some((first, others)) = slaves.split_first() else {
            return self.no_holder(head, waited);
        };
        let is_file = found.as_ref().is_some_and(|found| found.entry.content.is_some());
        let is_folder = !is_file && (found.is_some() || path.is_root());
        let urls = self.urls(request, path, user, head.target.query.as_deref(), is_folder);
        let answer = Answer::empty(Status::TEMPORARY_REDIRECT)
            .with("Location", urls.on(first))
            .with("Referrer-Policy", "no-referrer");
        Outcome::Answer(match found {
            Some(found) if reads && is_file => {
                with_duplicates(answer, request, path, &urls, others, &found)
            }
            _ => answer,
        })
    }

    /// Lets a request wait for the change that is about to be applied, or ends its wait.
    pub(super) fn no_holder(&self, head: &RequestHead, waited: Duration) -> Outcome {
        if waited < APPLY_TIME {
            return Outcome::Wait;
        }
        let why = "no slave in service has this file now; try again later";
        let refusal = Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::NoSlave, why) };
        Outcome::Answer(Answer::refused(head, &refusal))
    }

    /// Returns the path in the tree for a path of a user.
    pub(super) fn path_in_tree(path: &TreePath, user: &AuthenticatedUser) -> Option<TreePath> {
        path.parts().try_fold(user.root.clone(), |at, part| at.join(part)).ok()
    }

    /// Finds a path of a user in the tree.
    pub(super) fn locate(&self, path: &TreePath, user: &AuthenticatedUser) -> Option<LocatedEntry> {
        self.view.get().locate(&Self::path_in_tree(path, user)?)
    }

    /// Selects the slaves for a request; none if no slave in service is able to serve it.
    pub(super) fn slaves(
        &self,
        request: &Request,
        found: Option<&LocatedEntry>,
        reads: bool,
    ) -> Result<Vec<HttpEndpoint>, Refusal> {
        let requester = request.client.requester(!reads);
        let folders = found.map(|found| if reads { &found.holders } else { &found.current });
        let can_serve = |folder| folders.is_none_or(|folders| folders.contains(&folder));
        self.core.http_slaves(requester, can_serve).map_err(|error| Refusal {
            retry_after: RETRY_AFTER,
            ..Refusal::new(ErrorCode::NoSlave, error.to_string())
        })
    }

    /// Returns the URLs of a path: signed for users with an account, if the request reads.
    pub(super) fn urls(
        &self,
        request: &Request,
        path: &TreePath,
        user: &AuthenticatedUser,
        query: Option<&str>,
        is_folder: bool,
    ) -> SlaveUrls {
        let parts = url_parts(path);
        let mut target = encoded(&parts, is_folder);
        let mut separator = '?';
        let mut add = |text: &str| {
            target.push(std::mem::replace(&mut separator, '&'));
            target.push_str(text);
        };
        query.into_iter().for_each(&mut add);
        if !user.name.is_empty()
            && request.head.method.is_get_or_head()
            && let Ok(signed) = TreePath::new(parts.join("/"))
        {
            let signature = UrlSignature::new(user, self.core.time_ms());
            let signature = signature.sign(&self.core.config.key, &signed);
            add(&format!("{}={signature}", UrlSignature::PARAMETER));
        }
        SlaveUrls { scheme: request.client.scheme(), target }
    }
}

/// Names the other slaves, the Metalink and the hash of a file (RFC 6249, sections 3 to 6).
fn with_duplicates(
    mut answer: Answer,
    request: &Request,
    path: &TreePath,
    urls: &SlaveUrls,
    others: &[HttpEndpoint],
    found: &LocatedEntry,
) -> Answer {
    for (n, slave) in others.iter().enumerate() {
        let link = format!("<{}>; rel=duplicate; pri={}", urls.on(slave), n + 2);
        answer = answer.and("Link", link);
    }
    let Some(sha256) = found.sha256 else { return answer };
    if let Some(origin) = request.origin() {
        let (target, parameter) = (encoded(&url_parts(path), false), metalink::PARAMETER);
        let media_type = metalink::MEDIA_TYPE;
        let link =
            format!("<{origin}{target}?{parameter}>; rel=describedby; type=\"{media_type}\"");
        answer = answer.and("Link", link);
    }
    answer
        .with("Digest", digest::instance(&sha256.0))
        .with("Repr-Digest", digest::structured(&sha256.0))
}
