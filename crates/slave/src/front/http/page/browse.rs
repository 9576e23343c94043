//! Sends the page of a folder: its entries in order, or what a search finds below it.

use std::io;
use std::rc::Rc;

use relais_engine::Listing;
use relais_http::escape::uri_path;
use relais_http::{Response, Status, content_type};
use relais_proto::{Entry, Kind, Refusal, TreePath};
use relais_web::page::{Frame, Html, Nonce};
use relais_web::{BodyWriter, ResponseBody};

use super::assets::ASSETS;
use super::held_memory::HeldMemory;
use super::listing::FolderPage;
use super::order::Order;
use super::search::Search;
use crate::front::http::error::{HttpError, HttpResult};
use crate::front::http::path::url_of;
use crate::front::http::request::TreeRequest;
use crate::front::http::session::HttpSession;
use crate::front::http::uploads::INTEROP_VERSION;

/// Bytes of the page that are made before they are sent.
const PIECE: usize = 64 * 1024;
/// Most entries that are sorted; a larger folder is shown in the order of the catalogue.
const MOST_SORTED: usize = 100_000;
const TOO_LARGE: &str = "A folder of this size is not sorted.";
const TOO_MANY: &str = "Not sorted: too many large folders are being shown at the moment.";
/// Entries of a page of the catalogue.
const CATALOGUE_PAGE: usize = 1_000;

/// Answers GET and HEAD of a folder to a browser.
pub fn browse(
    http: &mut HttpSession,
    request: &TreeRequest<'_>,
    mut listing: Listing,
) -> HttpResult {
    let query = request.request.head.target.parameters()?;
    let search = query.get("search").filter(|text| !text.trim().is_empty());
    let is_signed = request.request.credentials.are_in_url();
    if search.is_some() && is_signed {
        const ONE: &str = "a signed URL is for one path; log in here for a search";
        return Err(HttpError::status(Status::FORBIDDEN, ONE));
    }
    let order = Order::parse(query.get("sort"), query.get("order"));
    let mut contents = match search {
        Some(text) => find(http, &request.path, text)?,
        None => list(&request.path, order, &mut listing)?,
    };
    let nonce = Nonce::new().map_err(|_| {
        HttpError::status(Status::INTERNAL_SERVER_ERROR, "the kernel provides no random bytes")
    })?;
    let user = http.session.principal().user.clone();
    let csrf = http.csrf_token();
    let is_writable = http.session.principal().rights.can_write();
    let parts = parts(&request.path);
    let page = FolderPage {
        frame: Frame {
            title: parts.last().map_or("All files", |(name, _)| name),
            user: &user,
            csrf: csrf.as_deref(),
            nonce: &nonce,
            assets: &ASSETS,
            attributes: &[
                ("data-upload-draft", INTEROP_VERSION),
                ("data-writable", if is_writable { "true" } else { "false" }),
            ],
        },
        is_writable,
        parts: &parts,
        here: &request.request.head.target.path,
        order,
        search,
    };
    let mut write = |writer: &mut BodyWriter<'_>| {
        let to = &mut PageWriter { page: &page, html: Html::default(), writer };
        to.write(&request.path, &mut contents, &mut listing)
    };
    let response = Response::new(Status::OK)
        .with("Content-Type", "text/html; charset=utf-8")
        .with("Cache-Control", "private, no-cache")
        .with("Vary", "Accept, Cookie")
        .with("X-Content-Type-Options", "nosniff")
        .with("Referrer-Policy", if is_signed { "no-referrer" } else { "same-origin" })
        .with("Content-Security-Policy", nonce.policy());
    let body = ResponseBody::Stream { length: None, write: &mut write };
    http.respond_with(request.request, response, body)
}

/// What a page shows.
struct PageContents {
    /// Entries, each with its folder.
    entries: Vec<(Rc<TreePath>, Entry)>,
    /// The memory of the entries.
    _memory: HeldMemory,
    /// Whether more entries of the folder follow, unsorted.
    has_more: bool,
    /// What is said below them.
    note: Option<String>,
}

