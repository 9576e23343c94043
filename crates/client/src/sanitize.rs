//! The one place that makes text from elsewhere fit to be shown.
//!
//! A name or message from a server, a `.log` or a folder can hold characters that drive the
//! terminal or make text look like other text. They are shown as escapes. Every text that
//! did not originate in this program passes here before it is printed.

pub use relais_proto::{is_unsafe_char, sanitize};

/// As [`clean`], but keeps line ends: for messages of several lines.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.lines().map(sanitize).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_where_wanted() {
        assert_eq!(clean_lines("a\nb\u{1b}\n"), "a\nb\\u{1b}");
    }
}
