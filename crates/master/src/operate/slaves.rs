//! The slaves that an operation asks, and its result from those of all slaves.

use std::collections::BTreeMap;

use relais_cluster::LinkId;
use relais_proto::{FolderId, pluralize};

use super::session::{OperationResult, OperatorSession, ask_order};
use crate::linked_slaves::LinkedSlave;

/// Slaves to ask, and how many known slaves cannot be asked.
pub(super) struct Slaves {
    /// One slave of each folder.
    pub linked: Vec<LinkedSlave>,
    /// Known slaves without a link.
    pub absent: usize,
}

impl Slaves {
    /// Chooses one linked slave of each folder, and names the slaves that are not asked.
    ///
    /// Of two slaves on one folder only the one that has joined knows the tree.
    ///
    /// # Errors
    /// Fails if no slave is linked, or the master is stopping.
    pub fn choose(session: &mut OperatorSession<'_>) -> Result<Self, String> {
        let linked = session.core.slaves.all();
        let mut absent = session.reports();
        absent.retain(|report| linked.iter().all(|linked| linked.slave != report.id));
        for report in &absent {
            let addr = report.addrs.first().map_or_else(String::new, |addr| format!(" at {addr}"));
            session
                .line_now(format!("slave {}{addr}: cannot be asked: it is not linked", report.id));
        }
        if linked.is_empty() {
            return Err("no slave is linked".to_owned());
        }
        let links: Vec<LinkId> = linked.iter().map(|linked| linked.link).collect();
        let joined = ask_order(session.core, move |engine| -> Vec<LinkId> {
            links.into_iter().filter(|link| engine.order().applied(*link).is_some()).collect()
        })?;
        let mut chosen: BTreeMap<FolderId, LinkedSlave> = BTreeMap::new();
        for of in &linked {
            if joined.contains(&of.link) || !chosen.contains_key(&of.folder) {
                chosen.insert(of.folder, of.clone());
            }
        }
        let (linked, others): (Vec<_>, Vec<_>) =
            linked.into_iter().partition(|of| chosen[&of.folder].link == of.link);
        for of in others {
            let chosen = chosen[&of.folder].slave;
            session.line_now(format!("slave {}: serves the folder of slave {chosen}", of.slave));
        }
        Ok(Self { linked, absent: absent.len() })
    }

    /// The number of slaves, as text.
    pub fn count(&self) -> String {
        pluralize(self.linked.len() + self.absent, "slave")
    }

    /// Has `check` tell whether each slave is good, until the operator disconnects.
    ///
    /// It names each slave for which `check` fails. Returns how many slaves are not good, and for
    /// how many there is no result.
    pub fn check_each(
        &self,
        session: &mut OperatorSession<'_>,
        mut check: impl FnMut(&mut OperatorSession<'_>, &LinkedSlave) -> Result<bool, String>,
    ) -> (usize, usize) {
        let (mut bad, mut failed) = (0, self.absent);
        for of in &self.linked {
            match check(session, of) {
                Ok(good) => bad += usize::from(!good),
                Err(why) => {
                    failed += 1;
                    session.line_now(format!("slave {}: {why}", of.slave));
                }
            }
            if session.is_gone {
                break;
            }
        }
        (bad, failed)
    }

    /// The result of an operation: `good` if no slave is bad or has failed.
    pub fn result(
        &self,
        (bad, failed): (usize, usize),
        good: String,
        are_bad: &str,
        have_failed: &str,
    ) -> OperationResult {
        let all = self.count();
        match (bad, failed) {
            (0, 0) => Ok(good),
            (0, failed) => Err(format!("{failed} of {all} {have_failed}")),
            (bad, 0) => Err(format!("{bad} of {all} {are_bad}")),
            (bad, failed) => Err(format!("{bad} of {all} {are_bad}, and {failed} {have_failed}")),
        }
    }
}
