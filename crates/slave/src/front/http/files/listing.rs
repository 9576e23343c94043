//! The names in a folder: as JSON page by page, or as a web page.
//!
//! It holds one page, however many names a folder has.

use std::io;

use relais_engine::Listing;
use relais_http::{Response, Status, accept, escape};
use relais_proto::{Entry, ErrorCode, FileTime, Kind};
use relais_web::{BodyWriter, ResponseBody};

use super::archive::{self, ArchiveFormat};
use crate::front::http::answer::Answer;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::page;
use crate::front::http::path::url_of;
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;

/// Bytes of entries that are made before they are sent.
const PAGE: usize = 64 * 1024;
/// The forms of a listing; the first one if the client has no preference.
const FORMS: [&str; 2] = ["text/html", "application/json"];

/// Answers GET and HEAD of a folder.
pub fn list(http: &mut HttpSession, request: &TreeRequest<'_>) -> HttpResult {
    let listing = http.session.list(&request.path, "", None, &mut http.keepalive());
    let listing = match listing {
        Err(refusal) if refusal.code == ErrorCode::NotFolder => return Err(to_file(http, request)),
        other => other?,
    };
    if let Some(format) = ArchiveFormat::of(request)? {
        return archive::send(http, request, format);
    }
    let form = accept::prefers(request.request.head.headers.get("accept"), &FORMS);
    let Some(form) = form else {
        let text = "a folder is listed as text/html or application/json";
        return Err(HttpError::status(Status::NOT_ACCEPTABLE, text));
    };
    if FORMS[form] == "application/json" {
        send(http, request, listing)
    } else {
        page::browse(http, request, listing)
    }
}

/// Sends a client that has added `/` to the name of a file to the file.
fn to_file(http: &HttpSession, request: &TreeRequest<'_>) -> HttpError {
    match http.entry(&request.path) {
        Ok((entry, _)) if entry.kind == Kind::File => {
            let location = url_of(&request.path, false);
            Answer::empty(Status::PERMANENT_REDIRECT).with("Location", location).into()
        }
        Ok(_) => HttpError::status(Status::NOT_FOUND, "no such folder"),
        Err(refusal) => refusal.into(),
    }
}

fn send(http: &mut HttpSession, request: &TreeRequest<'_>, mut listing: Listing) -> HttpResult {
    let response = Response::new(Status::OK)
        .with("Content-Type", "application/json")
        .with("Cache-Control", "private, no-cache")
        .with("Vary", "Accept")
        .with("X-Content-Type-Options", "nosniff")
        .with("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
    let mut write = |writer: &mut BodyWriter<'_>| write_all(writer, &mut listing);
    let body = ResponseBody::Stream { length: None, write: &mut write };
    http.respond_with(request.request, response, body)
}

/// Writes the entries page by page. An error cuts the body, so an incomplete listing is noticed.
fn write_all(writer: &mut BodyWriter<'_>, listing: &mut Listing) -> io::Result<()> {
    let mut text = "{\"entries\":[".to_owned();
    let mut is_first = true;
    loop {
        let more = listing.next_page(&mut |entry| {
            if text.len() >= PAGE {
                return false;
            }
            write_entry(&mut text, entry, is_first);
            is_first = false;
            true
        });
        if !more.map_err(io::Error::other)? {
            break;
        }
        writer.write(text.as_bytes())?;
        text.clear();
    }
    text.push_str("\n]}\n");
    writer.write(text.as_bytes())
}

/// Writes an entry as the client's `--json` has it.
fn write_entry(to: &mut String, entry: &Entry, is_first: bool) {
    let kind = match entry.kind {
        Kind::File => "file",
        Kind::Folder => "folder",
    };
    let version = entry.version.map_or("null".to_owned(), |version| format!("\"{version}\""));
    let mtime = timestamp(entry.mtime).map_or("null".to_owned(), |time| format!("\"{time}\""));
    let name = escape::json(&entry.name);
    to.push_str(if is_first { "\n" } else { ",\n" });
    to.push_str(&format!(
        "{{\"name\":{name},\"kind\":\"{kind}\",\"size\":{},\"mtime\":{mtime},\
         \"version\":{version}}}",
        entry.size
    ));
}

/// Returns a time in RFC 3339; none if it has no such form.
fn timestamp(time: FileTime) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(time.seconds, i32::try_from(time.nanos).ok()?).ok()
}
