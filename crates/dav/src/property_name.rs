//! Names of properties and elements (Namespaces in XML 1.0, expanded names).

use relais_proto::PropertyName;

use crate::xml::escape::{escape_attribute, is_name};

/// The namespace of WebDAV.
pub const DAV: &str = "DAV:";
/// The namespace of the properties that Windows sets.
pub const MICROSOFT: &str = "urn:schemas-microsoft-com:";

/// Makes a name; none if the local name is no XML name without colon.
pub(crate) fn property_name(namespace: &str, local: &str) -> Option<PropertyName> {
    let (namespace, name) = (namespace.to_owned(), local.to_owned());
    is_name(local).then_some(PropertyName { namespace, local: name })
}

/// Whether it is this name in the namespace of WebDAV.
pub(crate) fn is_dav(name: &PropertyName, local: &str) -> bool {
    name.namespace == DAV && name.local == local
}

/// Returns an empty element with a name. The prefix `D` has to be bound to [`DAV`].
#[must_use]
pub fn empty_element(name: &PropertyName) -> String {
    if name.namespace == DAV {
        return format!("<D:{}/>", name.local);
    }
    let mut out = format!("<{} xmlns=\"", name.local);
    escape_attribute(&name.namespace, &mut out);
    out.push_str("\"/>");
    out
}
