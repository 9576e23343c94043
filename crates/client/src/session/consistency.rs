//! What was seen is never taken back: the highest change that was seen goes with the session from server to server, and by way of
//! the memory from run to run.

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, Lsn, Request};

use super::observed::{current_lsn, raise_lsn};
use super::{OpenSession, Session};
use crate::origin::Origin;
use crate::saved_state::SavedState;

impl Session {
    /// Uses what earlier runs have kept, and keeps things for later ones.
    #[must_use]
    pub fn with_saved_state(mut self, saved: Option<SavedState>) -> Self {
        self.saved = saved;
        self
    }

    /// Keeps for later runs what is new. To be called behind a command.
    pub fn save(&mut self) {
        if let (Some(saved), Some(origin)) = (&mut self.saved, &self.origin) {
            saved.save(origin, self.observed.lsn());
        }
    }

    /// What to do where every server lacks what was seen before, and always will.
    #[must_use]
    pub fn behind_hint(&self) -> Option<String> {
        let file = self.saved.as_ref()?.mark_file(self.origin.as_ref()?);
        Some(format!(
            "seen was {}; where the servers were set back on purpose, remove {file}",
            self.observed.lsn()
        ))
    }

    /// A server of this cluster answered. What was seen of another one counts no more.
    pub(super) fn enter_cluster(
        &mut self,
        cluster: ClusterId,
        authority: Option<Fingerprint>,
        lsn: Lsn,
    ) {
        let origin = Origin::new(&self.settings.host, authority, cluster);
        if self.origin.as_ref().is_none_or(|before| before.cluster != cluster) {
            self.observed.reset();
        }
        if self.origin.as_ref() != Some(&origin) {
            self.origin = Some(origin);
            self.load_seen();
        }
        self.record_lsn(lsn);
    }

    /// As [`Self::enter_cluster`], for a server that gives the numbers itself, so that none is higher than its latest. What was
    /// seen above that cannot be: a server has lied, or this one was set back. Nothing could be read until it is dropped.
    pub(super) fn enter_authoritative(
        &mut self,
        cluster: ClusterId,
        authority: Option<Fingerprint>,
        latest: Lsn,
    ) {
        self.enter_cluster(cluster, authority, Lsn::default());
        let seen = self.observed.lsn();
        if seen > latest {
            self.notices.say(&format!(
                "warning: change {seen} was seen of {}, whose latest is {latest}: a server has lied, or it was set back; {seen} is dropped",
                self.settings.host
            ));
            self.observed.lower_lsn(latest);
            if let (Some(saved), Some(origin)) = (&mut self.saved, &self.origin) {
                saved.lower(origin, latest);
            }
        }
        self.record_lsn(latest);
    }

    /// What earlier runs, or others that run now, have seen of these servers counts as seen.
    pub(super) fn load_seen(&self) {
        let (Some(saved), Some(origin)) = (&self.saved, &self.origin) else { return };
        if let Some(lsn) = saved.lsn(origin) {
            self.record_lsn(lsn);
        }
    }

    /// Tells a server of changes that were seen elsewhere, so that it answers with those as well; none where it is gone.
    pub(super) fn send_seen(&mut self, mut open: OpenSession) -> Option<OpenSession> {
        let lsn = self.observed.lsn();
        if current_lsn(&open.server_lsn) >= lsn {
            return Some(open);
        }
        open.connection.queue(&Request::Seen { lsn });
        raise_lsn(&open.server_lsn, lsn);
        match open.connection.flush() {
            Ok(()) => Some(open),
            Err(error) => {
                self.open = Some(open);
                self.mark_lost(&error.to_string());
                None
            }
        }
    }

    /// A change with this number was seen: no server may answer with less from here on.
    pub fn record_lsn(&self, lsn: Lsn) {
        self.observed.record_lsn(lsn);
    }
}
