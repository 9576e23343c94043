//! A command line as typed, cut into words as a shell does it, and words quoted back.

use std::borrow::Cow;

use crate::Failure;

/// Cuts a line into words; quotes and backslashes as in a shell, `#` begins a comment.
///
/// # Errors
/// A quote or a backslash that is not finished.
pub fn split(line: &str) -> Result<Vec<String>, Failure> {
    shlex::split(line).ok_or_else(|| {
        Failure::usage(format!("a quote or backslash is not finished: {}", line.trim()))
    })
}

/// The word as it has to be typed to come back whole.
#[must_use]
pub fn quote(word: &str) -> Cow<'_, str> {
    shlex::try_quote(word).unwrap_or(Cow::Borrowed(word))
}

/// The local command in a line that begins with `!`: all behind it, as it was typed.
#[must_use]
pub fn local_command(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix('!').map(str::trim)
}

/// Whether a line from standard input holds no command.
#[must_use]
pub fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The word that is being typed at the end of `line`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartialLine {
    /// Whole words before it.
    pub before: Vec<String>,
    /// What of it is there, without its quotes.
    pub word: String,
    /// Where in the line it begins, quotes included.
    pub start: usize,
}

/// Takes apart a line that is still being typed; a quote may be open.
#[must_use]
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
    fn words_are_cut_as_in_a_shell() {
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
    fn a_local_command_is_not_cut_into_words() {
        assert_eq!(local_command(" ! echo 'a  b\" | wc # x"), Some("echo 'a  b\" | wc # x"));
        assert_eq!(local_command("!"), Some(""));
        assert_eq!((local_command("ls !x"), local_command("'!ls'")), (None, None));
    }

    #[test]
    fn the_word_being_typed_is_found() {
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
    fn quoting_comes_back() {
        for name in ["plain", "with space", "it's", "\"q\"", "a\\b", "#x", "-r"] {
            assert_eq!(split(&quote(name)).unwrap(), [name]);
        }
    }
}
