//! What a user may do.

/// The rights of a user; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rights {
    /// The user may list and get.
    Read,
    /// The user may also make changes.
    Write,
    /// The user may also see the pages of the servers, and drain, scrub and compare slaves there.
    Admin,
}

impl Rights {
    /// All rights, in their order.
    const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The name of the rights in options and in the accounts file.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// Parses the output of [`Self::text`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rights| rights.text() == text)
    }

    /// Whether the user may make changes.
    #[must_use]
    pub fn can_write(self) -> bool {
        self >= Self::Write
    }

    /// Whether the user may operate the servers.
    #[must_use]
    pub fn is_admin(self) -> bool {
        self == Self::Admin
    }

    /// The byte that stands for the rights in a ticket.
    ///
    /// It was a boolean for writing before there were administrators, so 0 and 1 keep their
    /// meanings.
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Admin => 2,
        }
    }

    /// Parses the output of [`Self::byte`].
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|rights| rights.byte() == byte)
    }
}

#[cfg(test)]
mod tests {
    use super::Rights;

    #[test]
    fn each_name_and_byte_stands_for_its_rights() {
        for rights in Rights::ALL {
            assert_eq!(Rights::from_text(rights.text()), Some(rights));
            assert_eq!(Rights::from_byte(rights.byte()), Some(rights));
        }
        assert_eq!((Rights::from_text("root"), Rights::from_text("Admin")), (None, None));
        assert_eq!(Rights::from_byte(3), None);
    }

    #[test]
    fn an_administrator_may_write() {
        let can = Rights::ALL.map(|rights| (rights.can_write(), rights.is_admin()));
        assert_eq!(can, [(false, false), (true, false), (true, true)]);
    }
}
