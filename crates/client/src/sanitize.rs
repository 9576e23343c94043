//! The only place that makes foreign text safe to show.
//!
//! A name or message from a server, a `.log` or a folder can hold characters that control the
//! terminal, or that make text look like other text. They are shown as escapes. Every text that
//! does not originate in this program is sanitized here before it is printed.

pub use relais_proto::{is_unsafe_char, sanitize};

/// As [`clean`], but keeps line ends, for messages of several lines.
pub fn sanitize_lines(text: &str) -> String {
    text.lines().map(sanitize).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_kept_if_wanted() {
        assert_eq!(sanitize_lines("a\nb\u{1b}\n"), "a\nb\\u{1b}");
    }
}
