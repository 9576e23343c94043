//! What was seen is never taken back: the highest change that was seen goes with the session from server to server, and by way of
//! the memory from run to run.

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, Lsn, Request};

use super::told::{highest, raise};
use super::{Open, Session};
use crate::memory::Memory;
use crate::origin::Origin;

impl Session {
    /// Uses what earlier runs have kept, and keeps things for later ones.
    #[must_use]
    pub fn remembering(mut self, memory: Option<Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// Keeps for later runs what is new. To be called behind a command.
    pub fn keep(&mut self) {
        if let (Some(memory), Some(origin)) = (&mut self.memory, &self.origin) {
            memory.keep(origin, self.told.mark());
        }
    }

    /// What to do where every server lacks what was seen before, and always will.
    #[must_use]
    pub fn about_behind(&self) -> Option<String> {
        let file = self.memory.as_ref()?.mark_file(self.origin.as_ref()?);
        Some(format!(
            "seen was {}; where the servers were set back on purpose, remove {file}",
            self.told.mark()
        ))
    }

    /// A server of this cluster answered. What was seen of another one counts no more.
    pub(super) fn enter_cluster(
        &mut self,
        cluster: ClusterId,
        authority: Option<Fingerprint>,
        mark: Lsn,
    ) {
        let origin = Origin::new(&self.settings.host, authority, cluster);
        if self.origin.as_ref().is_none_or(|before| before.cluster != cluster) {
            self.told.begin();
        }
        if self.origin.as_ref() != Some(&origin) {
            self.origin = Some(origin);
            self.recall();
        }
        self.see(mark);
    }

    /// As [`Self::enter_cluster`], for a server that gives the numbers itself, so that none is higher than its latest. What was
    /// seen above that cannot be: a server has lied, or this one was set back. Nothing could be read until it is dropped.
    pub(super) fn enter_at_the_source(
        &mut self,
        cluster: ClusterId,
        authority: Option<Fingerprint>,
        latest: Lsn,
    ) {
        self.enter_cluster(cluster, authority, Lsn::default());
        let seen = self.told.mark();
        if seen > latest {
            self.notices.say(&format!(
                "warning: change {seen} was seen of {}, whose latest is {latest}: a server has lied, or it was set back; {seen} is dropped",
                self.settings.host
            ));
            self.told.lower(latest);
            if let (Some(memory), Some(origin)) = (&mut self.memory, &self.origin) {
                memory.lower(origin, latest);
            }
        }
        self.see(latest);
    }

    /// What earlier runs, or others that run now, have seen of these servers counts as seen.
    pub(super) fn recall(&self) {
        let (Some(memory), Some(origin)) = (&self.memory, &self.origin) else { return };
        if let Some(mark) = memory.mark(origin) {
            self.see(mark);
        }
    }

    /// Tells a server of changes that were seen elsewhere, so that it answers with those as well; none where it is gone.
    pub(super) fn up_to_date(&mut self, mut open: Open) -> Option<Open> {
        let mark = self.told.mark();
        if highest(&open.heard) >= mark {
            return Some(open);
        }
        open.connection.queue(&Request::Seen { mark });
        raise(&open.heard, mark);
        match open.connection.flush() {
            Ok(()) => Some(open),
            Err(error) => {
                self.open = Some(open);
                self.lose(&error.to_string());
                None
            }
        }
    }

    /// A change with this number was seen: no server may answer with less from here on.
    pub fn see(&self, mark: Lsn) {
        self.told.see(mark);
    }
}
