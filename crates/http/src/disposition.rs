//! The name under which a browser saves content.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a browser does with content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It shows the content if it can.
    Inline,
    /// It saves the content.
    Attachment,
}

/// Characters that an extended value has as they are: `attr-char` of RFC 8187, section 3.2.1.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Returns the value of `Content-Disposition` (RFC 6266, section 4).
///
/// A name that is not plain is sent a second time in the extended form (RFC 8187).
#[must_use]
pub fn content_disposition(disposition: Disposition, name: &str) -> String {
    let kind = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    // Some clients decode a percent encoding in the plain form, or interpret a backslash.
    let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !"\"\\%/".contains(c);
    let plain: String = name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut value = format!("{kind}; filename=\"{plain}\"");
    if plain != name {
        value.push_str("; filename*=UTF-8''");
        value.extend(utf8_percent_encode(name, VALUE));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out() {
        for (name, expected) in [
            ("a b.txt", "attachment; filename=\"a b.txt\""),
            ("é.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
            (
                "a\"; x=\"\r\nb",
                "attachment; filename=\"a_; x=___b\"; filename*=UTF-8''a%22%3B%20x%3D%22%0D%0Ab",
            ),
            ("100%41", "attachment; filename=\"100_41\"; filename*=UTF-8''100%2541"),
            ("a\\b'", "attachment; filename=\"a_b'\"; filename*=UTF-8''a%5Cb%27"),
        ] {
            assert_eq!(content_disposition(Disposition::Attachment, name), expected);
        }
        assert_eq!(content_disposition(Disposition::Inline, "a"), "inline; filename=\"a\"");
    }
}
