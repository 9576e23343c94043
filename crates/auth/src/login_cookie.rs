//! The login cookie of browsers, whose value is a ticket.
//!
//! Browsers send a cookie to all ports of a host, so its name ends with the first digits of the id
//! of the cluster, or of the standalone slave.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use relais_proto::ClusterId;

/// Longest value of a cookie in bytes. Browsers drop cookies of more than 4,096 bytes.
const LONGEST: usize = 4000;

/// Returns the name of a cookie of a server.
#[must_use]
pub fn cookie_name(prefix: &str, server: ClusterId) -> String {
    let digits: String = server.0[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{prefix}-{digits}")
}

/// Returns the name of the login cookie of a server.
#[must_use]
pub fn login_cookie_name(server: ClusterId) -> String {
    cookie_name("relais", server)
}

/// Returns the value of the login cookie for a ticket; none if browsers would drop it.
#[must_use]
pub fn ticket_to_cookie(ticket: &[u8]) -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(ticket)).filter(|value| value.len() <= LONGEST)
}

/// Returns the ticket that is the value of a cookie, unchecked; none if it is malformed.
#[must_use]
pub fn ticket_of_cookie(value: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_has_the_ticket_and_the_name_of_its_server() {
        let ticket = [0, 255, 17, 62, 63];
        let value = ticket_to_cookie(&ticket).unwrap();
        assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_eq!(ticket_of_cookie(&value).unwrap(), ticket);
        assert_eq!(ticket_of_cookie("a b"), None);
        assert_eq!(ticket_to_cookie(&[0; 3001]), None);
        assert_eq!(login_cookie_name(ClusterId([0xab; 16])), "relais-abababab");
    }
}
