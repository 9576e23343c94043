//! Splitting of a command line into words as in a shell, and quoting of words.

use std::borrow::Cow;

use crate::Result;

/// Splits a line into words, with a shell's quotes and backslashes; `#` starts a comment.
///
/// # Errors
/// A quote or a backslash is not closed.
pub fn split(line: &str) -> Result<Vec<String>> {
    shlex::split(line)
        .ok_or_else(|| failure!(Usage, "a quote or backslash is not closed: {}", line.trim()))
}

/// Quotes a word so that [`split`] returns it unchanged.
pub fn quote(word: &str) -> Cow<'_, str> {
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}

/// Returns the local command of a line that begins with `!`, as it was typed.
pub fn local_command(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('!').map(str::trim)
}

/// Whether a line of standard input contains no command.
pub fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The word that is being typed at the end of a line.
#[derive(Debug, Default)]
pub struct PartialLine {
    /// Complete words before it.
    pub before: Vec<String>,
    /// The typed part of the word, without its quotes.
    pub word: String,
    /// Position in the line at which the word begins, including its quotes.
    pub start: usize,
}

/// Splits a line that is still being typed; a quote may be open.
pub fn partial(line: &str) -> PartialLine {
    let mut scan = PartialLine::default();
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match (quote, c) {
            _ if escaped => {
                escaped = false;
                scan.word.push(c);
            }
            (None | Some('"'), '\\') => escaped = true,
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, ' ' | '\t') => {
                if at > scan.start {
                    scan.before.push(std::mem::take(&mut scan.word));
                }
                scan.start = at + 1;
            }
            _ => scan.word.push(c),
        }
    }
    scan
}

#[cfg(test)]
mod tests {
    use super::*;
    use relais_proto::ErrorCode;

    #[test]
    fn words_are_split_as_in_a_shell() {
        assert_eq!(split("get 'a b' c\\ d \"e'f\"").unwrap(), ["get", "a b", "c d", "e'f"]);
        assert_eq!(split("  ").unwrap(), Vec::<String>::new());
        assert_eq!(split("get ''").unwrap(), ["get", ""]);
        for bad in ["get 'a", "get \"a", "get a\\"] {
            assert_eq!(split(bad).unwrap_err().code, ErrorCode::Usage, "{bad}");
        }
    }

    #[test]
    fn blank_lines_and_comments_hold_no_command() {
        assert!(["", "  ", "# get a", "  # x"].iter().all(|line| is_blank(line)));
        assert!(!is_blank("ls # here"));
    }

    #[test]
    fn local_command_is_not_split() {
        assert_eq!(local_command(" ! echo 'a  b\" | wc # x"), Some("echo 'a  b\" | wc # x"));
        assert_eq!(local_command("!"), Some(""));
        assert_eq!((local_command("ls !x"), local_command("'!ls'")), (None, None));
    }

    #[test]
    fn partial_word_is_found() {
        let word = |line: &str| {
            let p = partial(line);
            (p.before.join("|"), p.word, p.start)
        };
        assert_eq!(word(""), (String::new(), String::new(), 0));
        assert_eq!(word("ge"), (String::new(), "ge".into(), 0));
        assert_eq!(word("get "), ("get".into(), String::new(), 4));
        assert_eq!(word("get 'a b"), ("get".into(), "a b".into(), 4));
        assert_eq!(word("get a\\ b"), ("get".into(), "a b".into(), 4));
        assert_eq!(word("get a\\"), ("get".into(), "a".into(), 4));
        assert_eq!(word("get 'x y' \"z w"), ("get|x y".into(), "z w".into(), 10));
    }

    #[test]
    fn quoting_is_reversible() {
        for name in ["plain", "with space", "it's", "\"q\"", "a\\b", "#x", "-r"] {
            assert_eq!(split(&quote(name)).unwrap(), [name]);
        }
    }
}
