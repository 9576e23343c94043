//! An element with its namespace, attributes and content.

use relais_proto::PropertyName;

use crate::property_name::is_dav;

/// Content of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// Text without escapes.
    Text(String),
    Element(Element),
}

/// An element of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The name with its namespace.
    pub name: PropertyName,
    /// The name as it was written, with its prefix.
    pub qualified: String,
    /// Attributes as they were written, also namespace declarations; values without escapes.
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Node>,
}

impl Element {
    /// Whether it has this name in the namespace of WebDAV.
    pub fn is_dav(&self, local: &str) -> bool {
        is_dav(&self.name, local)
    }

    /// Returns the elements inside.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Returns the first element inside that has this name in the namespace of WebDAV.
    pub fn dav_child(&self, local: &str) -> Option<&Element> {
        self.elements().find(|element| element.is_dav(local))
    }

    /// Returns the text inside, without that of inner elements.
    pub fn text(&self) -> String {
        let texts = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }
}
