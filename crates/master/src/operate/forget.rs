//! `ftpmaster forget`: removes a slave that will not return, and the contents that it alone held.

use log::Level;
use relais_proto::FolderId;

use super::find;
use super::session::{OperationResult, OperatorSession, ask_order, try_order};
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// Removes a slave, or a folder whose slaves are not linked.
pub(super) fn forget(session: &OperatorSession<'_>, name: &str) -> OperationResult {
    let core = session.core;
    let reports = session.reports();
    let linked = core.slaves.all();
    let (slave, folder) = match find::slave(session, name) {
        Ok(slave) => (Some(slave.id), slave.folder),
        Err(no_slave) => (None, absent_folder(core, &linked, name, no_slave)?),
    };
    if let Some(slave) = slave {
        if linked.iter().any(|linked| linked.slave == slave) {
            return Err(format!("slave {slave} is linked; stop it first"));
        }
        try_order(core, move |engine| engine.forget_slave(slave))?;
        core.forget(slave);
        core.events.record(Level::Info, format!("slave {slave} is forgotten"));
        if let Some(other) =
            reports.iter().find(|report| report.folder == folder && report.id != slave)
        {
            return Ok(format!(
                "slave {slave} is forgotten; its folder is also that of slave {}, and stays",
                other.id
            ));
        }
    }
    if linked.iter().any(|linked| linked.folder == folder) {
        return Err(format!("the folder {folder} is served by a slave that is linked"));
    }
    try_order(core, move |engine| engine.forget(folder))?;
    let served = reports.iter().filter(|report| report.folder == folder);
    served.for_each(|report| core.forget(report.id));
    core.events.record(Level::Info, format!("the folder {folder} is forgotten"));
    let who = slave.map_or_else(String::new, |slave| format!("slave {slave} and "));
    Ok(format!(
        "{who}the folder {folder} are forgotten; \
         `ftpmaster status` shows whether contents are lost with them"
    ))
}

/// Finds a folder of the cluster that no linked slave serves.
fn absent_folder(
    core: &Core,
    linked: &[LinkedSlave],
    name: &str,
    no_slave: String,
) -> Result<FolderId, String> {
    let mut absent = ask_order(core, |engine| engine.folders().clone())?;
    absent.retain(|folder| linked.iter().all(|linked| linked.folder != *folder));
    let named = absent.iter().filter(|folder| find::begins(*folder, name));
    find::one(named, name, |folder| **folder).copied().map_err(|_| {
        if absent.is_empty() {
            return no_slave;
        }
        let absent: Vec<String> = absent.iter().map(ToString::to_string).collect();
        format!(
            "{no_slave}; folders whose slaves are down can be forgotten by their ids: {}",
            absent.join(", ")
        )
    })
}
