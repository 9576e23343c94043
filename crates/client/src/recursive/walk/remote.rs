//! Listing of a remote subtree with pipelined requests.

use relais_proto::{Entry, TreePath};
use relais_transfer::pipeline::{PipelineError, PipelineHandler, PipelineReply, PipelineRequest};

use crate::Result;
use crate::recursive::conversation::{ConversationContext, run_conversation, stopped, under};
use crate::recursive::listing_budget::ListingBudget;
use crate::recursive::node::{Node, SkipReason, SkippedName, TreeListing};
use crate::shell::Shell;
use crate::transfer_log::is_reserved;

/// Lists everything below the folder `base`; failures below it are in the result.
///
/// # Errors
/// The folder itself cannot be listed, no server answers, or the user interrupted.
pub fn remote(shell: &mut Shell, base: &TreePath) -> Result<TreeListing> {
    let context = ConversationContext::new(shell);
    let mut walk = RemoteWalk {
        base,
        listing: TreeListing::default(),
        next: 0,
        budget: ListingBudget::default(),
        context,
    };
    run_conversation(&mut shell.session, &shell.notices, &mut walk)?;
    let mut listing = walk.listing;
    if let Some(at) = listing.failed.iter().position(|(path, _)| path.is_root()) {
        return Err(listing.failed.swap_remove(at).1);
    }
    listing.sort();
    Ok(listing)
}

/// Tag 0 is the base, tag n is the node with index n - 1.
struct RemoteWalk<'a> {
    base: &'a TreePath,
    listing: TreeListing,
    /// The tag that is checked next.
    next: usize,
    budget: ListingBudget,
    context: ConversationContext,
}

impl RemoteWalk<'_> {
    fn folder(&self, tag: u64) -> TreePath {
        let node =
            usize::try_from(tag).ok().and_then(|tag| self.listing.nodes.get(tag.checked_sub(1)?));
        node.map_or_else(TreePath::root, |node| node.path.clone())
    }

    fn entry(&mut self, tag: u64, entry: &Entry) -> Result<(), PipelineError> {
        let folder = self.folder(tag);
        if !self.budget.take::<Node>(folder.as_str().len() + entry.name.len()) {
            return Err(stopped(failure!(
                BadServer,
                "{} holds more names than the client keeps",
                self.base
            )));
        }
        let reason = |reason| SkippedName::new(&folder, entry.name.clone(), reason);
        if is_reserved(&entry.name) {
            self.listing.skipped.push(reason(SkipReason::Reserved));
            return Ok(());
        }
        match folder.join(&entry.name) {
            // The full path must be valid for a request too.
            Ok(path) if under(self.base, &path).is_ok() => {
                self.listing.nodes.push(Node::new(path, entry))
            }
            _ => self.listing.skipped.push(reason(SkipReason::Name)),
        }
        Ok(())
    }
}

impl PipelineHandler for RemoteWalk<'_> {
    fn next(&mut self) -> Option<(u64, PipelineRequest)> {
        loop {
            let tag = self.next;
            if tag > 0 && !self.listing.nodes.get(tag - 1)?.is_folder() {
                self.next += 1;
                continue;
            }
            self.next += 1;
            let tag = u64::try_from(tag).ok()?;
            let path = self.folder(tag);
            match under(self.base, &path) {
                Ok(path) => return Some((tag, PipelineRequest::List { path })),
                Err(failure) => self.listing.failed.push((path, failure)),
            }
        }
    }

    fn answer(&mut self, tag: u64, answer: PipelineReply<'_>) -> Result<(), PipelineError> {
        match answer {
            PipelineReply::Entry(entry) => return self.entry(tag, &entry),
            PipelineReply::Listed => {}
            PipelineReply::Refused(refusal) => {
                let path = self.folder(tag);
                // The rest of its content is unknown.
                self.listing.skipped.push(SkippedName {
                    folder: path.clone(),
                    name: String::new(),
                    path: None,
                    reason: SkipReason::Unreadable,
                });
                self.listing.failed.push((path, refusal.into()));
            }
            _ => {
                return Err(stopped(failure!(BadServer, "a listing got a reply of another type")));
            }
        }
        Ok(())
    }

    fn moved(&mut self, from: std::net::SocketAddr, to: std::net::SocketAddr) {
        self.context.moved(from, to);
    }

    fn interrupted(&self) -> bool {
        self.context.interrupted()
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::{ErrorCode, FileTime, Kind, Mode, Refusal};

    use super::*;
    use crate::interrupt::Interrupt;
    use crate::notices::Notices;

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
    fn walk(
        base: &str,
        table: &[(&str, &[&str])],
        budget: ListingBudget,
    ) -> Result<TreeListing, PipelineError> {
        let base = TreePath::new(base).unwrap();
        let context =
            ConversationContext { notices: Notices::collecting(), interrupt: Interrupt::new() };
        let mut walk =
            RemoteWalk { base: &base, listing: TreeListing::default(), next: 0, budget, context };
        while let Some((tag, ask)) = walk.next() {
            let PipelineRequest::List { path } = ask else { panic!("no listing") };
            let Some((_, names)) = table.iter().find(|(folder, _)| *folder == path.as_str()) else {
                walk.answer(tag, PipelineReply::Refused(Refusal::new(ErrorCode::NotFound, "no")))?;
                continue;
            };
            for name in *names {
                let kind = if name.ends_with('/') { Kind::Folder } else { Kind::File };
                walk.answer(tag, PipelineReply::Entry(entry(name.trim_end_matches('/'), kind)))?;
            }
            walk.answer(tag, PipelineReply::Listed)?;
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
        let listing = walk("top", table, ListingBudget::default()).unwrap();
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
        let listing = walk("", &[("", &["d/", "f"])], ListingBudget::default()).unwrap();
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
        let listing =
            walk(&deep, &[(&deep, &[name.as_str(), "ok"])], ListingBudget::default()).unwrap();
        // The longer name makes a path that is too long for a request.
        assert_eq!(listing.nodes.iter().map(|n| n.path.as_str()).collect::<Vec<_>>(), ["ok"]);
        assert_eq!(listing.skipped[0].reason, SkipReason::Name);
        assert!(matches!(
            walk(
                "",
                &[("", &["a", "b", "c"])],
                ListingBudget::with_limit(2 * size_of::<Node>() + 2)
            ),
            Err(PipelineError::Stopped(_))
        ));
    }
}
