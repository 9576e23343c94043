//! Listing of a remote subtree with pipelined requests.

use relais_proto::{Entry, TreePath};
use relais_transfer::pipeline::{PipelineReply, PipelineRequest};

use crate::Result;
use crate::output::Output;
use crate::recursive::conversation::{Conversation, ListingBudget, converse};
use crate::recursive::node::{Node, SkipReason, TreeListing, under};
use crate::shell::Shell;
use crate::transfer_log::is_reserved;

/// Lists everything below the folder `base`; failures below it are in the result.
///
/// # Errors
/// The folder itself cannot be listed, no server answers, or the user interrupted.
pub fn remote(shell: &mut Shell, base: &TreePath) -> Result<TreeListing> {
    let (listing, budget) = (TreeListing::default(), ListingBudget::FULL);
    let mut walk = RemoteWalk { base, listing, next: 0, budget };
    converse(shell, &mut walk)?;
    let mut listing = walk.listing;
    if let Some(at) = listing.failed.iter().position(|(path, _)| path.is_root()) {
        return Err(listing.failed.swap_remove(at).1);
    }
    listing.sort();
    Ok(listing)
}

/// Request 0 is for the base, request n for the node with index n - 1.
struct RemoteWalk<'a> {
    base: &'a TreePath,
    listing: TreeListing,
    /// The request that is checked next.
    next: usize,
    budget: ListingBudget,
}

impl RemoteWalk<'_> {
    fn folder(&self, at: usize) -> TreePath {
        match at {
            0 => TreePath::root(),
            at => self.listing.nodes[at - 1].path.clone(),
        }
    }

    fn entry(&mut self, at: usize, entry: &Entry) -> Result<()> {
        let folder = self.folder(at);
        if !self.budget.take::<Node>(folder.as_str().len() + entry.name.len()) {
            fail!(BadServer, "{} holds more names than the client keeps", self.base);
        }
        match folder.join(&entry.name) {
            _ if is_reserved(&entry.name) => {
                self.listing.skip(&folder, &entry.name, SkipReason::Reserved);
            }
            // The full path must be valid for a request too.
            Ok(path) if under(self.base, &path).is_ok() => {
                self.listing.nodes.push(Node::new(path, entry));
            }
            _ => self.listing.skip(&folder, &entry.name, SkipReason::Name),
        }
        Ok(())
    }
}

impl Conversation for RemoteWalk<'_> {
    fn next(&mut self, _: &mut Output) -> Option<(usize, PipelineRequest)> {
        loop {
            let at = self.next;
            let is_folder = at == 0 || self.listing.nodes.get(at - 1)?.is_folder();
            self.next += 1;
            if !is_folder {
                continue;
            }
            let path = self.folder(at);
            match under(self.base, &path) {
                Ok(path) => return Some((at, PipelineRequest::list(path))),
                Err(failure) => self.listing.failed.push((path, failure)),
            }
        }
    }

    fn answer(&mut self, _: &mut Output, at: usize, answer: PipelineReply<'_>) -> Result<()> {
        match answer {
            PipelineReply::Entry(entry) => self.entry(at, &entry)?,
            // The rest of its content is unknown.
            PipelineReply::Refused(refusal) => {
                self.listing.not_listed(&self.folder(at), refusal.into());
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{ErrorCode, FileTime, Kind, Mode, Refusal, Request};

    use super::*;
    use crate::notices::Notices;
    use crate::output::Screen;
    use crate::recursive::node::SkippedName;

    fn entry(name: &str, kind: Kind) -> Entry {
        Entry {
            name: name.into(),
            kind,
            mode: Mode::new(0o644),
            size: 3,
            mtime: FileTime::default(),
            version: None,
        }
    }

    /// Answers each listing from a table of folders and names.
    ///
    /// A final `/` makes a name a folder. Folders outside the table are refused.
    fn walk(base: &str, table: &[(&str, &[&str])], budget: ListingBudget) -> Result<TreeListing> {
        let base = TreePath::new(base).unwrap();
        let output = &mut Output::new(
            Box::new(std::io::sink()),
            Notices::default(),
            false,
            Screen::default(),
        );
        let mut walk = RemoteWalk { base: &base, listing: TreeListing::default(), next: 0, budget };
        while let Some((tag, ask)) = walk.next(output) {
            let Request::List { path, .. } = ask.request else { panic!("no listing") };
            let Some((_, names)) = table.iter().find(|(folder, _)| *folder == path.as_str()) else {
                walk.answer(
                    output,
                    tag,
                    PipelineReply::Refused(Refusal::new(ErrorCode::NotFound, "no")),
                )?;
                continue;
            };
            for name in *names {
                let kind = if name.ends_with('/') { Kind::Folder } else { Kind::File };
                walk.answer(
                    output,
                    tag,
                    PipelineReply::Entry(entry(name.trim_end_matches('/'), kind)),
                )?;
            }
            walk.answer(output, tag, PipelineReply::Listed)?;
        }
        walk.listing.sort();
        Ok(walk.listing)
    }

    #[test]
    fn walk_requests_each_folder_it_finds() {
        let table: &[(&str, &[&str])] = &[
            ("top", &["a", "d/", "e/", ".log"]),
            ("top/d", &["x/", "y", ".relais-1.part"]),
            ("top/d/x", &[]),
            ("top/e", &["z"]),
        ];
        let listing = walk("top", table, ListingBudget::FULL).unwrap();
        let paths: Vec<_> = listing.nodes.iter().map(|n| n.path.as_str()).collect();
        assert_eq!(paths, ["a", "d", "d/x", "d/y", "e", "e/z"]);
        assert_eq!(
            listing.skipped.iter().map(SkippedName::shown).collect::<Vec<_>>(),
            [".log", "d/.relais-1.part"]
        );
        assert!(listing.is_whole());
    }

    #[test]
    fn refused_folder_makes_listing_incomplete() {
        let listing = walk("", &[("", &["d/", "f"])], ListingBudget::FULL).unwrap();
        assert_eq!(listing.failed.len(), 1);
        assert_eq!(
            (listing.failed[0].0.as_str(), listing.failed[0].1.code),
            ("d", ErrorCode::NotFound)
        );
        assert!(!listing.is_whole() && listing.nodes.len() == 2);
    }

    #[test]
    fn hostile_listing_is_bounded() {
        let long = "n".repeat(255);
        let deep = format!("{}/{}", vec![long.as_str(); 15].join("/"), "b".repeat(10));
        let name = format!("{long}/");
        let listing = walk(&deep, &[(&deep, &[name.as_str(), "ok"])], ListingBudget::FULL).unwrap();
        // The longer name makes a path that is too long for a request.
        assert_eq!(listing.nodes.iter().map(|n| n.path.as_str()).collect::<Vec<_>>(), ["ok"]);
        assert_eq!(listing.skipped[0].reason, SkipReason::Name);
        let small = ListingBudget(2 * size_of::<Node>() + 2);
        let failure = walk("", &[("", &["a", "b", "c"])], small).unwrap_err();
        assert!(failure.message.ends_with("more names than the client keeps"), "{failure}");
    }
}
