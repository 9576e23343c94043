//! XML bodies: a parser with namespaces and caps, and the escapes of a writer.
//!
//! Document types, entities and unbound prefixes are errors. Comments and processing instructions
//! are skipped.

mod chars;
pub(crate) mod element;
pub(crate) mod escape;
mod fragment;
mod namespaces;
pub(crate) mod parse;
#[cfg(test)]
mod tests;
