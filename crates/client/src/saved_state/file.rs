//! Formatting and parsing of the saved files, as untrusted input.
//!
//! Pure functions.

use std::net::SocketAddr;

use relais_proto::{ClusterId, Endpoint, Lsn, SlaveId, limits};
use serde::{Deserialize, Serialize};

use crate::route::{Route, is_usable};

/// Number of the file format.
const FORMAT: u32 = 1;

/// A master's redirect, as it is saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedRoute {
    format: u32,
    host: String,
    user: String,
    cluster: String,
    /// Authority of the master that issued the ticket; none without encryption.
    authority: Option<String>,
    /// Seconds since 1970.
    received: u64,
    /// Hexadecimal.
    ticket: String,
    slaves: Vec<SavedSlave>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSlave {
    id: String,
    addresses: Vec<SocketAddr>,
}

/// Formats the redirect that `user` received from `host` at the time `received`.
pub fn format(route: &Route, host: &str, user: &str, received: u64) -> String {
    let slaves = route
        .slaves
        .iter()
        .map(|slave| SavedSlave { id: slave.id.to_string(), addresses: slave.addrs.clone() })
        .collect();
    let saved = SavedRoute {
        format: FORMAT,
        host: host.to_owned(),
        user: user.to_owned(),
        cluster: route.cluster.to_string(),
        authority: route.authority.map(|authority| authority.to_string()),
        received,
        ticket: route.ticket.iter().map(|byte| format!("{byte:02x}")).collect(),
        slaves,
    };
    // Serialising cannot fail: all keys are strings.
    serde_json::to_string(&saved).unwrap_or_default()
}

/// Parses a saved redirect and the time at which it was received.
pub fn parse(text: &str, host: &str, user: &str) -> Result<(Route, u64), String> {
    let saved: SavedRoute =
        serde_json::from_str(text).map_err(|e| format!("it cannot be read: {e}"))?;
    if saved.format != FORMAT {
        return Err("another version of this program wrote it".to_owned());
    }
    if (saved.host.as_str(), saved.user.as_str()) != (host, user) {
        return Err("it is about another host or user".to_owned());
    }
    let cluster: ClusterId = saved.cluster.parse().map_err(|_| "it names no cluster".to_owned())?;
    let authority = saved
        .authority
        .map(|text| text.parse().map_err(|_| "it names no authority"))
        .transpose()?;
    let ticket = unhex(&saved.ticket)
        .filter(|ticket| ticket.len() <= limits::TICKET)
        .ok_or("it holds no ticket")?;
    if saved.slaves.is_empty() || saved.slaves.len() > limits::REDIRECT_SLAVES {
        return Err(format!("it lists {} slaves", saved.slaves.len()));
    }
    let slaves = saved.slaves.into_iter().map(slave).collect::<Result<_, String>>()?;
    Ok((Route { cluster, authority, ticket, slaves }, saved.received))
}

fn slave(saved: SavedSlave) -> Result<Endpoint, String> {
    let id: SlaveId = saved.id.parse().map_err(|_| "a slave has no valid id".to_owned())?;
    if saved.addresses.len() > limits::ADDRESSES || !saved.addresses.iter().all(is_usable) {
        return Err("it lists an address that no slave can have".to_owned());
    }
    Ok(Endpoint { id, addrs: saved.addresses })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2)
        || text.len() > 2 * limits::TICKET
        || !text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

/// Formats the highest LSN seen.
pub fn format_lsn(lsn: Lsn) -> String {
    format!("{lsn}\n")
}

/// Parses an LSN; accepts only the spelling of [`format_lsn`].
pub fn parse_lsn(text: &str) -> Option<Lsn> {
    text.trim_end().parse().ok().filter(|lsn| format_lsn(*lsn) == text)
}
