//! The kind of the word before the cursor, derived from the words before it.
//!
//! This module reads only the table of commands: no server and no folder.

use crate::commands::{self, CommandOption, CompletionKind, NameFilter, TABLE};
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
            return named(takes, &[], words, &typed.word);
        }
        let options = command.options.iter().map(|(option, _)| *option);
        // A name can begin with - too.
        let options = beginning(options, &typed.word);
        if typed.word.starts_with('-') && options != NOTHING {
            return options;
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

/// Returns what follows an option; none if the option takes no value.
fn taken(options: &[CommandOption], word: &str) -> Option<CompletionKind> {
    options.iter().find(|(option, _)| *option == word)?.1
}

fn named(
    completes: CompletionKind,
    options: &[CommandOption],
    words: &[String],
    word: &str,
) -> WordKind {
    match completes {
        CompletionKind::Nothing => NOTHING,
        CompletionKind::Commands => beginning(TABLE.iter().map(|command| command.name), word),
        CompletionKind::Remote(filter) => WordKind::Remote(filter),
        CompletionKind::Local(filter) => WordKind::Local(filter),
        CompletionKind::Mirror => {
            let reverse = words.iter().any(|word| word == "-R" || word == "--reverse");
            match (names(options, words), reverse) {
                (0, false) | (1, true) => WordKind::Remote(NameFilter::Folders),
                (0, true) | (1, false) => WordKind::Local(NameFilter::Folders),
                _ => NOTHING,
            }
        }
    }
}

/// Counts the names among the words.
fn names(options: &[CommandOption], words: &[String]) -> usize {
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
        let options: &[CommandOption] = &[("-R", None), ("-x", Some(CompletionKind::Nothing))];
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
