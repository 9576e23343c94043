//! Formatting and parsing of the saved files, as untrusted input.
//!
//! Pure functions.

use std::net::SocketAddr;

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, Endpoint, Lsn, SlaveId, limits};
use serde::{Deserialize, Serialize};

use crate::as_text;
use crate::route::{Route, is_usable};

/// Number of the file format.
const FORMAT: u32 = 2;

/// A master's redirect, as it is saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedRoute {
    format: u32,
    host: String,
    user: String,
    #[serde(with = "as_text")]
    cluster: ClusterId,
    /// Authority of the master that issued the ticket; none without encryption.
    #[serde(with = "as_text::optional")]
    authority: Option<Fingerprint>,
    /// Seconds since 1970.
    received: u64,
    ticket: Vec<u8>,
    slaves: Vec<SavedSlave>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSlave {
    #[serde(with = "as_text")]
    id: SlaveId,
    addresses: Vec<SocketAddr>,
}

/// Formats the redirect that `user` received from `host` at the time `received`.
pub fn format(route: &Route, host: &str, user: &str, received: u64) -> String {
    let saved = |slave: &Endpoint| SavedSlave { id: slave.id, addresses: slave.addrs.clone() };
    let saved = SavedRoute {
        format: FORMAT,
        host: host.to_owned(),
        user: user.to_owned(),
        cluster: route.cluster,
        authority: route.authority,
        received,
        ticket: route.ticket.clone(),
        slaves: route.slaves.iter().map(saved).collect(),
    };
    // Serialising cannot fail: all keys are strings.
    serde_json::to_string(&saved).unwrap_or_default()
}

/// Parses a saved redirect and the time at which it was received.
pub fn parse(text: &str, host: &str, user: &str) -> Result<(Route, u64), String> {
    let saved: SavedRoute =
        serde_json::from_str(text).map_err(|e| format!("it cannot be read: {e}"))?;
    let SavedRoute { cluster, authority, received, ticket, slaves, .. } = saved;
    let is_invalid = |slave: &SavedSlave| {
        slave.addresses.len() > limits::ADDRESSES || !slave.addresses.iter().all(is_usable)
    };
    if saved.format != FORMAT {
        return Err("another version of this program wrote it".to_owned());
    } else if (saved.host.as_str(), saved.user.as_str()) != (host, user) {
        return Err("it is about another host or user".to_owned());
    } else if ticket.len() > limits::TICKET {
        return Err("it holds no ticket".to_owned());
    } else if slaves.is_empty() || slaves.len() > limits::REDIRECT_SLAVES {
        return Err(format!("it lists {} slaves", slaves.len()));
    } else if slaves.iter().any(is_invalid) {
        return Err("it lists an address that no slave can have".to_owned());
    }
    let endpoint = |slave: SavedSlave| Endpoint { id: slave.id, addrs: slave.addresses };
    let slaves = slaves.into_iter().map(endpoint).collect();
    Ok((Route { cluster, authority, ticket, slaves }, received))
}

/// Formats the highest LSN seen.
pub fn format_lsn(lsn: Lsn) -> String {
    format!("{lsn}\n")
}

/// Parses an LSN; accepts only the spelling of [`format_lsn`].
pub fn parse_lsn(text: &str) -> Option<Lsn> {
    text.trim_end().parse().ok().filter(|lsn| format_lsn(*lsn) == text)
}
