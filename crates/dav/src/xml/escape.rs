//! Names, text and attributes as bytes of an answer.

use super::chars::{is_name_char, is_name_start, is_xml_char};

/// What stands for a character that XML cannot contain.
const REPLACEMENT: char = '\u{FFFD}';

/// Whether a text is an XML name without colon.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(is_name_start) && text.chars().all(is_name_char)
}

/// Appends a text to the content of an element.
pub(crate) fn escape_text(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            char if is_xml_char(char) => out.push(char),
            _ => out.push(REPLACEMENT),
        }
    }
}

/// Appends a text to the value of an attribute in double quotes.
pub(crate) fn escape_attribute(text: &str, out: &mut String) {
    for char in text.chars() {
        match char {
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            char => escape_text(char.encode_utf8(&mut [0; 4]), out),
        }
    }
}

/// Appends `<D:NAME>text</D:NAME>`.
pub(crate) fn text_element(name: &str, text: &str, out: &mut String) {
    for part in ["<D:", name, ">"] {
        out.push_str(part);
    }
    escape_text(text, out);
    for part in ["</D:", name, ">"] {
        out.push_str(part);
    }
}
