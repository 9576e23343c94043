//! The check of the Host field, against DNS rebinding.

use std::net::IpAddr;

/// Whether a Host field names this server: an address, `localhost`, or one of `own`.
///
/// Otherwise a page of another site could have its own name lead here, and read the answers. A page
/// cannot have an address as its name.
pub(super) fn is_own_host(field: &str, own: &[String]) -> bool {
    let name = match field.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => return address.parse::<IpAddr>().is_ok(),
        None => field.rsplit_once(':').map_or(field, |(name, _)| name),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || own.iter().any(|own| own.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_rejected() {
        let own = ["files.example.org".to_owned()];
        for host in [
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "192.0.2.1",
            "localhost:8080",
            "LocalHost.",
            "FILES.example.org:80",
        ] {
            assert!(is_own_host(host, &own), "{host}");
        }
        for host in ["evil.example", "files.example.org.evil:80", "[evil]", "", ":80", "1.2.3.4.x"]
        {
            assert!(!is_own_host(host, &own), "{host}");
        }
    }
}
