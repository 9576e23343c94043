//! What a file is to HTTP: its tag, times and type, and the fields that say so.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relais_http::conditions::{CurrentState, Decision};
use relais_http::digest::structured;
use relais_http::disposition::{Disposition, content_disposition};
use relais_http::{EntityTag, Headers, Preconditions, Response, Status, content_type, date};
use relais_proto::{Digest, Entry, FileTime, TreePath};

use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::request::TreeRequest;

/// What content may do in a browser: nothing with the origin of this server.
///
/// A browser shows it in a sandbox with an origin of its own, without scripts and without requests
/// (Content Security Policy, Level 3, section 6).
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// A cache asks again before each use: the content may have changed, and rights too.
const CACHE_CONTROL: &str = "private, no-cache";

/// Returns the tag of content: its digest, which is the same on all slaves.
#[must_use]
pub fn entity_tag(digest: &Digest) -> EntityTag {
    EntityTag::of_digest(&digest.0)
}

/// Returns a time of the tree; times before 1970 become 1970.
#[must_use]
pub fn system_time(time: FileTime) -> SystemTime {
    u64::try_from(time.seconds).map_or(UNIX_EPOCH, |seconds| {
        UNIX_EPOCH.checked_add(Duration::new(seconds, time.nanos)).unwrap_or(UNIX_EPOCH)
    })
}

/// A file as the answers describe it.
#[derive(Debug)]
pub struct Representation {
    /// Size in bytes.
    pub size: u64,
    /// Tag of the content; none if its digest is not known.
    pub tag: Option<EntityTag>,
    /// Time of last modification; none if it is not known.
    pub modified: Option<SystemTime>,
    /// SHA-256 of the content; none if it is not known.
    pub sha256: Option<[u8; 32]>,
}

impl Representation {
    /// Describes an entry of the catalogue.
    #[must_use]
    pub fn of_entry(entry: &Entry, digest: Option<&Digest>) -> Self {
        let modified = Some(system_time(entry.mtime));
        Self { size: entry.size, tag: digest.map(entity_tag), modified, sha256: None }
    }

    /// Evaluates the conditions of a reading request (RFC 9110 section 13.2.2).
    ///
    /// # Errors
    /// The answer with status 304 or 412.
    pub fn check_conditions(&self, conditions: &Preconditions) -> HttpResult<Option<Response>> {
        let state = CurrentState { exists: true, tag: self.tag.as_ref(), modified: self.modified };
        match conditions.evaluate(true, state) {
            Decision::Proceed => Ok(None),
            Decision::NotModified => {
                let mut response = Response::new(Status::NOT_MODIFIED);
                self.add_validators(&mut response.headers);
                response.headers.insert("Cache-Control", CACHE_CONTROL);
                Ok(Some(response))
            }
            Decision::Failed => {
                let text = "the file is not the one that the request names";
                Err(HttpError::status(Status::PRECONDITION_FAILED, text))
            }
        }
    }

    fn add_validators(&self, to: &mut Headers) {
        if let Some(tag) = &self.tag {
            to.insert("ETag", tag.to_string());
        }
        if let Some(modified) = self.modified {
            to.insert("Last-Modified", date::format(modified));
        }
    }

    /// Returns the head of an answer with the content.
    #[must_use]
    pub fn head(&self, request: &TreeRequest<'_>) -> Response {
        let mut response = Response::new(Status::OK);
        let headers = &mut response.headers;
        headers.insert("Content-Type", media_type(&request.path));
        self.add_validators(headers);
        headers.insert("Accept-Ranges", "bytes");
        if let Some(sha256) = &self.sha256 {
            headers.insert("Repr-Digest", structured(sha256));
        }
        headers.insert("Cache-Control", CACHE_CONTROL);
        headers.insert("X-Content-Type-Options", "nosniff");
        headers.insert("Content-Security-Policy", CONTENT_POLICY);
        headers.insert("Cross-Origin-Resource-Policy", "same-origin");
        if request.request.credentials.are_in_url() {
            headers.insert("Referrer-Policy", "no-referrer");
        }
        if is_download(request) {
            let name = request.path.last().unwrap_or_default();
            let value = content_disposition(Disposition::Attachment, name);
            headers.insert("Content-Disposition", value);
        }
        response
    }
}

/// Returns the media type of a file by its name.
#[must_use]
pub fn media_type(path: &TreePath) -> String {
    content_type::of_name(path.last().unwrap_or_default())
}

/// Whether the query wants the content saved, not shown.
fn is_download(request: &TreeRequest<'_>) -> bool {
    let query = request.request.head.target.query.as_deref().unwrap_or_default();
    query.split('&').any(|pair| pair == "download" || pair.starts_with("download="))
}
