//! Content of files as a terminal may show it.
//!
//! A pipe or file gets the bytes unchanged. A terminal would obey the control characters in them,
//! so they are shown as escapes.

use crate::sanitize::sanitize;

/// Shows content that arrives in pieces.
#[derive(Debug, Default)]
pub struct TerminalContent {
    /// The beginning of a character, or of a line end, at the end of the last piece.
    held: Vec<u8>,
}

impl TerminalContent {
    /// Returns the text to show for the next piece.
    pub fn next_text(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(piece);
        self.held = bytes.split_off(complete_length(&bytes));
        shown(&bytes)
    }

    /// Returns the text to show at the end of the content.
    pub fn last_text(&mut self) -> String {
        shown(&std::mem::take(&mut self.held))
    }
}

/// Returns the length without an incomplete character, or the beginning of a line end, at the end.
fn complete_length(bytes: &[u8]) -> usize {
    let end = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
    let is_incomplete = std::str::from_utf8(end).is_err_and(|e| e.error_len().is_none());
    match is_incomplete {
        true => bytes.len() - end.len(),
        false => bytes.strip_suffix(b"\r").unwrap_or(bytes).len(),
    }
}

/// Returns the bytes as text that controls no terminal; line ends and tabulators stay.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let parts = text.split_inclusive(['\n', '\t']);
    parts.fold(String::with_capacity(text.len()), |mut shown, part| {
        let plain = part.trim_end_matches(['\n', '\t']);
        shown.push_str(&sanitize(plain));
        shown.push_str(&part[plain.len()..]);
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_shows_text_and_no_control_characters() {
        let bytes = "a\tnaïve 日本\r\n\u{1b}]0;owned\u{7}\u{9b}31m\rx\n".as_bytes();
        let wanted = "a\tnaïve 日本\n\\u{1b}]0;owned\\u{7}\\u{9b}31m\\u{d}x\n";
        for step in 1..=bytes.len() {
            let mut content = TerminalContent::default();
            let mut text: String =
                bytes.chunks(step).map(|piece| content.next_text(piece)).collect();
            text += &content.last_text();
            assert_eq!(text, wanted, "in pieces of {step} bytes");
        }
        let mut content = TerminalContent::default();
        assert_eq!(content.next_text(b"\xffa\x9b\xe6\x97"), "\u{fffd}a\u{fffd}");
        assert_eq!(content.last_text(), "\u{fffd}");
        assert_eq!(content.next_text(b"x\r") + &content.last_text(), "x\\u{d}");
    }
}
