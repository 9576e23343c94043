//! Completion at the prompt: commands, their options, local names and remote names.
//!
//! Remote folders are listed once and kept for a few seconds. Names that would drive the
//! terminal are left out: the editor shows what it inserts as it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{Kind, TreePath};
use rustyline::completion::Pair;
use rustyline::{Helper, Highlighter, Hinter, Validator};

use crate::Failure;
use crate::commands::{self, Completes, TABLE};
use crate::local::openable;
use crate::sanitize::is_harmful;
use crate::shell::Shell;
use crate::words::{Partial, partial, quote};

/// How long a remote listing is taken for current.
const FRESH: Duration = Duration::from_secs(5);
/// Most names kept of a folder; nobody picks one from more by eye.
const MOST_NAMES: usize = 5000;
/// Most folders kept.
const MOST_FOLDERS: usize = 16;

/// A name that fits, and whether it is a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    text: String,
    folder: bool,
}

struct Kept {
    since: Instant,
    names: Vec<Name>,
}

/// Completes the word before the cursor.
#[derive(Helper, Highlighter, Hinter, Validator)]
pub struct Completer {
    shell: Rc<RefCell<Shell>>,
    kept: RefCell<HashMap<TreePath, Kept>>,
}

/// What a word can be.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Fixed(Vec<Name>),
    Local { folders: bool },
    Remote { folders: bool },
}

impl rustyline::completion::Completer for Completer {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &rustyline::Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Some(line) = line.get(..pos) else { return Ok((pos, Vec::new())) };
        let typed = partial(line);
        let (head, names) = match wanted(&typed) {
            Wanted::Fixed(names) => (String::new(), names),
            Wanted::Local { folders } => self.names(&typed.word, folders, |folder| self.local(folder)),
            Wanted::Remote { folders } => self.names(&typed.word, folders, |folder| self.remote(folder)),
        };
        let last = &typed.word[head.len()..];
        Ok((typed.start, names.iter().filter(|name| name.text.starts_with(last)).map(|name| pair(&head, name)).collect()))
    }
}

impl Completer {
    pub fn new(shell: Rc<RefCell<Shell>>) -> Self {
        Self { shell, kept: RefCell::default() }
    }

    /// The part of the word that names the folder, and the names in it.
    fn names(&self, word: &str, folders: bool, list: impl FnOnce(&str) -> Vec<Name>) -> (String, Vec<Name>) {
        let head = word.rfind('/').map_or("", |slash| &word[..=slash]);
        let mut names = list(head);
        names.retain(|name| (name.folder || !folders) && !name.text.contains(is_harmful));
        (head.to_owned(), names)
    }

    fn local(&self, folder: &str) -> Vec<Name> {
        let Ok(shell) = self.shell.try_borrow() else { return Vec::new() };
        local_names(openable(&shell.local.resolve(folder)))
    }

    fn remote(&self, folder: &str) -> Vec<Name> {
        let Ok(mut shell) = self.shell.try_borrow_mut() else { return Vec::new() };
        let folder = if folder.is_empty() { "." } else { folder };
        let Ok(path) = shell.remote(folder) else { return Vec::new() };
        let mut kept = self.kept.borrow_mut();
        kept.retain(|_, folder| folder.since.elapsed() < FRESH);
        if let Some(folder) = kept.get(&path) {
            return folder.names.clone();
        }
        let names = remote_names(&mut shell, &path).unwrap_or_else(|failure| {
            debug!("nothing to complete in {path}: {failure}");
            Vec::new()
        });
        if kept.len() < MOST_FOLDERS {
            kept.insert(path, Kept { since: Instant::now(), names: names.clone() });
        }
        names
    }
}

