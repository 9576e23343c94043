//! The owner of work that takes turns with the work of others.

use std::net::IpAddr;

use relais_proto::network_of;

/// A user, or for sessions without an account the network of the client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Owner(String);

impl Owner {
    /// Returns the owner of the work of a session with this user and address.
    #[must_use]
    pub fn of(user: &str, addr: IpAddr) -> Self {
        Self(if user.is_empty() {
            format!("at {}", network_of(addr))
        } else {
            format!("by {user}")
        })
    }

    /// Makes an owner of the text that another process of this slave has sent.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Returns the owner as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_users_or_networks() {
        let of = |user: &str, addr: &str| Owner::of(user, addr.parse().unwrap());
        assert_eq!(of("ann", "192.0.2.1"), of("ann", "192.0.2.2"));
        assert_ne!(of("", "192.0.2.1"), of("", "192.0.2.2"));
        assert_eq!(of("", "2001:db8::1"), of("", "2001:db8::2"));
        assert_ne!(of("at 192.0.2.1", "192.0.2.1"), of("", "192.0.2.1"));
    }
}
