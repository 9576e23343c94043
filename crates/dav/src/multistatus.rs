//! The body of a 207 answer, in parts (RFC 4918, section 13).

use relais_http::Status;
use relais_proto::PropertyName;

use crate::error::Condition;
use crate::error_body::write_condition;
use crate::property_name::empty_element;
use crate::xml::escape::text_element;

/// A multistatus body that is written in parts: its caller sends and clears them as it likes.
///
/// It keeps nothing of what is sent, so an answer about many resources needs little memory.
#[derive(Debug)]
pub struct Multistatus {
    out: String,
}

/// The properties of a resource that have one status (RFC 4918, section 14.22).
#[derive(Debug, Clone, Copy)]
pub struct PropertyStatus<'a> {
    /// The status.
    pub status: Status,
    /// Properties as elements. They are self-contained, or use the prefix `D`.
    pub elements: &'a [String],
    /// Properties of which only the name is shown.
    pub names: &'a [&'a PropertyName],
    /// The condition that was violated.
    pub condition: Option<Condition>,
}

impl PropertyStatus<'_> {
    /// Makes a status without properties.
    #[must_use]
    pub fn new(status: Status) -> Self {
        Self { status, elements: &[], names: &[], condition: None }
    }
}

impl Multistatus {
    /// Begins a body.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it begins a body")]
    pub fn new() -> Self {
        let out = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">\n";
        Self { out: out.to_owned() }
    }

    /// Adds a resource with its properties. `href` is its encoded path.
    pub fn properties(&mut self, href: &str, statuses: &[PropertyStatus<'_>]) {
        self.begin(href);
        for status in statuses {
            self.property_status(status);
        }
        self.out.push_str("</D:response>\n");
    }

    /// Adds a resource with its status. `href` is its encoded path.
    pub fn status(&mut self, href: &str, status: Status, condition: Option<Condition>) {
        self.begin(href);
        self.status_line(status);
        self.condition(condition);
        self.out.push_str("</D:response>\n");
    }

    /// Returns the number of bytes that wait to be sent.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.out.len()
    }

    /// Takes the bytes that wait to be sent.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out).into_bytes()
    }

    /// Ends the body and returns the rest of it.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push_str("</D:multistatus>\n");
        self.out.into_bytes()
    }

    fn begin(&mut self, href: &str) {
        self.out.push_str("<D:response>");
        text_element("href", href, &mut self.out);
    }

    fn property_status(&mut self, part: &PropertyStatus<'_>) {
        self.out.push_str("<D:propstat><D:prop>");
        for element in part.elements {
            self.out.push_str(element);
        }
        for name in part.names {
            self.out.push_str(&empty_element(name));
        }
        self.out.push_str("</D:prop>");
        self.status_line(part.status);
        self.condition(part.condition);
        self.out.push_str("</D:propstat>");
    }

    fn status_line(&mut self, status: Status) {
        text_element("status", &format!("HTTP/1.1 {status}"), &mut self.out);
    }

    fn condition(&mut self, condition: Option<Condition>) {
        if let Some(condition) = condition {
            self.out.push_str("<D:error>");
            write_condition(condition, &[], &mut self.out);
            self.out.push_str("</D:error>");
        }
    }
}
