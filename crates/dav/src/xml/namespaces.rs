//! The namespace declarations in scope, and the names that they give (Namespaces in XML 1.0).

use relais_proto::{PropertyName, limits};

use crate::error::DavError;
use crate::limits::NAMESPACES_MAX;
use crate::property_name::property_name;

/// The namespace of the prefix `xml`.
const XML: &str = "http://www.w3.org/XML/1998/namespace";
/// The namespace of declarations.
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// What the open elements declare: `xmlns` and `xmlns:PREFIX`, innermost last.
#[derive(Default)]
pub(super) struct Scope {
    declarations: Vec<(String, String)>,
    /// Number of declarations before each open element.
    marks: Vec<usize>,
}

impl Scope {
    /// Enters an element with these attributes.
    pub fn enter(&mut self, attributes: &[(String, String)]) -> Result<(), DavError> {
        self.marks.push(self.declarations.len());
        for (name, value) in attributes {
            if let Some(prefix) = name.strip_prefix("xmlns:") {
                check_binding(prefix, value)?;
            } else if name == "xmlns" {
                check_default(value)?;
            } else {
                continue;
            }
            if value.len() > limits::PROPERTY_NAMESPACE {
                return Err(DavError::too_large("the name of a namespace is too long"));
            }
            self.declarations.push((name.clone(), value.clone()));
        }
        if self.declarations.len() > NAMESPACES_MAX {
            return Err(DavError::too_large("the body declares too many namespaces"));
        }
        Ok(())
    }

    /// Leaves the innermost element.
    pub fn leave(&mut self) {
        self.declarations.truncate(self.marks.pop().unwrap_or(0));
    }

    /// Returns the name of an element.
    pub fn element_name(&self, qualified: &str) -> Result<PropertyName, DavError> {
        match qualified.split_once(':') {
            Some((prefix, local)) => self.prefixed(prefix, local),
            None => named(self.lookup("xmlns").unwrap_or_default(), qualified),
        }
    }

    /// Returns the name of an attribute. One without prefix has no namespace.
    pub fn attribute_name(&self, qualified: &str) -> Result<PropertyName, DavError> {
        match qualified.split_once(':') {
            Some(("xmlns", local)) => named(XMLNS, local),
            Some((prefix, local)) => self.prefixed(prefix, local),
            None => named("", qualified),
        }
    }

    fn prefixed(&self, prefix: &str, local: &str) -> Result<PropertyName, DavError> {
        if prefix == "xml" {
            return named(XML, local);
        }
        let declaration = format!("xmlns:{prefix}");
        let namespace = self.lookup(&declaration).ok_or_else(|| {
            DavError::syntax(format!("the prefix {prefix:?} stands for no namespace"))
        })?;
        named(namespace, local)
    }

    fn lookup(&self, declaration: &str) -> Option<&str> {
        let mut innermost = self.declarations.iter().rev();
        let (_, value) = innermost.find(|(name, _)| name == declaration)?;
        Some(value)
    }
}

fn named(namespace: &str, local: &str) -> Result<PropertyName, DavError> {
    property_name(namespace, local)
        .ok_or_else(|| DavError::syntax(format!("{local:?} is no XML name")))
}

fn check_binding(prefix: &str, namespace: &str) -> Result<(), DavError> {
    let reserved =
        prefix == "xmlns" || namespace == XMLNS || (prefix == "xml") != (namespace == XML);
    if reserved || namespace.is_empty() {
        return Err(DavError::syntax(format!("the prefix {prefix:?} cannot stand for this")));
    }
    Ok(())
}

fn check_default(namespace: &str) -> Result<(), DavError> {
    if [XML, XMLNS].contains(&namespace) {
        return Err(DavError::syntax("a reserved namespace cannot be the default"));
    }
    Ok(())
}
