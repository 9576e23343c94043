//! Reads a body to a tree of elements.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

use super::chars::is_xml_char;
use super::element::{Element, Node};
use super::namespaces::Scope;
use crate::error::DavError;
use crate::limits::{ATTRIBUTES_MAX, BODY_MAX, DEPTH_MAX, ELEMENTS_MAX};
use relais_http::Status;

/// Reads a body in UTF-8, or in UTF-16 with a byte order mark.
pub(crate) fn parse(body: &[u8]) -> Result<Element, DavError> {
    if body.len() > BODY_MAX {
        return Err(DavError::too_large("the body has more than 1 MiB"));
    }
    let text = decode(body)?;
    if !text.chars().all(is_xml_char) {
        return Err(DavError::syntax("the body has a character that XML forbids"));
    }
    let mut reader = Reader::from_str(&text);
    reader.config_mut().check_comments = true;
    let mut parser = Parser::default();
    loop {
        let event = reader.read_event();
        match event.map_err(|error| DavError::syntax(format!("the body is no XML: {error}")))? {
            Event::Eof => return parser.finish(),
            event => parser.take(&event)?,
        }
    }
}

fn decode(body: &[u8]) -> Result<Cow<'_, str>, DavError> {
    let unit: fn([u8; 2]) -> u16 = match body {
        [0xFF, 0xFE, ..] => u16::from_le_bytes,
        [0xFE, 0xFF, ..] => u16::from_be_bytes,
        _ => {
            let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
            let text = str::from_utf8(body);
            return text.map(Cow::Borrowed).map_err(|_| not_text("UTF-8"));
        }
    };
    let (units, rest) = body[2..].as_chunks::<2>();
    let units = units.iter().map(|bytes| unit(*bytes));
    let text: Result<String, _> = char::decode_utf16(units).collect();
    text.ok().filter(|_| rest.is_empty()).map(Cow::Owned).ok_or_else(|| not_text("UTF-16"))
}

fn outside() -> DavError {
    DavError::syntax("text outside of the root")
}

fn not_text(encoding: &str) -> DavError {
    DavError::syntax(format!("the body is not in {encoding}"))
}

/// The elements that are open, and the root once it is closed.
#[derive(Default)]
struct Parser {
    open: Vec<Element>,
    root: Option<Element>,
    scope: Scope,
    count: usize,
}

impl Parser {
    fn take(&mut self, event: &Event<'_>) -> Result<(), DavError> {
        match event {
            Event::Start(start) => self.start(start),
            Event::Empty(start) => self.start(start).and_then(|()| self.end()),
            Event::End(_) => self.end(),
            Event::Text(text) if text.contains("]]>") => Err(DavError::syntax("`]]>` in text")),
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(_) if self.open.is_empty() => Err(outside()),
            Event::CData(text) => self.text(&text.xml10_content()),
            Event::GeneralRef(_) if self.open.is_empty() => Err(outside()),
            Event::GeneralRef(reference) => self.text(resolve(reference)?.encode_utf8(&mut [0; 4])),
            Event::DocType(_) => Err(DavError::syntax("a body has no document type")),
            Event::Decl(decl) => self.declaration(decl),
            Event::Comment(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    /// Checks the XML declaration. A document has at most one, as its begin.
    fn declaration(&self, decl: &BytesDecl<'_>) -> Result<(), DavError> {
        if self.count > 0 {
            return Err(DavError::syntax("an XML declaration after the begin"));
        }
        let known = |name: &str| {
            ["utf-8", "utf-16", "us-ascii"].iter().any(|known| known.eq_ignore_ascii_case(name))
        };
        match decl.encoding() {
            Some(Ok(name)) if !known(&name) => Err(DavError::new(
                Status::UNSUPPORTED_MEDIA_TYPE,
                format!("the encoding {name:?} is not known"),
            )),
            Some(Err(error)) => Err(DavError::syntax(format!("no XML declaration: {error}"))),
            _ => Ok(()),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), DavError> {
        self.count += 1;
        if self.root.is_some() {
            return Err(DavError::syntax("the body has two roots"));
        }
        if self.count > ELEMENTS_MAX || self.open.len() >= DEPTH_MAX {
            return Err(DavError::too_large("the body has too many elements, or too deep ones"));
        }
        let attributes = attributes(start)?;
        self.scope.enter(&attributes)?;
        let mut names = Vec::with_capacity(attributes.len());
        for (name, _) in &attributes {
            let name = self.scope.attribute_name(name)?;
            if names.contains(&name) {
                return Err(DavError::syntax("an element has an attribute twice"));
            }
            names.push(name);
        }
        let qualified = start.name().0.to_owned();
        let name = self.scope.element_name(&qualified)?;
        self.open.push(Element { name, qualified, attributes, children: Vec::new() });
        Ok(())
    }

    fn end(&mut self) -> Result<(), DavError> {
        self.scope.leave();
        // The reader has checked that the names of both tags are equal.
        let element = self.open.pop().ok_or_else(|| DavError::syntax("an end without a begin"))?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(Node::Element(element)),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), DavError> {
        let Some(element) = self.open.last_mut() else {
            if text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
                return Ok(());
            }
            return Err(outside());
        };
        match element.children.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => element.children.push(Node::Text(text.to_owned())),
        }
        Ok(())
    }

    fn finish(self) -> Result<Element, DavError> {
        match self.root {
            Some(root) if self.open.is_empty() => Ok(root),
            _ => Err(DavError::syntax("the body ends too early")),
        }
    }
}

/// Returns the attributes of a tag without the escapes of their values.
fn attributes(start: &BytesStart<'_>) -> Result<Vec<(String, String)>, DavError> {
    let mut attributes = Vec::new();
    // Its check for duplicates takes quadratic time; ours comes after the cap.
    for attribute in start.attributes().with_checks(false) {
        let invalid = |error| DavError::syntax(format!("an attribute is no XML: {error}"));
        let attribute = attribute.map_err(|error| invalid(error.to_string()))?;
        if attributes.len() == ATTRIBUTES_MAX {
            return Err(DavError::too_large("an element has too many attributes"));
        }
        if attribute.value.contains('<') {
            return Err(invalid("`<` in a value".to_owned()));
        }
        let value = attribute.normalized_value(quick_xml::XmlVersion::Implicit1_0);
        let value = value.map_err(|error| invalid(error.to_string()))?;
        if !value.chars().all(is_xml_char) {
            return Err(invalid("a character that XML forbids".to_owned()));
        }
        attributes.push((attribute.key.0.to_owned(), value.into_owned()));
    }
    Ok(attributes)
}

/// Returns the character that a reference stands for.
fn resolve(reference: &BytesRef<'_>) -> Result<char, DavError> {
    let unknown = || DavError::syntax(format!("the entity {:?} is not known", &**reference));
    let char = match reference.resolve_char_ref() {
        Ok(Some(char)) => Some(char),
        Ok(None) => match &**reference {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "apos" => Some('\''),
            "quot" => Some('"'),
            _ => None,
        },
        Err(_) => None,
    };
    char.filter(|char| is_xml_char(*char)).ok_or_else(unknown)
}
