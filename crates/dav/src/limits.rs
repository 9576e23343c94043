//! Caps on what a WebDAV client may send. Those of what a tree keeps are in `relais_proto::limits`.

/// Most bytes of an XML body.
pub const BODY_MAX: usize = 1024 * 1024;
/// Most properties that a body names.
pub const PROPERTIES_MAX: usize = 1_000;
/// Most elements of a body.
pub(crate) const ELEMENTS_MAX: usize = 10_000;
/// How deep elements may be nested.
pub(crate) const DEPTH_MAX: usize = 64;
/// Most attributes of an element, with its namespace declarations.
pub(crate) const ATTRIBUTES_MAX: usize = 64;
/// Most namespace declarations that may be in scope.
pub(crate) const NAMESPACES_MAX: usize = 64;
/// Most conditions of an `If` header.
pub const CONDITIONS_MAX: usize = 256;
