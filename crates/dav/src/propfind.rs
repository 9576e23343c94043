//! The body of PROPFIND (RFC 4918, sections 9.1 and 14.20).

use relais_proto::PropertyName;

use crate::error::DavError;
use crate::limits::PROPERTIES_MAX;
use crate::xml::element::Element;
use crate::xml::parse::parse;

/// The properties that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropFind {
    /// All properties, and further ones by name.
    All {
        /// Names that the answer shall include.
        include: Vec<PropertyName>,
    },
    /// The names of all properties.
    Names,
    /// The named properties.
    Named(Vec<PropertyName>),
}

impl PropFind {
    /// Reads a body. An empty one asks for all properties.
    ///
    /// # Errors
    /// 400 if the body is no PROPFIND, 413 if it exceeds a cap, 415 for an unknown encoding.
    pub fn parse(body: &[u8]) -> Result<Self, DavError> {
        if body.is_empty() {
            return Ok(Self::All { include: Vec::new() });
        }
        let root = parse(body)?;
        if !root.is_dav("propfind") {
            return Err(DavError::syntax("the body of PROPFIND is no propfind"));
        }
        let count = |name: &str| root.elements().filter(|child| child.is_dav(name)).count();
        let asked: usize = ["prop", "propname", "allprop"].iter().map(|name| count(name)).sum();
        if asked != 1 {
            return Err(DavError::syntax("a propfind has one of prop, propname and allprop"));
        }
        if let Some(prop) = root.dav_child("prop") {
            return names(prop).map(Self::Named);
        }
        if root.dav_child("propname").is_some() {
            return Ok(Self::Names);
        }
        let include = root.dav_child("include").map(names).transpose()?.unwrap_or_default();
        Ok(Self::All { include })
    }
}

/// Returns the names of the elements inside, each once.
fn names(element: &Element) -> Result<Vec<PropertyName>, DavError> {
    let mut names = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for child in element.elements() {
        if names.len() == PROPERTIES_MAX {
            return Err(DavError::too_large("the body names too many properties"));
        }
        if seen.insert(&child.name) {
            names.push(child.name.clone());
        }
    }
    Ok(names)
}
