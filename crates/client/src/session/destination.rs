//! Parsing of the destination argument.

use std::str::FromStr;

use relais_net::Host;

/// `[ftp://][USER@]HOST[:PORT]`, as the user types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// User to log in as; never empty.
    pub user: Option<String>,
    /// Server to connect to.
    pub host: Host,
}

impl FromStr for Destination {
    type Err = String;

    /// Parses a destination. The scheme changes nothing: the default port is 2121.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text;
        if let Some((scheme, behind)) = text.split_once("://") {
            if !scheme.eq_ignore_ascii_case("ftp") {
                return Err(format!("the scheme {scheme}:// is not supported; use ftp://HOST"));
            }
            rest = behind.strip_suffix('/').unwrap_or(behind);
            if let Some((host, path)) = rest.split_once('/') {
                return Err(format!(
                    "a path after the host is not supported; use {host} -c 'cd /{path}'"
                ));
            }
        }
        let Some((user, host)) = rest.rsplit_once('@') else {
            return Ok(Self { user: None, host: rest.parse()? });
        };
        if user.contains(':') {
            return Err(
                "a password in an argument can be read by other users; use --password-file"
                    .to_owned(),
            );
        }
        if user.is_empty() {
            return Err(format!("no user name before the @ in {text:?}"));
        }
        Ok(Self { user: Some(user.to_owned()), host: host.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_parsed() {
        for (text, user, host) in [
            ("files", None, "files:2121"),
            ("ann@files:2122", Some("ann"), "files:2122"),
            ("ann@example.org@files", Some("ann@example.org"), "files:2121"),
            ("ftp://files", None, "files:2121"),
            ("FTP://files", None, "files:2121"),
            ("ftp://ann@[::1]:9/", Some("ann"), "[::1]:9"),
        ] {
            let target: Destination = text.parse().unwrap();
            assert_eq!((target.user.as_deref(), target.host.to_string().as_str()), (user, host));
        }
        for bad in ["@files", "http://files", "ftp://files/a", "ftp://", "ann:secret@files", "a@"] {
            assert!(bad.parse::<Destination>().is_err(), "{bad}");
        }
    }
}
