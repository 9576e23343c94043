//! Text that came from afar, made fit for a terminal and a log.

use std::fmt::Write;

/// The text with control characters, and those that turn the writing
/// direction, shown as `\u{..}`, so that it can neither drive a terminal nor
/// begin a line of its own.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // Writing to a String does not fail.
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(printable("naïve /日本"), "naïve /日本");
        assert_eq!(printable("a\u{1b}[2Jb\n\u{9b}c\u{202e}"), "a\\u{1b}[2Jb\\u{a}\\u{9b}c\\u{202e}");
    }
}
