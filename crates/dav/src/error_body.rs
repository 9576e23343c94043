//! The body of an error that names a condition (RFC 4918, sections 8.7 and 16).

use crate::error::Condition;
use crate::xml::escape::text_element;

/// Returns the body of an error. `hrefs` are the encoded paths that the condition is about.
#[must_use]
pub fn error_body(condition: Condition, hrefs: &[&str]) -> String {
    let mut out =
        String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"DAV:\">");
    write_condition(condition, hrefs, &mut out);
    out.push_str("</D:error>\n");
    out
}

/// Writes the element of a condition. The prefix `D` has to be bound.
pub(crate) fn write_condition(condition: Condition, hrefs: &[&str], out: &mut String) {
    for part in ["<D:", condition.name()] {
        out.push_str(part);
    }
    if hrefs.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    for href in hrefs {
        text_element("href", href, out);
    }
    for part in ["</D:", condition.name(), ">"] {
        out.push_str(part);
    }
}
