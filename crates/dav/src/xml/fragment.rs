//! Elements as XML that stands alone.

use super::element::{Element, Node};
use super::escape::{escape_attribute, escape_text};

impl Element {
    /// Returns the element as XML that means the same in any other document.
    ///
    /// It carries the namespace declarations and the language that it inherits from the elements
    /// around it, which are given from the outermost to its parent (RFC 4918, 4.3).
    pub fn fragment(&self, around: &[&Self]) -> String {
        let mut bare = String::new();
        write_element(self, &[], &mut bare);
        let mut inherited: Vec<(String, String)> = Vec::new();
        let outer = around.iter().rev().flat_map(|element| element.attributes.iter());
        for (name, value) in outer.filter(|(name, _)| may_matter(name, &bare)) {
            let mut known = self.attributes.iter().chain(&inherited);
            if !known.any(|(known, _)| known == name) {
                inherited.push((name.clone(), value.clone()));
            }
        }
        // A fragment stands where no default namespace is declared.
        inherited.retain(|(_, value)| !value.is_empty());
        let mut out = String::new();
        write_element(self, &inherited, &mut out);
        out
    }
}

/// Whether a fragment inherits an attribute of an outer element.
///
/// Text and values may use prefixes too, so any occurrence of a prefix counts.
fn may_matter(name: &str, fragment: &str) -> bool {
    match name.strip_prefix("xmlns:") {
        Some(prefix) => fragment.contains(&format!("{prefix}:")),
        None => name == "xmlns" || name == "xml:lang",
    }
}

/// Appends ` NAME="value"`.
fn attribute(name: &str, value: &str, out: &mut String) {
    for part in [" ", name, "=\""] {
        out.push_str(part);
    }
    escape_attribute(value, out);
    out.push('"');
}

/// Appends an element with its content. `extra` are further attributes of the element itself.
fn write_element(element: &Element, extra: &[(String, String)], out: &mut String) {
    out.push('<');
    out.push_str(&element.qualified);
    for (name, value) in element.attributes.iter().chain(extra) {
        attribute(name, value, out);
    }
    if element.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    nodes(&element.children, out);
    out.push_str("</");
    out.push_str(&element.qualified);
    out.push('>');
}

/// Appends the content of an element.
fn nodes(nodes: &[Node], out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => escape_text(text, out),
            Node::Element(child) => write_element(child, &[], out),
        }
    }
}