/// Reads the entries of a folder, and sorts them if they are not too many.
///
/// Many clients may ask for a large folder at the same time, so their entries share a limit.
fn list(folder: &TreePath, order: Order, listing: &mut Listing) -> Result<PageContents, Refusal> {
    let (mut entries, mut memory) = (Vec::new(), HeldMemory::default());
    let (mut has_more, mut has_memory) = (true, true);
    while has_more && has_memory && entries.len() < MOST_SORTED {
        let begin = entries.len();
        has_more = next_page(listing, &mut entries)?;
        has_memory = memory.hold(entries[begin..].iter().map(size_of_entry).sum());
    }
    let note = if has_more {
        Some(if has_memory { TOO_LARGE } else { TOO_MANY }.to_owned())
    } else {
        order.sort(&mut entries);
        entries.is_empty().then(|| "This folder is empty.".to_owned())
    };
    let folder = Rc::new(folder.clone());
    let entries = entries.into_iter().map(|entry| (folder.clone(), entry)).collect();
    Ok(PageContents { entries, _memory: memory, has_more, note })
}

/// Returns about how much memory an entry takes, in bytes.
fn size_of_entry(entry: &Entry) -> usize {
    size_of::<(Rc<TreePath>, Entry)>() + entry.name.len()
}

/// Adds the next entries; false after the last.
fn next_page(listing: &mut Listing, entries: &mut Vec<Entry>) -> Result<bool, Refusal> {
    let end = entries.len() + CATALOGUE_PAGE;
    listing.next_page(&mut |entry| {
        if entries.len() >= end {
            return false;
        }
        entries.push(entry.clone());
        true
    })
}

/// Searches below a folder.
fn find(http: &HttpSession, base: &TreePath, text: &str) -> Result<PageContents, Refusal> {
    let mut search = Search::new(base, text);
    let mut entries = Vec::new();
    while let Some((folder, found)) = search.next(&http.session, &mut http.keepalive())? {
        let folder = Rc::new(folder);
        entries.extend(found.into_iter().map(|entry| (folder.clone(), entry)));
    }
    let note = Some(search.note());
    Ok(PageContents { entries, _memory: search.into_memory(), has_more: false, note })
}

/// Writes a page piece by piece.
struct PageWriter<'a, 'b> {
    page: &'a FolderPage<'a>,
    html: Html,
    writer: &'a mut BodyWriter<'b>,
}

impl PageWriter<'_, '_> {
    /// Writes the page. An error cuts the body, so the browser notices that it is incomplete.
    fn write(
        &mut self,
        base: &TreePath,
        contents: &mut PageContents,
        listing: &mut Listing,
    ) -> io::Result<()> {
        self.page.begin(&mut self.html);
        for (folder, entry) in contents.entries.drain(..) {
            self.row(base, &folder, &entry)?;
        }
        let mut entries = Vec::new();
        while contents.has_more && next_page(listing, &mut entries).map_err(io::Error::other)? {
            for entry in entries.drain(..) {
                self.row(base, base, &entry)?;
            }
        }
        self.page.end(&mut self.html, contents.note.as_deref());
        self.send()
    }

    /// Writes the row of an entry in `folder`, named relative to `base`.
    fn row(&mut self, base: &TreePath, folder: &TreePath, entry: &Entry) -> io::Result<()> {
        let path = folder.join(&entry.name).map_err(io::Error::other)?;
        let shown = path.as_str().get(base.as_str().len()..).unwrap_or_default();
        let url = url_of(&path, entry.kind == Kind::Folder);
        let media_type = content_type::of_name(&entry.name);
        self.page.row(&mut self.html, entry, shown.trim_start_matches('/'), &url, &media_type);
        if self.html.bytes_written() >= PIECE { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> io::Result<()> {
        self.writer.write(&self.html.take())
    }
}

/// Returns the names of the folders of a path, each with its URL.
fn parts(path: &TreePath) -> Vec<(&str, String)> {
    let names: Vec<&str> = path.parts().collect();
    let prefix = if names.first() == Some(&"-") { &["-", "files"][..] } else { &[] };
    let url =
        |count: usize| uri_path(prefix.iter().copied().chain(names[..count].iter().copied()), true);
    names.iter().enumerate().map(|(at, name)| (*name, url(at + 1))).collect()
}
