//! The cluster that saved data belongs to.
//!
//! Any server can claim any cluster id, so the id alone proves nothing. Saved data is therefore
//! also bound to the host that the user named and to the authority that certified its servers.

use relais_net::Host;
use relais_net::tls::Fingerprint;
use relais_proto::ClusterId;
use serde::{Deserialize, Serialize};

use crate::as_text;

/// A cluster as this client knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// `HOST:PORT` as the user typed it, in lower case and without a trailing dot.
    pub host: String,
    /// Authority that certified the server; none without encryption.
    #[serde(with = "as_text::optional")]
    pub authority: Option<Fingerprint>,
    /// Cluster id that the server reports.
    #[serde(with = "as_text")]
    pub cluster: ClusterId,
}

impl Origin {
    /// Creates the origin of data from `host`.
    pub fn new(host: &Host, authority: Option<Fingerprint>, cluster: ClusterId) -> Self {
        Self { host: host_key(host), authority, cluster }
    }

    /// Returns a hash of all fields, as 32 hexadecimal digits.
    pub fn hash(&self) -> String {
        let authority =
            self.authority.map_or_else(|| "-".to_owned(), |authority| authority.to_string());
        // Host names contain no NUL, so the text is unambiguous.
        let text = format!("{}\0{authority}\0{}", self.host, self.cluster);
        blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
    }
}

/// Returns the canonical text of a host: lower case, without a trailing dot.
pub fn host_key(host: &Host) -> String {
    let name = host.name.trim_end_matches('.').to_ascii_lowercase();
    Host { name, port: host.port }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_an_origin_counts() {
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
