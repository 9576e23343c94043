//! A search for names below a folder, folder by folder, with a limit of its cost.

use std::collections::VecDeque;

use relais_engine::{KeepAlive, Session};
use relais_proto::{Entry, ErrorCode, Kind, Refusal, TreePath};

/// Most entries that are looked at.
const MOST_VISITED: usize = 200_000;
/// Most entries that are found.
const MOST_FOUND: usize = 1_000;

/// A search under way.
pub struct Search {
    wanted: String,
    /// Folders that are not searched yet.
    folders: VecDeque<TreePath>,
    visited: usize,
    found: usize,
}

impl Search {
    /// Begins a search for names that contain `text`, without regard to case.
    pub fn new(base: &TreePath, text: &str) -> Self {
        let wanted = text.trim().to_lowercase();
        Self { wanted, folders: VecDeque::from([base.clone()]), visited: 0, found: 0 }
    }

    /// Searches the next folder; none after the last, or at a limit.
    ///
    /// # Errors
    /// As [`Session::list`]. A folder that was removed meanwhile is left out.
    pub fn next(
        &mut self,
        session: &Session,
        keepalive: &mut dyn KeepAlive,
    ) -> Result<Option<(TreePath, Vec<Entry>)>, Refusal> {
        if self.is_limited() {
            return Ok(None);
        }
        let Some(folder) = self.folders.pop_front() else { return Ok(None) };
        let mut found = Vec::new();
        match self.search(&folder, session, keepalive, &mut found) {
            Err(refusal) if refusal.code != ErrorCode::NotFound => return Err(refusal),
            _ => {}
        }
        self.found += found.len();
        Ok(Some((folder, found)))
    }

    /// Returns what the page says below the result.
    pub fn note(&self) -> String {
        let names = if self.found == 1 { "name" } else { "names" };
        let limit = if self.is_limited() { "; the search ended at its limit" } else { "" };
        format!("{} {names} found{limit}.", self.found)
    }

    fn is_limited(&self) -> bool {
        self.visited >= MOST_VISITED || self.found >= MOST_FOUND
    }

    fn search(
        &mut self,
        folder: &TreePath,
        session: &Session,
        keepalive: &mut dyn KeepAlive,
        found: &mut Vec<Entry>,
    ) -> Result<(), Refusal> {
        let mut listing = session.list(folder, "", None, keepalive)?;
        let mut more = true;
        while more && self.visited < MOST_VISITED && self.found + found.len() < MOST_FOUND {
            let mut in_page = 0;
            more = listing.next_page(&mut |entry| {
                if in_page >= 1_000 || self.found + found.len() >= MOST_FOUND {
                    return false;
                }
                in_page += 1;
                self.visited += 1;
                if entry.name.to_lowercase().contains(&self.wanted) {
                    found.push(entry.clone());
                }
                if entry.kind == Kind::Folder
                    && let Ok(below) = folder.join(&entry.name)
                {
                    self.folders.push_back(below);
                }
                true
            })?;
        }
        Ok(())
    }
}
