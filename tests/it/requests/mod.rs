//! Requests of single sessions on real slaves: copies, attributes, several entries, and what later
//! versions may send.

mod attributes;
mod copy;
mod later_versions;
mod other_client;
mod stat_many;

use relais_proto::{Digest, Entry, Lsn, Reply, Request};

use crate::harness::{Cluster, RawClient, SOON, eventually, path, session, ticket};

/// Opens a session at a slave of a cluster.
#[track_caller]
fn open(cluster: &Cluster, n: usize) -> RawClient {
    session(cluster.slaves[n].addr, &ticket(cluster.addr).0)
}

/// Returns an entry and its digest, if there is an entry.
#[track_caller]
fn stat(wire: &mut RawClient, name: &str) -> Option<(Entry, Option<Digest>)> {
    match wire.ask(&Request::Stat(path(name))) {
        Reply::Details { entry, digest, .. } => Some((entry, digest)),
        Reply::Error(_) => None,
        other => panic!("{other:?}"),
    }
}

/// Waits until a slave shows this version of an entry, and returns the entry.
#[track_caller]
fn wait_version(wire: &mut RawClient, name: &str, version: Lsn) -> Entry {
    eventually(SOON, &format!("{name} has version {version}"), || {
        stat(wire, name).map(|(entry, _)| entry).filter(|entry| entry.version == Some(version))
    })
}
