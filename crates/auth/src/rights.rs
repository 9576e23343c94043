//! What a user may do.

/// The rights of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rights {
    /// The user may list and get.
    Read,
    /// The user may also make changes.
    Write,
}

impl Rights {
    /// The name of the rights in options and in the accounts file.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// Parses the output of [`Self::text`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        [Self::Read, Self::Write].into_iter().find(|rights| rights.text() == text)
    }
}
