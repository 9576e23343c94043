//! Walks through a folder, with everything in it.
//!
//! It holds one page of entries, and a name for each folder above it.

use std::collections::VecDeque;

use relais_engine::{KeepAlive, Session};
use relais_proto::{Entry, ErrorCode, Kind, Refusal, TreePath};

use crate::front::http::limits::ARCHIVE_PAGE;

/// A walk through a folder: each folder comes before what it has, names in byte order.
pub struct FolderWalk<'a> {
    session: &'a Session,
    /// The folders that are open, from the top, each with its last name that was returned.
    open: Vec<(TreePath, String)>,
    /// The next entries of the last one.
    page: VecDeque<Entry>,
}

impl<'a> FolderWalk<'a> {
    /// Begins a walk through what is in `top`.
    pub fn new(session: &'a Session, top: TreePath) -> Self {
        Self { session, open: vec![(top, String::new())], page: VecDeque::new() }
    }

    /// Returns the next file or folder; none at the end.
    ///
    /// A folder that was removed since it was returned has no entries.
    ///
    /// # Errors
    /// As [`Session::list`].
    pub fn next(
        &mut self,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Option<(TreePath, Entry)>, Refusal> {
        loop {
            let Some((folder, last)) = self.open.last_mut() else { return Ok(None) };
            let Some(entry) = self.page.pop_front() else {
                self.page = read_page(self.session, folder, last, keepalive)?;
                if self.page.is_empty() {
                    self.open.pop();
                }
                continue;
            };
            last.clone_from(&entry.name);
            let path = folder.join(&entry.name);
            let path = path.map_err(|e| Refusal::new(ErrorCode::BadName, e.to_string()))?;
            if entry.kind == Kind::Folder {
                // The rest of this page is read again later.
                self.page.clear();
                self.open.push((path.clone(), String::new()));
            }
            return Ok(Some((path, entry)));
        }
    }
}

fn read_page(
    session: &Session,
    folder: &TreePath,
    last: &str,
    keepalive: &mut dyn KeepAlive,
) -> Result<VecDeque<Entry>, Refusal> {
    let mut page = VecDeque::new();
    let listed =
        session.list(folder, last, Some(ARCHIVE_PAGE), keepalive).and_then(|mut listing| {
            listing.next_page(&mut |entry| {
                page.push_back(entry.clone());
                true
            })
        });
    match listed {
        Err(e) if matches!(e.code, ErrorCode::NotFound | ErrorCode::NotFolder) => {
            Ok(VecDeque::new())
        }
        other => other.map(|_| page),
    }
}
