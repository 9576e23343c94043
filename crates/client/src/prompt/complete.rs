//! Completion at the prompt: commands, options, local names and remote names.
//!
//! The kind of a word follows from the table of commands and the words before it.

use std::cell::RefCell;
use std::rc::Rc;

use log::debug;
use rustyline::completion::Pair;
use rustyline::{Helper, Highlighter, Hinter, Validator};

use super::names::{self, CandidateName, NameMatches, NameSearch};
use crate::Result;
use crate::commands::{self, CommandOption, CompletionKind, NameFilter, TABLE};
use crate::local::openable;
use crate::shell::Shell;
use crate::shell_words::{PartialLine, partial, quote};

/// Completes the word before the cursor.
#[derive(Helper, Highlighter, Hinter, Validator)]
pub struct Completer(pub Rc<RefCell<Shell>>);

impl rustyline::completion::Completer for Completer {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Some((line, rest)) = line.split_at_checked(pos) else { return Ok((pos, Vec::new())) };
        let typed = partial(line);
        let shell = &mut self.0.borrow_mut();
        let mut pairs = match word_kind(&typed) {
            WordKind::Fixed(words) => words.into_iter().map(fixed).collect(),
            WordKind::Local(filter) => named(line, &typed, filter, |folder, search| {
                Ok(names::local(openable(&shell.local.resolve(folder)), search))
            }),
            WordKind::Remote(filter) => named(line, &typed, filter, |folder, search| {
                let folder = shell.resolve_remote(if folder.is_empty() { "." } else { folder })?;
                names::remote(&mut shell.session, &folder, search)
            }),
        };
        if rest.starts_with(' ') {
            pairs.iter_mut().for_each(|pair| {
                pair.replacement.truncate(pair.replacement.trim_end_matches(' ').len())
            });
        }
        Ok((typed.start, pairs))
    }
}

/// Returns the names that match the word; the part up to the last slash is the folder.
fn named(
    line: &str,
    typed: &PartialLine,
    filter: NameFilter,
    find: impl FnOnce(&str, &NameSearch) -> Result<NameMatches>,
) -> Vec<Pair> {
    let pattern = filter == NameFilter::Pattern;
    let word = if pattern { unescaped(&typed.word) } else { Some(typed.word.clone()) };
    // A pattern with a wildcard already stands for names.
    let Some(word) = word else { return Vec::new() };
    let (head, prefix) = word.split_at(word.rfind('/').map_or(0, |slash| slash + 1));
    let search = NameSearch { prefix: prefix.to_owned(), folders: filter == NameFilter::Folders };
    let found = find(head, &search).unwrap_or_else(|failure| {
        debug!("nothing to complete in {head:?}: {failure}");
        NameMatches::default()
    });
    let guarded = !is_after_dashes(&typed.before);
    let mut pairs: Vec<Pair> =
        found.names.iter().map(|name| pair(&whole(head, name, guarded), name, pattern)).collect();
    if found.more {
        // This entry keeps the typed text: the hidden names may have less in common than the shown
        // ones.
        pairs.push(Pair {
            display: "... and more".to_owned(),
            replacement: line[typed.start..].to_owned(),
        });
    }
    pairs
}

/// Joins folder and name; a guarded name cannot be mistaken for an option.
fn whole(head: &str, name: &CandidateName, guarded: bool) -> String {
    let guard = if guarded && head.is_empty() && name.text.starts_with('-') { "./" } else { "" };
    format!("{guard}{head}{}", name.text)
}

/// Returns the shown and the inserted text.
///
/// After a folder the word continues; after anything else a space begins the next word.
fn pair(word: &str, name: &CandidateName, pattern: bool) -> Pair {
    let (slash, space) = if name.folder { ("/", "") } else { ("", " ") };
    let word = if pattern { escaped(word) } else { word.to_owned() } + slash;
    Pair {
        display: format!("{}{slash}", name.text),
        replacement: format!("{}{space}", quote(&word)),
    }
}

fn fixed(word: &str) -> Pair {
    Pair { display: word.to_owned(), replacement: format!("{word} ") }
}

/// Characters with a special meaning in patterns.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// Returns the pattern that matches exactly this name.
fn escaped(name: &str) -> String {
    name.chars().flat_map(|c| SPECIAL.contains(&c).then_some('\\').into_iter().chain([c])).collect()
}

/// Returns the name that a pattern matches; none for a pattern with wildcards.
fn unescaped(pattern: &str) -> Option<String> {
    let (mut name, mut chars) = (String::new(), pattern.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => name.extend(chars.next()),
            '*' | '?' | '[' | '{' => return None,
            _ => name.push(c),
        }
    }
    Some(name)
}

