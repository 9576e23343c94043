//! The names in a local or remote folder that begin with the typed text.
//!
//! A folder can have any size, so only the names that can be shown are read or requested. Names
//! with harmful characters are left out, because the editor shows inserted text unescaped.

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::path::Path;

use relais_proto::{Kind, TreePath, limits};

use crate::Result;
use crate::sanitize::is_unsafe_char;
use crate::session::Session;

/// Most names offered; a user cannot choose among more.
pub const MAX_NAMES: usize = 500;
/// Names in the first request: most prefixes match few, and the page stays small.
const FIRST_PAGE: u32 = 64;
/// Growth factor of each further request.
const PAGE_GROWTH: u32 = 8;
/// Most names read in the search for folders.
const MAX_READ: u32 = 5000;

/// A matching name, and whether it is a folder.
#[derive(Debug)]
pub struct CandidateName {
    pub text: String,
    pub folder: bool,
}

/// The search in a folder.
#[derive(Debug)]
pub struct NameSearch {
    /// Prefix of the names.
    pub prefix: String,
    /// Whether only folders match.
    pub folders: bool,
}

/// The matching names, in order.
#[derive(Debug, Default)]
pub struct NameMatches {
    pub names: Vec<CandidateName>,
    /// Whether there may be more matches.
    pub more: bool,
}

impl NameMatches {
    fn add(&mut self, name: CandidateName, search: &NameSearch) {
        if !search.fits(&name) {
            return;
        }
        if self.names.len() < MAX_NAMES {
            self.names.push(name);
        } else {
            self.more = true;
        }
    }
}

impl NameSearch {
    fn fits(&self, name: &CandidateName) -> bool {
        (name.folder || !self.folders)
            && name.text.starts_with(&self.prefix)
            && !name.text.contains(is_unsafe_char)
    }
}

/// Returns matching names of a local folder; none if it cannot be read.
pub fn local(folder: &Path, search: &NameSearch) -> NameMatches {
    let Ok(entries) = folder.read_dir() else { return NameMatches::default() };
    // Only the first names are kept, and only their kinds are read.
    let (mut first, mut more) = (BTreeMap::new(), false);
    for entry in entries.flatten() {
        let Ok(text) = entry.file_name().into_string() else { continue };
        if text.starts_with(&search.prefix) && (!search.folders || is_folder(&entry)) {
            first.insert(text, entry);
        }
        if first.len() > MAX_NAMES {
            first.pop_last();
            more = true;
        }
    }
    let mut found = NameMatches { names: Vec::new(), more };
    for (text, entry) in first {
        found.add(CandidateName { folder: is_folder(&entry), text }, search);
    }
    found
}

/// Whether the entry is a folder or a link to a folder.
fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        kind => kind.is_ok_and(|kind| kind.is_dir()),
    }
}

/// Returns matching names of a remote folder; connects if that is possible at once.
///
/// # Errors
/// The server refuses, or no server answers.
pub fn remote(
    session: &mut Session,
    folder: &TreePath,
    search: &NameSearch,
) -> Result<NameMatches> {
    let mut found = NameMatches::default();
    let Some(mut after) = below(&search.prefix) else { return Ok(found) };
    session.refresh();
    session.connect_once()?;
    let (mut most, mut looked) = (FIRST_PAGE, 0);
    loop {
        let (mut came, from) = (0, after.clone());
        session.list_some(folder, &from, most, &mut |entry| {
            came += 1;
            after.clone_from(&entry.name);
            found.add(
                CandidateName { folder: entry.kind == Kind::Folder, text: entry.name },
                search,
            );
            Ok(())
        })?;
        looked += came;
        let has_passed = after > search.prefix && !after.starts_with(&search.prefix);
        if has_passed || came < most || found.more {
            return Ok(found);
        }
        if looked >= MAX_READ {
            return Ok(NameMatches { more: true, ..found });
        }
        most = most.saturating_mul(PAGE_GROWTH).min(MAX_READ);
    }
}

