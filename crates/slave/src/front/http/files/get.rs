//! GET and HEAD of files (RFC 9110 sections 9.3.1 and 9.3.2).

use relais_engine::{Content, FoundContent, RemoteContent};
use relais_http::conditions::range_applies;
use relais_http::range::{Ranges, parse};
use relais_http::{Method, Preconditions, Response, Status};
use relais_proto::{Digest, ErrorCode, Kind, limits};
use relais_web::{BodyWriter, FileRanges, ResponseBody};

use super::content::ContentSender;
use super::listing;
use super::representation::{Representation, entity_tag, system_time};
use super::wanted_hash::WantedHash;
use crate::front::http::answer::Answer;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::path::url_of;
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;
use crate::front::replica_stream::{ContentSource, ReplicaStream};

/// Answers GET and HEAD of a file or folder.
pub fn get(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    if request.has_slash {
        return listing::list(http, request);
    }
    if request.request.head.method == Method::Head {
        return head(http, request);
    }
    let hash = WantedHash::of(http, request)?;
    let found = http.session.find_content(&request.path, &mut http.keepalive());
    match found {
        Ok(FoundContent::Here(content)) => send_local(http, request, *content, hash),
        Ok(FoundContent::Remote(content)) => send_remote(http, request, *content, hash),
        Err(refusal) if refusal.code == ErrorCode::IsFolder => Err(to_folder(request)),
        Err(refusal) => Err(refusal.into()),
    }
}

fn head(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    // First, because it makes the digest known too.
    let hash = WantedHash::of(http, request)?;
    let (entry, digest) = http.entry(&request.path)?;
    if entry.kind == Kind::Folder {
        return Err(to_folder(request));
    }
    let digest = match digest {
        None if needs_digest(request, entry.size) => http.computed_digest(&request.path)?,
        known => known,
    };
    let sha256 = match hash.and_then(|hash| hash.of_content(digest)) {
        None => known_sha256(http, request, digest)?,
        wanted => wanted,
    };
    let file = Representation { sha256, ..Representation::of_entry(&entry, digest.as_ref()) };
    let conditions = Preconditions::parse(&request.request.head.headers)?;
    if let Some(response) = file.check_conditions(&conditions)? {
        return http.respond(request.request, response, &[]);
    }
    let response = file.head(request);
    let length = Some(file.size);
    let body = ResponseBody::Stream { length, write: &mut |_| Ok(()) };
    http.respond_with(request.request, response, body)
}

/// Returns the SHA-256 of content with this digest, if it is known.
fn known_sha256(
    http: &HttpSession,
    request: &TreeRequest<'_>,
    digest: Option<Digest>,
) -> HttpResult<Option<[u8; 32]>> {
    let Some(digest) = digest else { return Ok(None) };
    let hashes = http.session.known_sha256(&request.path, digest)?;
    Ok(hashes.map(|hashes| hashes.sha256.0))
}

/// Sends a client to the URL of a folder, which ends with `/` (RFC 9110 section 15.4.9).
fn to_folder(request: &TreeRequest<'_>) -> HttpError {
    let mut location = url_of(&request.path, true);
    if let Some(query) = &request.request.head.target.query {
        location = format!("{location}?{query}");
    }
    Answer::empty(Status::PERMANENT_REDIRECT).with("Location", location).into()
}

/// Evaluates the conditions of a request; returns the answer if it has no content of the file.
fn check_conditions(
    request: &TreeRequest<'_>,
    file: &Representation,
) -> HttpResult<Option<Response>> {
    file.check_conditions(&Preconditions::parse(&request.request.head.headers)?)
}

/// Returns the ranges that the request asks for.
fn wanted_ranges(request: &TreeRequest<'_>, file: &Representation) -> Ranges {
    let headers = &request.request.head.headers;
    parse(headers.get("range").filter(|_| range_applies(headers, file.tag.as_ref())), file.size)
}

/// Whether the digest of a file is computed for an answer, if it is not known yet.
///
/// It is for a small file, and if only the tag can answer the request. Others are not read twice.
fn needs_digest(request: &TreeRequest<'_>, size: u64) -> bool {
    let headers = &request.request.head.headers;
    size <= limits::PIECE
        || ["if-match", "if-none-match", "if-range"].iter().any(|name| headers.has(name))
}

fn send_local(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    mut local: Content,
    hash: Option<WantedHash>,
) -> HttpResult {
    let digest = match local.known_digest() {
        None if needs_digest(request, local.size()) => Some(local.digest(&mut http.keepalive())?),
        known => known,
    };
    let (_, mtime) = local.attributes();
    let modified = Some(system_time(mtime));
    let tag = digest.as_ref().map(entity_tag);
    let sha256 = match hash.and_then(|hash| hash.of_content(digest)) {
        None => local.known_sha256()?.map(|hashes| hashes.sha256.0),
        wanted => wanted,
    };
    let file = Representation { size: local.size(), tag, modified, sha256 };
    if let Some(response) = check_conditions(request, &file)? {
        return http.respond(request.request, response, &[]);
    }
    let mut head = file.head(request);
    let wanted = wanted_ranges(request, &file);
    if let Ranges::Partial(ranges) = &wanted
        && let [range] = &ranges[..]
    {
        // The transfer may continue an earlier one.
        local.range(range.start, range.end.saturating_sub(range.start))?;
    }
    let ranges = FileRanges::choose(wanted, file.size, &mut head)?;
    send(http, request, head, ContentSource::Local(Box::new(local)), &ranges)
}

/// Sends content that other slaves have.
fn send_remote(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    remote: RemoteContent,
    hash: Option<WantedHash>,
) -> HttpResult {
    let tag = Some(entity_tag(&remote.digest()));
    // The description has no time; the entry may be a newer one by now.
    let (entry, digest) = http.entry(&request.path)?;
    let modified = (digest == Some(remote.digest())).then(|| system_time(entry.mtime));
    let sha256 = match hash.and_then(|hash| hash.of_content(Some(remote.digest()))) {
        None => remote.known_sha256()?.map(|hashes| hashes.sha256.0),
        wanted => wanted,
    };
    let file = Representation { size: remote.size(), tag, modified, sha256 };
    if let Some(response) = check_conditions(request, &file)? {
        return http.respond(request.request, response, &[]);
    }
    let mut head = file.head(request);
    let ranges = wanted_ranges(request, &file);
    // The first range is opened before the answer, so that a failure has a status of its own.
    let first = match &ranges {
        Ranges::Whole => 0..file.size,
        Ranges::Partial(ranges) => ranges.first().cloned().unwrap_or_default(),
        Ranges::Unsatisfiable => 0..0,
    };
    let part = (first.start, first.end - first.start);
    let ranges = FileRanges::choose(ranges, file.size, &mut head)?;
    let keepalive = &mut http.keepalive();
    let stream = ReplicaStream::open(&http.context.replicas, remote, part, keepalive)?;
    send(http, request, head, ContentSource::Replica(Box::new(stream)), &ranges)
}

fn send(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    head: Response,
    source: ContentSource,
    ranges: &FileRanges,
) -> HttpResult {
    let mut sender = ContentSender::new(source, http.context.replicas.clone(), http.keepalive());
    let mut write = |writer: &mut BodyWriter<'_>| {
        ranges.write(writer, &mut |writer, range| sender.send(writer, range))
    };
    let length = Some(ranges.content_length());
    let body = ResponseBody::Stream { length, write: &mut write };
    http.respond_with(request.request, head, body)?;
    Ok(sender.finish()?)
}
