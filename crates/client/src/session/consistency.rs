//! Monotonic reads: the session never shows an older state than it has already seen.
//!
//! The highest LSN seen moves with the session from server to server. The saved state carries it
//! from run to run.

use relais_net::tls::Fingerprint;
use relais_proto::{ClusterId, ErrorCode, Lsn, Request};

use super::state::{OpenSession, Session};
use crate::Failure;
use crate::origin::Origin;

impl Session {
    /// Saves the LSN and route for later runs. The caller calls it after each command.
    pub fn save(&mut self) {
        if let (Some(saved), Some(origin)) = (&mut self.saved, &self.origin) {
            saved.save(origin, self.observed.lsn());
        }
    }

    /// Adds how to proceed if all servers stay behind the LSN that was seen.
    pub fn explain_behind(&self, failure: Failure) -> Failure {
        match (&self.saved, &self.origin) {
            (Some(saved), Some(origin)) if failure.code == ErrorCode::Behind => {
                failure.and(&format!(
                    "the client has seen {}; if the servers were reset on purpose, remove {}",
                    self.observed.lsn(),
                    saved.lsn_file(origin)
                ))
            }
            _ => failure,
        }
    }

    /// Records that a server of `cluster` answered; the LSN of another cluster is forgotten.
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
        self.observed.record_lsn(lsn);
    }

    /// As [`Self::enter_cluster`], for the server that assigns the LSNs. `shown` is the LSN that
    /// the client knew when it asked.
    ///
    /// No LSN that the client knew then can be higher than that server's latest. A higher one
    /// comes from a server that lied, or this server was reset. The client drops it, because every
    /// read would be refused as long as it is kept. A higher LSN that another client has saved
    /// meanwhile proves nothing: then the result is false, and the caller asks again.
    pub(super) fn enter_authoritative(
        &mut self,
        cluster: ClusterId,
        authority: Option<Fingerprint>,
        latest: Lsn,
        shown: Lsn,
    ) -> bool {
        self.enter_cluster(cluster, authority, Lsn::default());
        let seen = self.observed.lsn();
        if seen > latest {
            if seen > shown {
                return false;
            }
            self.drop_lsn(seen, latest);
        }
        self.observed.record_lsn(latest);
        true
    }

    /// Replaces an impossible LSN by the latest one of the server that assigns them.
    fn drop_lsn(&mut self, seen: Lsn, latest: Lsn) {
        // A slave may report the same LSN again, on each connection.
        if self.dropped_lsn.replace(seen) != Some(seen) {
            say!(
                self.notices,
                "warning: change {seen} was seen at {}, whose latest change is {latest}: \
                 a server lied, or this one was reset; {seen} is dropped",
                self.settings.host
            );
        }
        self.observed.lower_lsn(latest);
        if let (Some(saved), Some(origin)) = (&mut self.saved, &self.origin) {
            saved.lower_lsn(origin, seen, latest);
        }
    }

    /// Loads the LSN that earlier or concurrent runs have seen of these servers.
    pub(super) fn load_seen(&self) {
        let (Some(saved), Some(origin)) = (&self.saved, &self.origin) else { return };
        if let Some(lsn) = saved.lsn(origin) {
            self.observed.record_lsn(lsn);
        }
    }

    /// Tells the server the LSN seen elsewhere, together with the next request.
    ///
    /// The server then answers with all changes up to that LSN.
    pub(super) fn queue_seen(&self, open: &mut OpenSession) {
        let lsn = self.observed.lsn();
        let mut server_lsn = open.server_lsn.lock();
        if *server_lsn < lsn {
            open.connection.queue(&Request::Seen { lsn });
            *server_lsn = lsn;
        }
    }
}
