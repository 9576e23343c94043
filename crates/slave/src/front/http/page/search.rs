//! A search for names below a folder, folder by folder, with a limit of its cost.

use std::collections::VecDeque;

use relais_engine::{KeepAlive, Session};
use relais_proto::{Entry, ErrorCode, Kind, Refusal, TreePath, pluralize};

use super::held_memory::HeldMemory;

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
    /// The memory of the paths and of what was found.
    memory: HeldMemory,
    has_memory: bool,
}

impl Search {
    /// Begins a search for names that contain `text`, without regard to case.
    pub fn new(base: &TreePath, text: &str) -> Self {
        let wanted = text.trim().to_lowercase();
        let folders = VecDeque::from([base.clone()]);
        let memory = HeldMemory::default();
        Self { wanted, folders, visited: 0, found: 0, memory, has_memory: true }
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

    /// Returns what the page says below the result: how complete it is.
    pub fn note(&self) -> String {
        let (found, visited) = (pluralize(self.found, "name"), self.visited);
        let limit = if self.found >= MOST_FOUND {
            format!("The search ended after {MOST_FOUND} results; give a longer part of the name.")
        } else if self.visited >= MOST_VISITED {
            format!("The search ended after {MOST_VISITED} names; search in a folder below.")
        } else if !self.has_memory {
            "The search ended early for lack of memory; search in a folder below.".to_owned()
        } else {
            return format!("{found} found, of {visited}.");
        };
        format!("{found} found, of {visited} looked at. {limit}")
    }

    /// Returns the memory, of which that of the result is a part.
    pub fn into_memory(self) -> HeldMemory {
        self.memory
    }

    fn is_limited(&self) -> bool {
        self.visited >= MOST_VISITED || self.found >= MOST_FOUND || !self.has_memory
    }

    /// Takes an entry of a folder; false if the memory for it is used up.
    fn take(&mut self, folder: &TreePath, entry: &Entry, found: &mut Vec<Entry>) -> bool {
        self.visited += 1;
        let mut held = 0;
        if entry.name.to_lowercase().contains(&self.wanted) {
            held += size_of::<Entry>() + entry.name.len();
            found.push(entry.clone());
        }
        if entry.kind == Kind::Folder
            && let Ok(below) = folder.join(&entry.name)
        {
            held += size_of::<TreePath>() + below.as_str().len();
            self.folders.push_back(below);
        }
        self.has_memory &= self.memory.hold(held);
        self.has_memory
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
        while more && !self.is_limited() && self.found + found.len() < MOST_FOUND {
            let mut in_page = 0;
            more = listing.next_page(&mut |entry| {
                if in_page >= 1_000 || self.found + found.len() >= MOST_FOUND {
                    return false;
                }
                in_page += 1;
                self.take(folder, entry, found)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_tells_limits() {
        for (found, visited, note) in [
            (0, 12, "0 names found, of 12."),
            (1, 1, "1 name found, of 1."),
            (
                1_000,
                5_432,
                "1000 names found, of 5432 looked at. The search ended after 1000 results; give a \
                 longer part of the name.",
            ),
            (
                7,
                200_000,
                "7 names found, of 200000 looked at. The search ended after 200000 names; search \
                 in a folder below.",
            ),
        ] {
            let search = Search { found, visited, ..Search::new(&TreePath::root(), "x") };
            assert_eq!(search.note(), note);
        }
    }
}
