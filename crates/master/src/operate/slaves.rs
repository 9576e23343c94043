//! The slaves that an operation asks.

use std::collections::BTreeMap;

use relais_cluster::{ConnectionAddrs, LinkId};
use relais_proto::FolderId;

use super::outcome::{OperatorOutput, ask_order};
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// Slaves to ask, and how many known slaves cannot be asked.
pub(super) struct Slaves {
    /// One slave of each folder.
    pub linked: Vec<LinkedSlave>,
    /// Known slaves without a link.
    pub absent: usize,
}

/// Chooses one linked slave of each folder, and names the slaves that are not asked.
///
/// Of two slaves on one folder only the one that has joined knows the tree.
///
/// # Errors
/// Fails if no slave is linked, or the master is stopping.
pub(super) fn choose(
    core: &Core,
    asker: ConnectionAddrs,
    output: &mut OperatorOutput<'_>,
) -> Result<Slaves, String> {
    let linked = core.slaves.all();
    let mut absent = core.reports(asker);
    absent.retain(|report| linked.iter().all(|linked| linked.slave != report.id));
    for report in &absent {
        let addr = report.addrs.first().map_or_else(String::new, |addr| format!(" at {addr}"));
        output.line_now(format!("slave {}{addr}: cannot be asked: it is not linked", report.id));
    }
    if linked.is_empty() {
        return Err("no slave is linked".to_owned());
    }
    let links: Vec<LinkId> = linked.iter().map(|linked| linked.link).collect();
    let joined = ask_order(core, move |engine| -> Vec<LinkId> {
        links.into_iter().filter(|link| engine.order().applied(*link).is_some()).collect()
    })?;
    let mut chosen: BTreeMap<FolderId, LinkedSlave> = BTreeMap::new();
    for of in &linked {
        if joined.contains(&of.link) || !chosen.contains_key(&of.folder) {
            chosen.insert(of.folder, of.clone());
        }
    }
    for of in &linked {
        if let Some(other) = chosen.get(&of.folder).filter(|other| other.link != of.link) {
            output.line_now(format!(
                "slave {}: serves the folder of slave {}",
                of.slave, other.slave
            ));
        }
    }
    let linked: Vec<LinkedSlave> =
        linked.into_iter().filter(|of| chosen.values().any(|one| one.link == of.link)).collect();
    Ok(Slaves { linked, absent: absent.len() })
}
