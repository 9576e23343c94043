//! `ftpmaster forget`: removes a slave that will not return, and the contents that it alone held.

use std::collections::BTreeSet;

use log::info;
use relais_cluster::ConnectionAddrs;
use relais_proto::FolderId;

use super::find;
use super::outcome::{OperationResult, ask_order, try_order};
use crate::core::Core;
use crate::linked_slaves::LinkedSlave;

/// Removes a slave, or a folder whose slaves are not linked.
pub(super) fn forget(core: &Core, asker: ConnectionAddrs, name: &str) -> OperationResult {
    let reports = core.reports(asker);
    let linked = core.slaves.all();
    let (slave, folder) = match find::slave(core, asker, name) {
        Ok(slave) => (Some(slave.id), slave.folder),
        Err(no_slave) => (None, absent_folder(core, &linked, name, no_slave)?),
    };
    if let Some(slave) = slave {
        if linked.iter().any(|linked| linked.slave == slave) {
            return Err(format!("slave {slave} is linked; stop it first"));
        }
        try_order(core, move |engine| engine.forget_slave(slave))?;
        core.forget(slave);
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
    info!("the folder {folder} is forgotten");
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
    let folders = ask_order(core, |engine| engine.folders().clone())?;
    let absent: BTreeSet<FolderId> = folders
        .into_iter()
        .filter(|folder| linked.iter().all(|linked| linked.folder != *folder))
        .collect();
    let found = find::one(
        absent.iter().filter(|folder| find::begins(*folder, name)),
        name,
        "folder",
        |folder| **folder,
    );
    found.copied().map_err(|_| match absent.is_empty() {
        true => no_slave,
        false => {
            let absent: Vec<String> = absent.iter().map(ToString::to_string).collect();
            format!(
                "{no_slave}; folders whose slaves are down can be forgotten by their ids: {}",
                absent.join(", ")
            )
        }
    })
}
