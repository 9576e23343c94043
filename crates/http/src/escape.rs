//! Text that cannot be taken for markup: in paths, HTML and JSON.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that a part of a path has as they are: `unreserved` of RFC 3986, section 2.3.
///
/// Others that RFC 3986 allows there have a meaning in HTML, XML or shells.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Encodes one part of a path, or a name or value of a query (RFC 3986, section 2.1).
#[must_use]
pub fn uri_part(part: &str) -> String {
    utf8_percent_encode(part, UNRESERVED).to_string()
}

/// Encodes a path of parts as a target that begins with `/`; a folder's ends with `/`.
#[must_use]
pub fn uri_path<'a>(parts: impl IntoIterator<Item = &'a str>, is_folder: bool) -> String {
    let mut path = String::new();
    for part in parts {
        path.push('/');
        path.push_str(&uri_part(part));
    }
    if is_folder || path.is_empty() {
        path.push('/');
    }
    path
}

/// Whether two hexadecimal digits follow each `%` (RFC 3986, section 2.1).
pub(crate) fn has_valid_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        after.as_bytes().first_chunk::<2>().is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })
}

/// Escapes text for HTML and XML, also in attributes with quotes.
///
/// Control characters that XML does not allow become U+FFFD.
#[must_use]
pub fn markup(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => result.push_str("&amp;"),
            '<' => result.push_str("&lt;"),
            '>' => result.push_str("&gt;"),
            '"' => result.push_str("&quot;"),
            '\'' => result.push_str("&#39;"),
            '\t' | '\n' | '\r' => result.push(c),
            '\u{fffe}' | '\u{ffff}' => result.push('\u{fffd}'),
            c if c.is_ascii_control() => result.push('\u{fffd}'),
            c => result.push(c),
        }
    }
    result
}

/// Returns text as a JSON string with its quotes (RFC 8259, section 7).
///
/// Characters that could end a script in HTML, or a line in JavaScript, are escaped too.
#[must_use]
pub fn json(text: &str) -> String {
    let mut result = String::with_capacity(text.len() + 2);
    result.push('"');
    for c in text.chars() {
        match c {
            '"' => result.push_str("\\\""),
            '\\' => result.push_str("\\\\"),
            '\n' => result.push_str("\\n"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => push_unicode(&mut result, c),
            c if c.is_control() => push_unicode(&mut result, c),
            c => result.push(c),
        }
    }
    result.push('"');
    result
}

fn push_unicode(to: &mut String, c: char) {
    // Writing to a string does not fail.
    let _ = write!(to, "\\u{:04x}", u32::from(c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_encoded_part_by_part() {
        assert_eq!(
            uri_path(["a b", "é?#%", "c;d'\"<"], false),
            "/a%20b/%C3%A9%3F%23%25/c%3Bd%27%22%3C"
        );
        assert_eq!(uri_path(["a"], true), "/a/");
        assert_eq!(uri_path([], false), "/");
    }

    #[test]
    fn markup_is_inert() {
        assert_eq!(
            markup("<a href=\"x\" id='y'>&\0\u{1}é\n"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\u{fffd}\u{fffd}é\n"
        );
    }

    #[test]
    fn json_is_inert_in_scripts() {
        assert_eq!(json("a\"\\\n\0é"), "\"a\\\"\\\\\\n\\u0000é\"");
        assert_eq!(json("</script>\u{2028}"), "\"\\u003c/script\\u003e\\u2028\"");
    }
}
