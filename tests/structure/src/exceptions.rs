//! What the checks tolerate. These lists only shrink.

/// Names that a type has by custom in each module of its kind.
pub(crate) const IDIOMATIC: &[&str] = &["Args", "Config", "Error", "Options", "Result"];

/// Lines that are wider: patterns and texts in macros, which rustfmt leaves as they are.
pub(crate) const TOLERATED_WIDE_LINES: usize = 49;

/// Occurrences of words that the project avoids.
pub(crate) const TOLERATED_WORDS: usize = 20;
