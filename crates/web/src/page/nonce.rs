//! The policy for the content of a page, with a random value that no injected markup can know.

use std::io;

/// A random value that lets the style and script of one answer run.
#[derive(Debug, Clone)]
pub struct Nonce(String);

impl Nonce {
    /// Makes a nonce.
    ///
    /// # Errors
    /// The kernel provides no random bytes.
    pub fn new() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Returns the value of the attributes `nonce`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the `Content-Security-Policy` of a page: only its own style and script, and content
    /// of this server as pictures and for requests.
    #[must_use]
    pub fn policy(&self) -> String {
        let nonce = &self.0;
        format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Nonce;

    #[test]
    fn each_answer_has_its_own_policy() {
        let (one, other) = (Nonce::new().unwrap(), Nonce::new().unwrap());
        assert_ne!(one.text(), other.text());
        let policy = one.policy();
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
        assert_eq!(policy.matches(one.text()).count(), 2, "{policy}");
    }
}