/// The kind of a word.
#[derive(Debug, Clone, PartialEq)]
enum WordKind {
    /// One of these words.
    Fixed(Vec<&'static str>),
    /// A local name.
    Local(NameFilter),
    /// A remote name.
    Remote(NameFilter),
}

const NOTHING: WordKind = WordKind::Fixed(Vec::new());

/// Determines the kind of the word that is being typed.
fn word_kind(typed: &PartialLine) -> WordKind {
    let Some((name, words)) = typed.before.split_first() else {
        let names = TABLE.iter().flat_map(|command| command.aliases.iter().chain([&command.name]));
        return beginning(names.copied(), &typed.word);
    };
    if name.starts_with('!') {
        return WordKind::Local(NameFilter::All);
    }
    let Some(command) = commands::find(name) else { return NOTHING };
    if !is_after_dashes(words) {
        if let Some(takes) = words.last().and_then(|word| taken(command.options, word)) {
            return kind_of_name(takes, words, &typed.word);
        }
        let options = command.options.iter().map(|(option, _)| *option);
        // A name can begin with - too.
        let options = beginning(options, &typed.word);
        if typed.word.starts_with('-') && options != NOTHING {
            return options;
        }
    }
    kind_of_name(command.completes, words, &typed.word)
}

/// Whether `--` precedes the word, so that it is a name.
fn is_after_dashes(words: &[String]) -> bool {
    words.iter().any(|word| word == "--")
}

fn beginning(names: impl Iterator<Item = &'static str>, word: &str) -> WordKind {
    WordKind::Fixed(names.filter(|name| name.starts_with(word)).collect())
}

/// Returns what follows an option; none if the option takes no value.
fn taken(options: &[CommandOption], word: &str) -> Option<CompletionKind> {
    options.iter().find(|(option, _)| *option == word)?.1
}

fn kind_of_name(completes: CompletionKind, words: &[String], word: &str) -> WordKind {
    match completes {
        CompletionKind::Nothing => NOTHING,
        CompletionKind::Commands => beginning(TABLE.iter().map(|command| command.name), word),
        CompletionKind::Remote(filter) => WordKind::Remote(filter),
        CompletionKind::Local(filter) => WordKind::Local(filter),
        CompletionKind::Mirror => {
            let reverse = words.iter().any(|word| word == "-R" || word == "--reverse");
            match (count_names(words), reverse) {
                (0, false) | (1, true) => WordKind::Remote(NameFilter::Folders),
                (0, true) | (1, false) => WordKind::Local(NameFilter::Folders),
                _ => NOTHING,
            }
        }
    }
}

/// Counts the names among words whose options are switches.
fn count_names(words: &[String]) -> usize {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let named = words[..end].iter().filter(|word| !word.starts_with('-')).count();
    named + words.len().saturating_sub(end + 1)
}

#[cfg(test)]
mod tests {
    use rustyline::completion::Completer as _;
    use rustyline::history::MemHistory;

    use super::*;
    use crate::shell_words::split;
    use crate::tests::tree::Tree;
    use crate::tests::{fake, shell};

    const NAMES: &[&str] = &[
        "-z",
        "it's",
        "naïve",
        "plain",
        "two words",
        "two worlds",
        "\"q\"\\",
        "#x",
        "$y",
        "w\u{202e}x",
        "sub/- x",
    ];

    fn completer() -> (tempfile::TempDir, Completer) {
        let files: Vec<_> = NAMES.iter().map(|name| (*name, vec![1])).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        NAMES.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        let addr = fake::master(vec![fake::endpoint(1, Tree::new(&files).slave(1))]).0;
        let (shell, _) = shell(addr, dir.path().to_path_buf(), false);
        (dir, Completer(Rc::new(RefCell::new(shell))))
    }

    /// Returns the lines that completion at the end of `line` offers.
    fn lines(completer: &Completer, line: &str) -> Vec<String> {
        let history = MemHistory::new();
        let (start, pairs) =
            completer.complete(line, line.len(), &rustyline::Context::new(&history)).unwrap();
        pairs.into_iter().map(|pair| format!("{}{}", &line[..start], pair.replacement)).collect()
    }

    #[test]
    fn completion_offers_remote_and_local_names() {
        let (_dir, completer) = completer();
        for command in ["get", "!cat"] {
            let offered = lines(&completer, &format!("{command} "));
            let words: Vec<String> =
                offered.iter().map(|line| split(line).unwrap().remove(1)).collect();
            assert_eq!(
                words,
                [
                    "\"q\"\\",
                    "#x",
                    "$y",
                    "./-z",
                    "it's",
                    "naïve",
                    "plain",
                    "sub/",
                    "two words",
                    "two worlds"
                ],
                "{command}"
            );
        }
        let one = |line: &str| lines(&completer, line).pop().map(|line| split(&line).unwrap());
        for (line, name) in [
            ("get 'two wor", "two worlds"),
            ("get two\\ worl", "two worlds"),
            ("get \"it", "it's"),
            ("get ./-", "./-z"),
            ("get -z", "./-z"),
            ("get /su", "/sub/"),
            ("get sub/", "sub/- x"),
            ("get 'sub/- ", "sub/- x"),
            ("get na", "naïve"),
        ] {
            assert_eq!(one(line), Some(vec!["get".to_owned(), name.to_owned()]), "{line}");
        }
        assert_eq!(one("get -- -").unwrap(), ["get", "--", "-z"]);
        assert_eq!(lines(&completer, "cd s"), ["cd sub/"]);
        assert!(lines(&completer, "cd p").is_empty() && lines(&completer, "get w").is_empty());
    }

