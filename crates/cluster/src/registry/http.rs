//! Selects the slaves for an HTTP request.

use std::time::Duration;

use relais_proto::{FolderId, SlaveId, limits};

use super::{NoSlave, Registry};
use crate::http_addresses::{HttpEndpoint, HttpRequester, http_authority};
use crate::round_robin::Balance;

impl Registry {
    /// Selects the slaves for an HTTP request: the one whose turn it is, and alternatives.
    ///
    /// Only slaves that `can_serve` accepts are taken. HTTP requests have a turn of their own.
    ///
    /// # Errors
    /// The reason why there is no slave. If `can_serve` rejects all, the result is empty.
    pub fn http_slaves(
        &mut self,
        requester: HttpRequester,
        can_serve: impl Fn(SlaveId, FolderId) -> bool,
        now: Duration,
    ) -> Result<Vec<HttpEndpoint>, NoSlave> {
        let (mut is_any_in_service, mut is_any_reachable) = (false, false);
        let mut found: Vec<(usize, HttpEndpoint)> = Vec::new();
        for (place, slave) in self.slaves.iter().enumerate() {
            if !slave.in_service(now) {
                continue;
            }
            is_any_in_service = true;
            let (addrs, encrypted) = (requester.addrs, requester.encrypted);
            let Some(authority) = http_authority(&slave.http, &slave.place, addrs, encrypted)
            else {
                continue;
            };
            is_any_reachable = true;
            if can_serve(slave.id, slave.folder) {
                let (id, folder, lsn) = (slave.id, slave.folder, slave.lsn);
                found.push((place, HttpEndpoint { id, folder, authority, lsn }));
            }
        }
        match (is_any_in_service, is_any_reachable) {
            (false, _) => Err(NoSlave::NoneInService),
            (_, false) => Err(NoSlave::NoHttp),
            _ => Ok(self.in_turn(found, requester.writes)),
        }
    }

    /// Whether a slave is in service.
    #[must_use]
    pub fn has_service(&self, now: Duration) -> bool {
        self.slaves.iter().any(|slave| slave.in_service(now))
    }

    /// Sorts the slaves by their turn, and records that the first one has had it.
    fn in_turn(
        &mut self,
        mut found: Vec<(usize, HttpEndpoint)>,
        writes: bool,
    ) -> Vec<HttpEndpoint> {
        let mut due: Vec<usize> = found.iter().map(|(place, _)| *place).collect();
        self.http_turn.sort_by_load(&mut due, self.slaves.len(), |place| match self.balance {
            Balance::RoundRobin => 0,
            Balance::LeastSessions => self.slaves[place].load(),
        });
        if writes {
            due.sort_by_key(|place| self.slaves[*place].is_low_on_space());
        }
        if let Some(first) = due.first() {
            self.http_turn.advance_past(*first);
            self.slaves[*first].sent += 1;
        }
        due.truncate(limits::REDIRECT_SLAVES);
        let mut take = |place| {
            let index = found.iter().position(|(at, _)| *at == place)?;
            Some(found.swap_remove(index).1)
        };
        due.into_iter().filter_map(&mut take).collect()
    }
}
