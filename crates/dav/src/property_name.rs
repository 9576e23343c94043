//! Names of properties: a namespace and a local name.

use crate::xml::escape::{escape_attribute, is_name};

/// The namespace of WebDAV.
pub const DAV: &str = "DAV:";
/// The namespace of the properties that Windows sets.
pub const MICROSOFT: &str = "urn:schemas-microsoft-com:";

/// The name of a property or XML element (Namespaces in XML 1.0, expanded name).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PropertyName {
    /// The namespace; empty: none.
    namespace: String,
    local: String,
}

impl PropertyName {
    /// Makes a name; none if the local name is no XML name without colon.
    #[must_use]
    pub fn new(namespace: impl Into<String>, local: impl Into<String>) -> Option<Self> {
        let (namespace, local) = (namespace.into(), local.into());
        is_name(&local).then_some(Self { namespace, local })
    }

    /// Returns the namespace; empty: none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the local name.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// Whether it is this name in the namespace of WebDAV.
    #[must_use]
    pub fn is_dav(&self, local: &str) -> bool {
        self.namespace == DAV && self.local == local
    }

    /// Writes an empty element with this name. The prefix `D` has to be bound to [`DAV`].
    pub(crate) fn write_empty(&self, out: &mut String) {
        if self.namespace == DAV {
            out.push_str("<D:");
            out.push_str(&self.local);
        } else {
            out.push('<');
            out.push_str(&self.local);
            out.push_str(" xmlns=\"");
            escape_attribute(&self.namespace, out);
            out.push('"');
        }
        out.push_str("/>");
    }
}
