//! Opening a session with one of the slaves that a master named.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use log::debug;
use relais_net::Connection;
use relais_proto::{ErrorCode, Lsn, ServerRole, SlaveId, limits};

use super::connect::{BRIEF, FULL, queue_notice};
use super::greet::{self, Answer, Patience, Trouble, Welcome};
use super::told::Heard;
use super::{Open, Route, Session, authority_of};
use crate::Failure;

impl Session {
    /// Tries the slaves of a redirect, in order, each at all its addresses. One that lets the client wait at one address is
    /// tried at its others only after the rest, so that a host that is cut off is waited for once.
    pub(super) fn follow(&mut self, route: &Route) -> Result<Open, Failure> {
        let mut worst: Option<Failure> = None;
        let mut slaves = route.order(&self.avoid, Instant::now());
        // An older redirect may have it, and not in front.
        slaves.sort_by_key(|(slave, _)| self.preferred().is_some_and(|wanted| wanted != *slave));
        let mut left: VecDeque<(SlaveId, VecDeque<SocketAddr>)> =
            slaves.into_iter().map(|(slave, addrs)| (slave, addrs.into())).collect();
        while let Some((slave, mut addrs)) = left.pop_front() {
            let mut refused = false;
            while let Some(addr) = addrs.pop_front() {
                let (patience, begun) = (
                    if left.is_empty() && addrs.is_empty() { FULL } else { BRIEF },
                    Instant::now(),
                );
                let trouble = match self.open_at(addr, route, patience) {
                    Ok(open) => return Ok(open),
                    Err(trouble) => trouble,
                };
                if self.interrupt.is_raised() {
                    return Err(Failure::interrupted());
                }
                refused |= matches!(trouble, Trouble::Refused(_));
                let other = trouble.into_failure(addr);
                debug!("slave {slave} is left out: {other}");
                if other.code == ErrorCode::NotTrusted {
                    // Whether or not another one does it as well.
                    self.notices.say(&other.to_string());
                }
                if worst.as_ref().is_none_or(|worst| weight(&other) >= weight(worst)) {
                    worst = Some(other);
                }
                if begun.elapsed() >= BRIEF.connect && !addrs.is_empty() && !left.is_empty() {
                    left.push_back((slave, std::mem::take(&mut addrs)));
                }
            }
            // One that is full is well; it only has no place now.
            if !refused {
                self.avoid.add(slave, Instant::now());
            }
        }
        Err(worst.unwrap_or_else(|| {
            Failure::bad_server("the redirect names no address that can be connected to")
        }))
    }

    /// A session with the slave at `addr`.
    pub(super) fn open_at(
        &mut self,
        addr: SocketAddr,
        route: &Route,
        patience: Patience,
    ) -> Result<Open, Trouble> {
        match self.open_once(addr, route, patience) {
            Err(Trouble::Refused(refusal))
                if refusal.code == ErrorCode::TlsNeeded && self.encrypt_from_now() =>
            {
                self.open_once(addr, route, patience)
            }
            other => other,
        }
    }

    fn open_once(
        &mut self,
        addr: SocketAddr,
        route: &Route,
        patience: Patience,
    ) -> Result<Open, Trouble> {
        let mut connection = self.dial(addr, None, patience)?;
        let authority = authority_of(&connection);
        if route.authority.is_some() && authority != route.authority {
            return Err(Trouble::Bad(
                "it is not certified by the authority of the master that named it".to_owned(),
            ));
        }
        self.told.greet(&mut connection, &self.notices);
        let shown = self.told.mark();
        let (welcome, answer) = greet::show_ticket(
            &mut connection,
            &route.ticket,
            shown,
            &mut queue_notice(&self.notices),
        )?;
        match (welcome.role, answer) {
            (_, Answer::Redirect { .. } | Answer::AskMaster(_)) => {
                Err(Trouble::Bad("it redirects in a circle".to_owned()))
            }
            _ if welcome.cluster != route.cluster => {
                Err(Trouble::Bad("it is of another cluster".to_owned()))
            }
            (ServerRole::Slave, Answer::Opened { slave, mark }) => {
                self.enter_cluster(welcome.cluster, authority, mark);
                Ok(self.opened_at(connection, slave, welcome, shown.max(mark)))
            }
            (role, Answer::Opened { .. }) => {
                Err(Trouble::Bad(format!("a slave was expected there, not a {role:?}")))
            }
        }
    }

    /// A connection whose session is open. `heard` is what it was told or has told up to here.
    pub(super) fn opened_at(
        &self,
        mut connection: Connection,
        slave: SlaveId,
        welcome: Welcome,
        heard: Lsn,
    ) -> Open {
        connection.set_silence(limits::SILENCE);
        let heard = Heard::new(Mutex::new(heard));
        self.told.listen(&mut connection, &self.notices, Heard::clone(&heard));
        Open { addr: connection.peer(), connection, slave, role: welcome.role, heard }
    }
}

/// Which of several slaves' failures tells the user most.
fn weight(failure: &Failure) -> u8 {
    match failure.code {
        ErrorCode::Unreachable => 0,
        ErrorCode::BadServer => 1,
        _ => 2,
    }
}
