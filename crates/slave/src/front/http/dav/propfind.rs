//! PROPFIND: the properties of a file, a folder, and the members of a folder.

use std::collections::HashMap;
use std::io;

use relais_dav::{Condition, DavError, Depth, LiveProperty, Multistatus, PropFind, depth};
use relais_engine::{FoundLock, KeepAlive, Listing, Session};
use relais_http::Status;
use relais_proto::{Digest, Entry, Kind, Property, Refusal, TreePath, metric};
use relais_web::BodyWriter;

use super::properties::{Asked, Quota, Resource};
use super::request::{DavAnswer, DavBody, DavRequest, DavResult, StreamedBody};

/// Members that are looked up at once.
const PAGE: usize = 256;
/// Bytes of an answer that are kept before they are sent.
const CHUNK: usize = 32 * 1024;

/// An answer that has begun. Members are looked up while it is sent.
pub struct PropfindAnswer {
    asked: Asked,
    folder: TreePath,
    first: Member,
    /// The members, if they are asked for.
    listing: Option<Listing>,
    /// Locks on the folder, above it and below it.
    locks: LockIndex,
}

/// An entry with what the catalogue has beside it.
struct Member {
    path: TreePath,
    entry: Entry,
    digest: Option<Digest>,
    dead: Vec<Property>,
}

/// PROPFIND (RFC 4918, section 9.1) with a depth of 0 or 1.
pub fn propfind(request: &mut DavRequest<'_>) -> DavResult {
    let depth = depth(request.header("Depth"))?;
    let asked = PropFind::parse(&request.body)?;
    let first = member(request)?;
    let is_folder = first.entry.kind == Kind::Folder;
    if depth == Depth::Infinity && is_folder {
        let text = "Depth is 0 or 1";
        let error =
            DavError::with_condition(Status::FORBIDDEN, Condition::PropfindFiniteDepth, text);
        return Err(error.into());
    }
    let (folder, lists) = (request.path.clone(), depth == Depth::One && is_folder);
    let (session, keepalive) = (&request.http.session, &mut request.http.keepalive());
    let listing = lists.then(|| session.list(&folder, "", None, keepalive)).transpose()?;
    let wants_locks = wants(&asked, LiveProperty::LockDiscovery);
    let locks = match wants_locks {
        true => session.locks(&folder, lists, keepalive)?,
        false => Vec::new(),
    };
    let asked = Asked {
        quota: quota(&asked, session, keepalive)?,
        propfind: asked,
        user: session.principal().user.clone(),
    };
    let locks = LockIndex::new(&folder, locks);
    let answer = PropfindAnswer { asked, folder, first, listing, locks };
    let body = DavBody::Streamed(Box::new(answer));
    Ok(DavAnswer { status: Status::MULTI_STATUS, headers: Vec::new(), body })
}

impl StreamedBody for PropfindAnswer {
    fn send(
        &mut self,
        session: &Session,
        keepalive: &mut dyn KeepAlive,
        writer: &mut BodyWriter<'_>,
    ) -> io::Result<()> {
        let mut out = Multistatus::new();
        self.asked.write(&self.first.with_locks(&self.locks), &mut out);
        while let Some(entries) = self.next_page().map_err(failed)? {
            for member in members(session, &self.folder, entries, keepalive).map_err(failed)? {
                self.asked.write(&member.with_locks(&self.locks), &mut out);
                if out.pending() >= CHUNK {
                    writer.write(&out.take())?;
                }
            }
        }
        writer.write(&out.finish())
    }
}

impl PropfindAnswer {
    fn next_page(&mut self) -> Result<Option<Vec<Entry>>, Refusal> {
        let Some(listing) = &mut self.listing else { return Ok(None) };
        let mut entries = Vec::new();
        let more = listing.next_page(&mut |entry| {
            let has_room = entries.len() < PAGE;
            if has_room {
                entries.push(entry.clone());
            }
            has_room
        })?;
        Ok(more.then_some(entries))
    }
}

fn failed(refusal: Refusal) -> io::Error {
    io::Error::other(refusal.to_string())
}

impl Member {
    fn with_locks<'a>(&'a self, locks: &'a LockIndex) -> Resource<'a> {
        let Self { path, entry, digest, dead } = self;
        Resource { path, entry, digest: *digest, dead, locks: locks.covering(path) }
    }
}

/// Returns the entry of a request with its digest and properties.
fn member(request: &DavRequest<'_>) -> Result<Member, Refusal> {
    let path = request.path.clone();
    let (entry, digest) = request.http.entry(&path)?;
    let dead = request.http.session.properties(&path, &mut request.http.keepalive())?;
    Ok(Member { path, entry, digest, dead })
}

/// Looks entries of a folder up. One that is gone meanwhile is left out.
fn members(
    session: &Session,
    folder: &TreePath,
    entries: Vec<Entry>,
    keepalive: &mut dyn KeepAlive,
) -> Result<Vec<Member>, Refusal> {
    // The rules of names hold for what the catalogue lists.
    let paths: Vec<TreePath> =
        entries.iter().filter_map(|entry| folder.join(&entry.name).ok()).collect();
    let list = session.stat_many(&paths, keepalive)?;
    let properties = session.properties_of(&paths, keepalive)?;
    let found = paths.into_iter().zip(list.results).zip(properties);
    let members = found.filter_map(|((path, result), dead)| {
        let (entry, digest) = result.ok()?;
        Some(Member { path, entry, digest, dead })
    });
    Ok(members.collect())
}

/// The locks of an answer, by the path that they are on.
struct LockIndex {
    /// Locks on the folder and above it that cover its members too.
    inherited: Vec<FoundLock>,
    by_path: HashMap<TreePath, Vec<FoundLock>>,
}

impl LockIndex {
    fn new(folder: &TreePath, locks: Vec<FoundLock>) -> Self {
        let mut index = Self { inherited: Vec::new(), by_path: HashMap::new() };
        for found in locks {
            let is_above = found.path == *folder || folder.is_below(&found.path);
            if found.lock.deep && is_above {
                index.inherited.push(found);
            } else {
                index.by_path.entry(found.path.clone()).or_default().push(found);
            }
        }
        index
    }

    fn covering(&self, path: &TreePath) -> Vec<&FoundLock> {
        self.inherited.iter().chain(self.by_path.get(path).into_iter().flatten()).collect()
    }
}

/// Whether a property is asked for.
fn wants(asked: &PropFind, property: LiveProperty) -> bool {
    let named = |names: &[relais_proto::PropertyName]| {
        names.iter().any(|name| LiveProperty::from_name(name) == Some(property))
    };
    match asked {
        PropFind::Names => true,
        PropFind::All { include } => property.is_in_all() || named(include),
        PropFind::Named(names) => named(names),
    }
}

/// Returns the space of folders, if it is asked for.
fn quota(
    asked: &PropFind,
    session: &Session,
    keepalive: &mut dyn KeepAlive,
) -> Result<Option<Quota>, Refusal> {
    let properties = [LiveProperty::QuotaAvailable, LiveProperty::QuotaUsed];
    if !properties.iter().any(|property| wants(asked, *property)) {
        return Ok(None);
    }
    let used = session.status(keepalive)?.metrics.get(metric::BYTES);
    Ok(Some(Quota { available: session.disk_space(), used }))
}
