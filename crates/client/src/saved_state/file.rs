//! The files' content: written here, and read with nothing taken on trust. Pure.

use std::net::SocketAddr;

use relais_proto::{ClusterId, Endpoint, Lsn, SlaveId, limits};
use serde::{Deserialize, Serialize};

use crate::session::{Route, is_usable};

/// The only format there is.
const FORMAT: u32 = 1;

/// A master's answer, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedRoute {
    format: u32,
    host: String,
    user: String,
    cluster: String,
    /// Who certified the master that gave the ticket; none for a connection in the clear.
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

/// The text for a master's answer to `user` at `host`, which came at `received`.
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
    // Nothing in it can fail to be written: all keys are texts.
    serde_json::to_string(&saved).unwrap_or_default()
}

/// What a text says, and when it was received; or what is wrong with it.
pub fn parse(text: &str, host: &str, user: &str) -> Result<(Route, u64), String> {
    let saved: SavedRoute =
        serde_json::from_str(text).map_err(|e| format!("it cannot be read: {e}"))?;
    if saved.format != FORMAT {
        return Err("it is of another version of this program".to_owned());
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
        return Err(format!("it names {} slaves", saved.slaves.len()));
    }
    let slaves = saved.slaves.into_iter().map(slave).collect::<Result<_, String>>()?;
    Ok((Route { cluster, authority, ticket, slaves }, saved.received))
}

fn slave(saved: SavedSlave) -> Result<Endpoint, String> {
    let id: SlaveId = saved.id.parse().map_err(|_| "it names a slave that has no id".to_owned())?;
    if saved.addresses.len() > limits::ADDRESSES || !saved.addresses.iter().all(is_usable) {
        return Err("it names an address that cannot be a slave's".to_owned());
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

/// The text for the highest change seen.
pub fn format_mark(lsn: Lsn) -> String {
    format!("{lsn}\n")
}

/// The highest change that a text names; none where it is not one that [`format_mark`] has made.
pub fn parse_mark(text: &str) -> Option<Lsn> {
    let (epoch, number) = text.strip_suffix('\n')?.split_once('-')?;
    let lsn = Lsn { epoch: epoch.parse().ok()?, number: number.parse().ok()? };
    // Only as it is written here: no sign, no zero in front.
    (format_mark(lsn) == text).then_some(lsn)
}