/// Returns a name after which a listing begins with the names that have this prefix.
///
/// The listing includes a name equal to the prefix. The result is none if no name can have the
/// prefix.
///
/// The result is the greatest possible name below the prefix: its last character is one lower, and
/// the highest characters follow. Only names with such an end can lie in between.
fn below(prefix: &str) -> Option<String> {
    if prefix.len() > limits::NAME_PART || prefix.contains(char::is_control) {
        return None;
    }
    let Some((at, last)) = prefix.char_indices().next_back() else { return Some(String::new()) };
    let mut text = prefix[..at].to_owned();
    text.push(('\0'..last).next_back()?);
    while text.len() + char::MAX.len_utf8() <= limits::NAME_PART {
        text.push(char::MAX);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use proptest::prelude::*;
    use relais_proto::{Entry, ErrorCode, PageBuilder, Reply, Request};

    use super::*;
    use crate::tests::fake;

    fn search(prefix: &str, folders: bool) -> NameSearch {
        NameSearch { prefix: prefix.into(), folders }
    }

    fn texts(found: &NameMatches) -> Vec<&str> {
        found.names.iter().map(|name| name.text.as_str()).collect()
    }

    /// Starts a slave with a folder of these names; those that contain `dir` are folders.
    ///
    /// Also returns the sizes of the requests.
    fn folder_of(names: Vec<String>) -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let slave = fake::slave(1, move |request| {
            let Request::List { after, most, .. } = request else { panic!("{request:?}") };
            seen.lock().unwrap().push(*most);
            let (mut replies, mut page) = (Vec::new(), PageBuilder::new());
            let from = names.partition_point(|name| name <= after);
            for name in names[from..].iter().take(*most as usize) {
                let kind = if name.contains("dir") { Kind::Folder } else { Kind::File };
                let entry = Entry { kind, ..fake::file(name) };
                if !page.push(&entry) {
                    replies.push(Reply::Entries(
                        std::mem::replace(&mut page, PageBuilder::new()).finish(),
                    ));
                    assert!(page.push(&entry));
                }
            }
            if !page.is_empty() {
                replies.push(Reply::Entries(page.finish()));
            }
            replies.push(Reply::Done { lsn: fake::MARK });
            (replies, false)
        });
        (fake::master(vec![fake::endpoint(1, slave)]).0, asked)
    }

    fn hundred_thousand() -> Vec<String> {
        let mut names: Vec<String> = (0..100_000)
            .map(|n| format!("file-{n:06}"))
            .chain(["file-05".into(), "zdir".into()])
            .collect();
        names.sort();
        names
    }

    #[test]
    fn large_folder_is_requested_in_part() {
        let (addr, asked) = folder_of(hundred_thousand());
        let mut session = fake::session(addr, Duration::ZERO);
        let mut find = |text: &str, folders| {
            let found = remote(&mut session, &TreePath::root(), &search(text, folders)).unwrap();
            (
                texts(&found).join(" "),
                found.names.len(),
                found.more,
                std::mem::take(&mut *asked.lock().unwrap()),
            )
        };
        assert_eq!(find("file-012345", false), ("file-012345".into(), 1, false, vec![64]));
        assert_eq!(find("zd", false), ("zdir".into(), 1, false, vec![64]));
        assert_eq!(find("g", false), (String::new(), 0, false, vec![64]));
        assert_eq!(find("\u{1b}", false), (String::new(), 0, false, vec![]));
        let (names, count, more, asked) = find("file-05", false);
        assert!(names.starts_with("file-05 file-050000 file-050001 "));
        assert_eq!((count, more, asked), (MAX_NAMES, true, vec![64, 512]));
        // All hundred names match; the names after them do not.
        let (_, count, more, asked) = find("file-0999", false);
        assert_eq!((count, more, asked), (100, false, vec![64, 512]));
        // The search for a folder among so many files ends early.
        let (_, count, more, asked) = find("", true);
        assert_eq!((count, more), (0, true));
        assert!(asked.iter().sum::<u32>() < 2 * MAX_READ, "{asked:?}");
        assert_eq!(find("z", true), ("zdir".into(), 1, false, vec![64]));
    }

    #[test]
    fn lost_slave_is_replaced_for_remaining_names() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let slave = |n, replies: fn() -> Vec<Reply>, close| {
            let seen = Arc::clone(&asked);
            let addr = fake::slave(n, move |request| {
                let Request::List { after, most, .. } = request else { panic!("{request:?}") };
                seen.lock().unwrap().push((after.clone(), *most));
                (replies(), close)
            });
            fake::endpoint(n, addr)
        };
        let slaves = vec![
            slave(1, || vec![fake::page(&["a", "b"])], true),
            slave(2, || vec![fake::page(&["c"]), Reply::Done { lsn: fake::MARK }], false),
        ];
        let mut session = fake::session(fake::master(slaves).0, Duration::ZERO);
        let found = remote(&mut session, &TreePath::root(), &search("", false)).unwrap();
        assert_eq!((texts(&found), found.more), (vec!["a", "b", "c"], false));
        assert_eq!(
            *asked.lock().unwrap(),
            [(String::new(), FIRST_PAGE), ("b".to_owned(), FIRST_PAGE - 2)]
        );
    }

    #[test]
    fn listing_beyond_the_request_is_rejected() {
        let slave = fake::slave(1, |_| {
            let names: Vec<String> = (0..70).map(|n| format!("{n:03}")).collect();
            (
                vec![
                    fake::page(&names.iter().map(String::as_str).collect::<Vec<_>>()),
                    Reply::Done { lsn: fake::MARK },
                ],
                false,
            )
        });
        let mut session =
            fake::session(fake::master(vec![fake::endpoint(1, slave)]).0, Duration::ZERO);
        let failure = remote(&mut session, &TreePath::root(), &search("", false)).unwrap_err();
        assert_eq!(failure.code, ErrorCode::BadServer, "{failure}");
    }

    #[test]
    fn matching_local_names_are_ordered() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..600 {
            std::fs::write(dir.path().join(format!("n{n:03}")), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("zoo")).unwrap();
        std::os::unix::fs::symlink("zoo", dir.path().join("zlink")).unwrap();
        std::fs::write(dir.path().join("z\u{1b}[2J"), "").unwrap();
        let all = local(dir.path(), &search("", false));
        assert_eq!(
            (all.names.len(), all.more, all.names[0].text.as_str()),
            (MAX_NAMES, true, "n000")
        );
        let some = local(dir.path(), &search("z", false));
        assert_eq!(
            (texts(&some), some.names[0].folder, some.more),
            (vec!["zlink", "zoo"], true, false)
        );
        assert_eq!(texts(&local(dir.path(), &search("n59", false))).len(), 10);
        assert_eq!(texts(&local(dir.path(), &search("", true))), ["zlink", "zoo"]);
    }

    #[test]
    fn invalid_prefix_has_no_names() {
        assert_eq!(below(""), Some(String::new()));
        assert_eq!((below("a\n"), below(&"x".repeat(256))), (None, None));
        assert!(below("\u{e000}").unwrap().starts_with('\u{d7ff}'));
        assert!(below(&"é".repeat(127)).unwrap().len() <= 255);
    }

    proptest! {
        #[test]
        fn lower_bound_precedes_exactly_the_prefix(
            prefix in "[ -~é-ëа-г\u{d7ff}\u{e000}😀]{1,6}",
            name in "[ -~é-ëа-г\u{d7ff}\u{e000}😀]{0,8}",
        ) {
            let after = below(&prefix).unwrap();
            prop_assert!(after < prefix && after.len() <= 255);
            prop_assert!(prefix.clone() + &name > after);
            prop_assert_eq!(name > after, name >= prefix);
        }
    }
}
