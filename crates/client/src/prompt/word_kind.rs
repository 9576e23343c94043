//! The kind of the word before the cursor, derived from the words before it.
//!
//! This module reads only the table of commands: no server and no folder.

use crate::commands::{self, CompletionKind, OptionValue, TABLE};
use crate::shell_words::PartialLine;

/// The kind of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordKind {
    /// One of these words.
    Fixed(Vec<&'static str>),
    /// A local name.
    Local(NameFilter),
    /// A remote name.
    Remote(NameFilter),
}

/// The names that match, and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameFilter {
    /// All names.
    All,
    /// Names of folders.
    Folders,
    /// All names, with the word as a pattern.
    Pattern,
}

/// The options of a command.
type Options = &'static [(&'static str, OptionValue)];

const NOTHING: WordKind = WordKind::Fixed(Vec::new());

/// Determines the kind of the word that is being typed.
pub fn word_kind(typed: &PartialLine) -> WordKind {
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
            return takes;
        }
        if typed.word.starts_with('-') {
            let options = beginning(command.options.iter().map(|(option, _)| *option), &typed.word);
            // A name can begin with - too.
            return if options == NOTHING {
                named(command.completes, command.options, words, &typed.word)
            } else {
                options
            };
        }
    }
    named(command.completes, command.options, words, &typed.word)
}

/// Whether `--` precedes the word, so that it is a name.
pub fn is_after_dashes(words: &[String]) -> bool {
    words.iter().any(|word| word == "--")
}

fn beginning(names: impl Iterator<Item = &'static str>, word: &str) -> WordKind {
    WordKind::Fixed(names.filter(|name| name.starts_with(word)).collect())
}

/// Returns the kind of the word after an option; none if the option takes no value.
fn taken(options: Options, word: &str) -> Option<WordKind> {
    match options.iter().find(|(option, _)| *option == word)?.1 {
        OptionValue::Nothing => None,
        OptionValue::Value => Some(NOTHING),
        OptionValue::Local => Some(WordKind::Local(NameFilter::All)),
        OptionValue::Remote => Some(WordKind::Remote(NameFilter::All)),
    }
}

fn named(completes: CompletionKind, options: Options, words: &[String], word: &str) -> WordKind {
    match completes {
        CompletionKind::Nothing => NOTHING,
        CompletionKind::Commands => beginning(TABLE.iter().map(|command| command.name), word),
        CompletionKind::Remote => WordKind::Remote(NameFilter::All),
        CompletionKind::RemoteFolders => WordKind::Remote(NameFilter::Folders),
        CompletionKind::Local => WordKind::Local(NameFilter::All),
        CompletionKind::LocalFolders => WordKind::Local(NameFilter::Folders),
        CompletionKind::LocalPatterns => WordKind::Local(NameFilter::Pattern),
        CompletionKind::RemotePatterns => WordKind::Remote(NameFilter::Pattern),
        CompletionKind::Mirror => {
            match (names(options, words), words.iter().any(|word| word == "-R")) {
                (0, false) | (1, true) => WordKind::Remote(NameFilter::Folders),
                (0, true) | (1, false) => WordKind::Local(NameFilter::Folders),
                _ => NOTHING,
            }
        }
    }
}

/// Counts the names among the words.
fn names(options: Options, words: &[String]) -> usize {
    let mut names = 0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            return names + words.count();
        }
        if !word.starts_with('-') {
            names += 1;
        } else if taken(options, word).is_some() {
            words.next();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell_words::partial;

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
            ("mirror a -", "-R --delete --dry-run --checksum --force"),
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
                    OptionValue::Nothing => {}
                    OptionValue::Value => assert_eq!(behind, "", "{name} {option}"),
                    OptionValue::Local => assert_eq!(behind, "local All", "{name} {option}"),
                    OptionValue::Remote => assert_eq!(behind, "remote All", "{name} {option}"),
                }
            }
        }
    }

    #[test]
    fn mirror_completes_both_directions() {
        let options: Options = &[("-R", OptionValue::Nothing), ("-x", OptionValue::Value)];
        let fit = |line: &str| named(CompletionKind::Mirror, options, &partial(line).before, "");
        let (remote, local) =
            (WordKind::Remote(NameFilter::Folders), WordKind::Local(NameFilter::Folders));
        assert_eq!((fit(""), fit("a "), fit("a b ")), (remote.clone(), local.clone(), NOTHING));
        assert_eq!(
            (fit("-R "), fit("a -R "), fit("-R a b ")),
            (local.clone(), remote.clone(), NOTHING)
        );
        assert_eq!((fit("-x a "), fit("-x a -- "), fit("-- -a ")), (remote.clone(), remote, local));
    }
}
