//! Makes text from a peer safe for a terminal and a log.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether the character must be escaped.
///
/// Such a character controls the terminal, changes the text direction, breaks the line, or is
/// invisible.
#[must_use]
pub fn is_unsafe_char(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Escapes every unsafe character, for example as `\u{1b}`.
#[must_use]
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe_char) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 8), |mut shown, c| {
        if is_unsafe_char(c) {
            // Writing to a `String` cannot fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    }))
}

/// Quotes and escapes the text, so it cannot be confused with its surroundings or another text.
#[must_use]
pub fn quote(text: &str) -> String {
    sanitize(&format!("{text:?}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays() {
        for text in ["big.bin", "naïve/日本", "with space", "a\\b", "👩"] {
            assert!(matches!(sanitize(text), Cow::Borrowed(t) if t == text));
        }
    }

    #[test]
    fn what_is_quoted_cannot_be_mistaken() {
        assert_eq!(quote("ann"), "\"ann\"");
        assert_eq!(quote("a\" from 192.0.2.1"), "\"a\\\" from 192.0.2.1\"");
        assert_ne!(quote("\n"), quote("\\n"));
        assert_ne!(quote("\u{a}"), quote("\\u{a}"));
        assert!(
            (0..0x11_0000)
                .filter_map(char::from_u32)
                .all(|c| !quote(&c.to_string()).contains(is_unsafe_char))
        );
    }

    #[test]
    fn what_drives_the_terminal_is_shown() {
        assert_eq!(sanitize("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(sanitize("\u{7f}\u{9b}\r\n\t"), "\\u{7f}\\u{9b}\\u{d}\\u{a}\\u{9}");
        assert_eq!(sanitize("exe\u{202e}fdp"), "exe\\u{202e}fdp");
        assert_eq!(sanitize("a\u{200b}\u{feff}\u{e0041}"), "a\\u{200b}\\u{feff}\\u{e0041}");
        assert_eq!(sanitize("a\u{2028}b"), "a\\u{2028}b");
    }
}
