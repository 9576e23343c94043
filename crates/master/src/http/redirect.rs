//! The redirect of a request to the slaves that can serve it.

use relais_auth::{AuthenticatedUser, UrlSignature};
use relais_cluster::{HttpEndpoint, LocatedEntry};
use relais_http::{Status, digest};
use relais_proto::{ErrorCode, Refusal, TreePath};

use super::answer::Answer;
use super::request::Request;
use super::site::{HttpSite, Outcome};
use super::url_path::{encoded, url_parts};

/// Retry delay of a client in seconds while no slave can serve its request.
const RETRY_AFTER: u16 = 1;

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
    pub(super) fn redirect(
        &self,
        request: &Request,
        path: &TreePath,
        user: &AuthenticatedUser,
        waits: bool,
    ) -> Outcome {
        let reads = request.head.method.is_get_or_head();
        let found = self.locate(path, user);
        if reads && found.is_none() && !path.is_root() {
            let refusal = Refusal::new(ErrorCode::NotFound, "no such file or folder");
            return Outcome::Answer(Answer::refused(&request.head, &refusal));
        }
        let slaves = match self.slaves(request, found.as_ref(), reads) {
            Ok(slaves) => slaves,
            Err(refusal) => return Outcome::Answer(Answer::refused(&request.head, &refusal)),
        };
        let Some((first, others)) = slaves.split_first() else {
            if waits {
                return Outcome::Wait;
            }
            let why = "no slave in service has this file now; try again later";
            let refusal =
                Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::NoSlave, why) };
            return Outcome::Answer(Answer::refused(&request.head, &refusal));
        };
        let is_file = found.as_ref().is_some_and(|found| found.entry.content.is_some());
        let is_folder = !is_file && (found.is_some() || path.is_root());
        let urls = self.urls(request, path, user, is_folder);
        let mut answer = Answer::empty(Status::TEMPORARY_REDIRECT)
            .with("Location", urls.on(first))
            .with("Referrer-Policy", "no-referrer");
        if !(reads && is_file) {
            return Outcome::Answer(answer);
        }
        for (n, slave) in others.iter().enumerate() {
            // RFC 6249 sections 3 and 3.1.
            let link = format!("<{}>; rel=duplicate; pri={}", urls.on(slave), n + 2);
            answer = answer.and("Link", link);
        }
        if let Some(sha256) = found.and_then(|found| found.sha256) {
            answer = answer
                .with("Digest", digest::instance(&sha256.0))
                .with("Repr-Digest", digest::structured(&sha256.0));
        }
        Outcome::Answer(answer)
    }

    /// Finds a path of a user in the tree.
    pub(super) fn locate(&self, path: &TreePath, user: &AuthenticatedUser) -> Option<LocatedEntry> {
        let path = path.parts().try_fold(user.root.clone(), |at, part| at.join(part)).ok()?;
        self.view.get().locate(&path)
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
        is_folder: bool,
    ) -> SlaveUrls {
        let parts = url_parts(path);
        let mut target = encoded(&parts, is_folder);
        let mut separator = '?';
        if let Some(query) = &request.head.target.query {
            target.push(separator);
            target.push_str(query);
            separator = '&';
        }
        if !user.name.is_empty()
            && request.head.method.is_get_or_head()
            && let Ok(signed) = TreePath::new(parts.join("/"))
        {
            let signature = UrlSignature::new(user, self.core.time_ms());
            target.push(separator);
            target.push_str(UrlSignature::PARAMETER);
            target.push('=');
            target.push_str(&signature.sign(&self.core.config.key, &signed));
        }
        SlaveUrls { scheme: request.client.scheme(), target }
    }
}
