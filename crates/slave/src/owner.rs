//! Whose work something is, where work is done in turns.

use std::net::IpAddr;

use relais_proto::{limits, network_of};

/// Longest name of an owner, in bytes.
pub const LONGEST: usize = limits::USER + 64;

/// A user, or where there is no account the network that the session comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Owner(String);

impl Owner {
    /// The owner of what a session of this user, which comes from this address, asks for.
    #[must_use]
    pub fn of(user: &str, addr: IpAddr) -> Self {
        Self(if user.is_empty() {
            format!("at {}", network_of(addr))
        } else {
            format!("by {user}")
        })
    }

    /// From the text of another process of this slave.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_one_wherever_and_without_an_account_a_network_is() {
        let of = |user: &str, addr: &str| Owner::of(user, addr.parse().unwrap());
        assert_eq!(of("ann", "192.0.2.1"), of("ann", "192.0.2.2"));
        assert_ne!(of("", "192.0.2.1"), of("", "192.0.2.2"));
        assert_eq!(of("", "2001:db8::1"), of("", "2001:db8::2"));
        assert_ne!(of("at 192.0.2.1", "192.0.2.1"), of("", "192.0.2.1"));
        assert!(of(&"x".repeat(limits::USER), "192.0.2.1").as_str().len() <= LONGEST);
    }
}
