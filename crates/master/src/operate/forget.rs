//! A slave that will not come back: its folder is waited for no more, and what it alone had is given up.

use std::collections::BTreeSet;

use log::info;
use relais_cluster::Viewpoint;
use relais_proto::{FolderId, SlaveReport};

use super::{Done, Outcome, ended, find};
use crate::core::Core;

/// Forgets a slave, or a folder whose slaves were not here since the master was started.
pub(super) fn forget(core: &Core, asker: Viewpoint, name: &str) -> Done {
    let reports = core.reports(asker);
    let linked = core.links.all();
    let (slave, folder) = match find::slave(core, asker, name) {
        Ok(slave) => (Some(slave.id), slave.folder),
        Err(no_slave) => (None, absent_folder(core, &reports, name, no_slave)?),
    };
    if let Some(slave) = slave {
        if linked.iter().any(|linked| linked.slave == slave) {
            return Err(format!("slave {slave} is linked; stop it first"));
        }
        core.forget(slave);
        if let Some(other) =
            reports.iter().find(|report| report.folder == folder && report.id != slave)
        {
            return Ok(Outcome::done(format!(
                "slave {slave} is forgotten; its folder is also that of slave {}, and stays",
                other.id
            )));
        }
    }
    if linked.iter().any(|linked| linked.folder == folder) {
        return Err(format!("the folder {folder} is served by a slave that is linked"));
    }
    core.orders
        .ask(move |engine| engine.forget(folder).map_err(|error| error.to_string()))
        .ok_or_else(ended)??;
    info!("the folder {folder} is forgotten");
    let who = slave.map_or_else(String::new, |slave| format!("slave {slave} and "));
    Ok(Outcome::done(format!(
        "{who}the folder {folder} are forgotten; `ftpmaster status` shows whether contents are lost with them"
    )))
}

/// A folder of the cluster that no slave serves, as far as this master knows.
fn absent_folder(
    core: &Core,
    reports: &[SlaveReport],
    name: &str,
    no_slave: String,
) -> Result<FolderId, String> {
    let folders = core.orders.ask(|engine| engine.folders().clone()).ok_or_else(ended)?;
    let absent: BTreeSet<FolderId> = folders
        .into_iter()
        .filter(|folder| reports.iter().all(|report| report.folder != *folder))
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
            format!("{no_slave}; folders whose slaves were not here since the start can be forgotten by their ids: {}", absent.join(", "))
        }
    })
}
