//! What the checks tolerate. These lists only shrink.

/// Names that a type has by custom in each module of its kind.
pub(crate) const IDIOMATIC: &[&str] = &["Args", "Config", "Error", "Options", "Result"];

/// Type names that still mean more than one thing.
pub(crate) const TOLERATED_NAMES: &[&str] = &["Hashing", "Progress", "Stream"];

/// Lines that are still too wide.
pub(crate) const TOLERATED_WIDE_LINES: usize = 109;

/// Occurrences of words that the project avoids.
pub(crate) const TOLERATED_WORDS: usize = 20;
