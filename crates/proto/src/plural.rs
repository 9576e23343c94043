//! Counted nouns in messages.

use std::fmt::Display;

/// Formats a number with its noun, such as `1 slave` and `2 slaves`.
#[must_use]
pub fn pluralize<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        let counted = [0_u64, 1, 2].map(|count| pluralize(count, "slave"));
        assert_eq!(counted, ["0 slaves", "1 slave", "2 slaves"]);
        assert_eq!(pluralize(1_usize, "path"), "1 path");
    }
}