/// What the word can be, by what stands before it.
fn wanted(typed: &Partial) -> Wanted {
    let Some(name) = typed.before.first() else {
        let names = TABLE.iter().flat_map(|command| command.aliases.iter().chain([&command.name]));
        return fixed(names.copied());
    };
    let Some(command) = commands::find(name) else { return Wanted::Fixed(Vec::new()) };
    let behind_dashes = typed.before.iter().any(|word| word == "--");
    if !behind_dashes && typed.word.starts_with('-') {
        return fixed(command.options.iter().map(|(option, _)| *option));
    }
    let takes_local = |word: &String| command.options.iter().any(|(option, local)| *local && option == word);
    if !behind_dashes && typed.before.last().is_some_and(takes_local) {
        return Wanted::Local { folders: false };
    }
    match command.completes {
        Completes::Nothing => Wanted::Fixed(Vec::new()),
        Completes::Commands => fixed(TABLE.iter().map(|command| command.name)),
        Completes::Remote => Wanted::Remote { folders: false },
        Completes::RemoteFolders => Wanted::Remote { folders: true },
        Completes::Local => Wanted::Local { folders: false },
        Completes::LocalFolders => Wanted::Local { folders: true },
    }
}

fn fixed(names: impl Iterator<Item = &'static str>) -> Wanted {
    Wanted::Fixed(names.map(|text| Name { text: text.to_owned(), folder: false }).collect())
}

/// What is shown and what is inserted: a folder can be gone into at once, behind anything
/// else the next word begins.
fn pair(head: &str, name: &Name) -> Pair {
    let end = if name.folder { "/" } else { "" };
    let word = format!("{head}{}{end}", name.text);
    let space = if name.folder { "" } else { " " };
    Pair { display: format!("{}{end}", name.text), replacement: format!("{}{space}", quote(&word)) }
}

fn local_names(folder: &Path) -> Vec<Name> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let name = |entry: std::fs::DirEntry| Some(Name { folder: entry.path().is_dir(), text: entry.file_name().into_string().ok()? });
    let mut names: Vec<Name> = entries.flatten().take(MOST_NAMES).filter_map(name).collect();
    names.sort_by(|a, b| a.text.cmp(&b.text));
    names
}

/// The names in a remote folder. A session is opened for it, where that can be done at once.
fn remote_names(shell: &mut Shell, path: &TreePath) -> Result<Vec<Name>, Failure> {
    shell.session.refresh();
    shell.session.connect_once()?;
    let mut names = Vec::new();
    let result = shell.session.list(path, &mut |entry| {
        names.push(Name { folder: entry.kind == Kind::Folder, text: entry.name });
        // Enough is enough: the rest of the listing is dropped with its connection.
        if names.len() < MOST_NAMES { Ok(()) } else { Err(Failure::interrupted()) }
    });
    match result {
        Err(failure) if names.len() < MOST_NAMES => Err(failure),
        _ => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let typed = partial(line);
        match wanted(&typed) {
            Wanted::Fixed(names) => names.into_iter().map(|n| n.text).filter(|t| t.starts_with(&typed.word)).collect(),
            other => vec![format!("{other:?}")],
        }
    }

    #[test]
    fn words_are_known_by_what_stands_before() {
        assert_eq!(texts("ge"), ["get"]);
        assert_eq!(texts("qu"), ["quit"]);
        assert_eq!(texts("help sta"), ["stat", "status"]);
        assert_eq!(texts("ls -"), ["-l"]);
        assert_eq!(texts("get a"), ["Remote { folders: false }"]);
        assert_eq!(texts("get a -o "), ["Local { folders: false }"]);
        assert_eq!(texts("get -- -"), ["Remote { folders: false }"]);
        assert_eq!(texts("cd "), ["Remote { folders: true }"]);
        assert_eq!(texts("lcd x"), ["Local { folders: true }"]);
        assert!(texts("nothing such").is_empty() && texts("pwd ").is_empty());
    }

    #[test]
    fn names_are_quoted_where_they_need_it() {
        let inserted = |text: &str, folder| pair("a/", &Name { text: text.into(), folder }).replacement;
        assert_eq!(inserted("b", false), "a/b ");
        assert_eq!(inserted("b", true), "a/b/");
        assert_eq!(crate::words::split(&inserted("it's b", false)).unwrap(), ["a/it's b"]);
    }

    #[test]
    fn local_names_come_in_order() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("b"), "").unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let names: Vec<_> = local_names(dir.path()).into_iter().map(|n| (n.text, n.folder)).collect();
        assert_eq!(names, [("a".to_owned(), true), ("b".to_owned(), false)]);
    }
}