    #[test]
    fn completed_pattern_matches_only_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a[1]*.txt", "a{b}", "a\\", "plain"];
        names.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        let (shell, _) = shell(fake::closed_addr(), dir.path().to_path_buf(), false);
        let completer = Completer(Rc::new(RefCell::new(shell)));
        let patterns = lines(&completer, "mput ");
        assert_eq!(patterns.len(), names.len());
        for (pattern, name) in patterns.iter().zip(["a[1]*.txt", "a\\", "a{b}", "plain"]) {
            let word = split(pattern).unwrap().remove(1);
            let part = crate::recursive::Pattern::new(&word).unwrap().parts.remove(0);
            assert!(
                names.iter().all(|other| part.is_match(other) == (*other == name)),
                "{pattern}"
            );
            // An inserted pattern can be completed again.
            assert_eq!(lines(&completer, pattern.trim_end()), [pattern.as_str()]);
        }
        assert!(lines(&completer, "mput a*").is_empty());
    }

    #[test]
    fn hidden_names_keep_the_line_unchanged() {
        let line = "get two";
        let pairs = named(line, &partial(line), NameFilter::All, |_, _| {
            Ok(NameMatches { names: Vec::new(), more: true })
        });
        assert_eq!(pairs[0].replacement, "two");
    }

    #[test]
    fn existing_space_is_not_doubled() {
        let (_dir, completer) = completer();
        let history = MemHistory::new();
        let (start, pairs) =
            completer.complete("get pl -o x", 6, &rustyline::Context::new(&history)).unwrap();
        assert_eq!((start, pairs[0].replacement.as_str()), (4, "plain"));
    }

    fn fits(line: &str) -> String {
        match word_kind(&partial(line)) {
            WordKind::Fixed(names) => names.join(" "),
            WordKind::Local(fits) => format!("local {fits:?}"),
            WordKind::Remote(fits) => format!("remote {fits:?}"),
        }
    }

    #[test]
    fn word_kind_follows_the_words_before() {
        for (line, fit) in [
            ("ge", "get"),
            ("qu", "quit"),
            ("ls -", "-l"),
            ("get a", "remote All"),
            ("get a -o ", "local All"),
            ("get -- -", "remote All"),
            ("get -- -o ", "remote All"),
            ("get -nothing", "remote All"),
            ("put a", "local All"),
            ("put a -o ", "remote All"),
            ("put --if-version ", ""),
            ("mget a", "remote Pattern"),
            ("mput a", "local Pattern"),
            ("mirror a -", "-R --reverse --delete --dry-run --checksum --force"),
            ("mirror --delete a ", "local Folders"),
            ("cd ", "remote Folders"),
            ("lcd x", "local Folders"),
            ("!sh ", "local All"),
            ("nothing such", ""),
            ("pwd ", ""),
        ] {
            assert_eq!(fits(line), fit, "{line}");
        }
        assert!(fits("help ").starts_with("get ") && fits("help sta") == "stat status");
    }

    #[test]
    fn every_command_has_completions() {
        for command in TABLE {
            let name = command.name;
            for (option, takes) in command.options {
                assert!(
                    fits(&format!("{name} -")).split(' ').any(|fit| fit == *option),
                    "{name} {option}"
                );
                let behind = fits(&format!("{name} {option} "));
                match takes {
                    Some(CompletionKind::Local(_)) => {
                        assert_eq!(behind, "local All", "{name} {option}");
                    }
                    Some(CompletionKind::Remote(_)) => {
                        assert_eq!(behind, "remote All", "{name} {option}");
                    }
                    Some(_) => assert_eq!(behind, "", "{name} {option}"),
                    None => {}
                }
            }
        }
    }

    #[test]
    fn mirror_completes_both_directions() {
        let fit = |line: &str| kind_of_name(CompletionKind::Mirror, &partial(line).before, "");
        let (remote, local) =
            (WordKind::Remote(NameFilter::Folders), WordKind::Local(NameFilter::Folders));
        assert_eq!((fit(""), fit("a "), fit("a b ")), (remote.clone(), local.clone(), NOTHING));
        assert_eq!(
            (fit("-R "), fit("a -R "), fit("-R a b ")),
            (local.clone(), remote.clone(), NOTHING)
        );
        assert_eq!((fit("-x "), fit("-x -- "), fit("-- -a ")), (remote.clone(), remote, local));
    }
}
