//! Whose servers something that is kept belongs to.
//!
//! Every server can claim the id of every cluster, so the id alone says nothing. What is kept for a later run is bound to the
//! host as the user typed it and to the authority that certified its servers as well.

use relais_net::tls::Fingerprint;
use relais_proto::ClusterId;

use crate::session::Host;

/// A cluster, as it is known to this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `HOST:PORT` as the user typed it, in small letters and without a dot at the end of the name.
    pub host: String,
    /// The authority that has certified the server; none for a connection in the clear.
    pub authority: Option<Fingerprint>,
    /// What the server says that its cluster is.
    pub cluster: ClusterId,
}

impl Origin {
    /// The origin of what comes from `host`.
    #[must_use]
    pub fn new(host: &Host, authority: Option<Fingerprint>, cluster: ClusterId) -> Self {
        Self { host: host_key(host), authority, cluster }
    }

    /// A hash over all of it, as 32 hexadecimal digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let authority =
            self.authority.map_or_else(|| "-".to_owned(), |authority| authority.to_string());
        // No host holds a NUL.
        let text = format!("{}\0{authority}\0{}", self.host, self.cluster);
        blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
    }
}

/// A host as it is compared: a name is the same in any case, and with the dot of the root.
#[must_use]
pub fn host_key(host: &Host) -> String {
    let name = host.name.trim_end_matches('.').to_ascii_lowercase();
    Host { name, port: host.port }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_an_origin_counts() {
        let host = |text: &str| text.parse::<Host>().unwrap();
        let authority =
            |digit: char| Some(format!("SHA256:{}", digit.to_string().repeat(64)).parse().unwrap());
        let of = |text: &str, authority, id: u8| {
            Origin::new(&host(text), authority, ClusterId([id; 16]))
        };
        let all = [
            of("a:1", None, 1),
            of("a:2", None, 1),
            of("b:1", None, 1),
            of("a:1", authority('1'), 1),
            of("a:1", authority('2'), 1),
            of("a:1", None, 2),
        ];
        let hashes: std::collections::BTreeSet<String> = all.iter().map(Origin::hash).collect();
        assert_eq!(hashes.len(), all.len());
        assert_eq!(of("A.:1", None, 1), all[0]);
    }
}
