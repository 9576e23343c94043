//! The token that lets a Prometheus on another host read the metrics of a server.

use std::fmt;
use std::path::Path;

/// A token of `--metrics-token-file`.
#[derive(Clone)]
pub struct MetricsToken(blake3::Hash);

impl MetricsToken {
    /// Makes the value for a token; none if it is empty.
    #[must_use]
    pub fn new(token: &str) -> Option<Self> {
        let token = token.trim();
        (!token.is_empty()).then(|| Self(blake3::hash(token.as_bytes())))
    }

    /// Reads the token from a file.
    ///
    /// # Errors
    /// Names the file: it cannot be read, or is empty.
    pub fn load(file: &Path) -> Result<Self, String> {
        let name = file.display();
        let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {name}: {e}"))?;
        Self::new(&text).ok_or_else(|| format!("the token file {name} is empty"))
    }

    /// Whether a field `Authorization` has the token (RFC 6750, section 2.1).
    #[must_use]
    pub fn is_in(&self, field: &str) -> bool {
        let token =
            field.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        // The comparison of hashes takes constant time.
        token.is_some_and(|(_, token)| blake3::hash(token.trim().as_bytes()) == self.0)
    }
}

impl fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_accepted() {
        let token = MetricsToken::new("secret\n").unwrap();
        assert!(token.is_in("Bearer secret") && token.is_in("bearer  secret"));
        for field in ["", "secret", "Bearer", "Bearer secre", "Bearer secrets", "Basic secret"] {
            assert!(!token.is_in(field), "{field}");
        }
        assert!(MetricsToken::new(" \n").is_none());
    }

    #[test]
    fn files_without_a_token_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        assert!(MetricsToken::load(&file).unwrap_err().contains("token: "));
        std::fs::write(&file, "\n").unwrap();
        assert!(MetricsToken::load(&file).unwrap_err().ends_with("token is empty"));
        std::fs::write(&file, "abc\n").unwrap();
        assert!(MetricsToken::load(&file).unwrap().is_in("Bearer abc"));
    }
}
