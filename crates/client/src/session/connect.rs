//! Finding a server: the named host, its master, the slaves that the master names, and again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Connection;
use relais_proto::{ErrorCode, Login, ServerRole, SlaveId, WaitReason};

use super::greet::{self, Answer, Trouble, Welcome};
use super::{Host, Open, Route, Session};
use crate::Failure;
use crate::error::plain;
use crate::notices::Notices;

/// Pause before the first further try; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What a login came to.
enum Entered {
    Session(Box<Open>),
    Redirected(Route),
    AskMaster(String),
}

impl Session {
    /// Opens a session with some server; tries again until `--retry` is over.
    ///
    /// # Errors
    /// The last try's failure, or that the user interrupted.
    pub(super) fn reach(&mut self) -> Result<Open, Failure> {
        let until = Instant::now() + self.settings.retry;
        let mut pause = FIRST_PAUSE;
        loop {
            let result = self.attempt();
            if self.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
            let failure = match result {
                Ok(open) => return Ok(open),
                Err(failure) => failure,
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_temporary(failure.code) {
                return Err(failure);
            }
            debug!("trying again: {failure}");
            if self.interrupt.pause(pause.min(left)) {
                return Err(Failure::interrupted());
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// One round through all that is known.
    fn attempt(&mut self) -> Result<Open, Failure> {
        match self.enter() {
            Ok(Entered::Session(open)) => Ok(*open),
            Ok(Entered::Redirected(route)) => {
                let result = self.follow(&route);
                self.route = Some(route);
                result
            }
            Ok(Entered::AskMaster(address)) => Err(circle(&address)),
            Err(failure) if failure.code == ErrorCode::Unreachable => match self.route.clone() {
                // The master is away; the slaves it named last may still be there.
                Some(route) => self.follow(&route).map_err(|_| failure),
                None => Err(failure),
            },
            Err(failure) => Err(failure),
        }
    }

    /// Logs in where the user said, or at the master that a slave there named: once.
    fn enter(&mut self) -> Result<Entered, Failure> {
        if let Some(master) = self.master.clone() {
            match self.knock(&master) {
                Err(failure) if failure.code == ErrorCode::Unreachable => {}
                other => return other,
            }
        }
        let host = self.settings.host.clone();
        let address = match self.knock(&host)? {
            Entered::AskMaster(address) => address,
            entered => return Ok(entered),
        };
        if !self.settings.password.is_empty() {
            let message = format!("{host} is a slave, and a password is given to its master alone: connect to {address}");
            return Err(Failure::new(ErrorCode::LoginNeeded, message));
        }
        let master: Host = address.parse().map_err(|e| Failure::bad_server(format!("{host} names a bad master: {e}")))?;
        match self.knock(&master)? {
            Entered::Redirected(route) => {
                self.master = Some(master);
                Ok(Entered::Redirected(route))
            }
            Entered::AskMaster(_) => Err(circle(&master.to_string())),
            Entered::Session(_) => Err(Failure::bad_server(format!("{host} names {master} as its master, which is none"))),
        }
    }

    /// Logs in at the first address of `host` that answers.
    fn knock(&mut self, host: &Host) -> Result<Entered, Failure> {
        let unreachable = |why: String| Failure::new(ErrorCode::Unreachable, format!("{host} cannot be reached: {why}"));
        let addrs = host.addresses().map_err(|e| unreachable(plain(&e)))?;
        let mut failure = unreachable("the name has no address".to_owned());
        for addr in addrs {
            let trouble = match self.log_in(addr) {
                Ok(entered) => return Ok(entered),
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Refused(refusal) => return Err(refusal.into()),
                Trouble::Gone(why) if failure.code == ErrorCode::Unreachable => failure = unreachable(why),
                Trouble::Gone(_) => {}
                Trouble::Bad(_) | Trouble::Stopped(_) => failure = trouble.into_failure(addr),
            }
            if self.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
        }
        Err(failure)
    }

    fn log_in(&mut self, addr: SocketAddr) -> Result<Entered, Trouble> {
        let mut connection = greet::dial(addr, &self.interrupt)?;
        let login = Login {
            user: self.settings.user.clone(),
            password: self.settings.password.clone(),
            mark: self.mark,
            avoid: self.avoid.ids(Instant::now()),
            prefer: self.preferred(),
        };
        let (welcome, answer) = greet::log_in(&mut connection, &login, &mut queue_notice(&self.notices))?;
        match (welcome.role, answer) {
            (ServerRole::Master, Answer::Redirect { ticket, mark, slaves }) => {
                self.enter_cluster(welcome.cluster, mark);
                Ok(Entered::Redirected(Route { cluster: welcome.cluster, ticket, slaves }))
            }
            (ServerRole::Standalone, Answer::Opened { slave, mark }) => {
                self.enter_cluster(welcome.cluster, mark);
                Ok(Entered::Session(Box::new(opened(connection, addr, slave, welcome))))
            }
            (ServerRole::Slave, Answer::AskMaster(address)) => Ok(Entered::AskMaster(address)),
            (role, _) => Err(Trouble::Bad(format!("its answer to a login does not fit its role ({role:?})"))),
        }
    }

    /// Tries the slaves of a redirect, in order, each at all its addresses.
    fn follow(&mut self, route: &Route) -> Result<Open, Failure> {
        let mut worst: Option<Failure> = None;
        let mut slaves = route.order(&self.avoid, Instant::now());
        // An older redirect may have it, and not in front.
        slaves.sort_by_key(|(slave, _)| self.preferred().is_some_and(|wanted| wanted != *slave));
        for (slave, addrs) in slaves {
            let mut refused = false;
            for addr in addrs {
                let trouble = match self.open_at(addr, route) {
                    Ok(open) => return Ok(open),
                    Err(trouble) => trouble,
                };
                if self.interrupt.is_raised() {
                    return Err(Failure::interrupted());
                }
                refused |= matches!(trouble, Trouble::Refused(_));
                let other = trouble.into_failure(addr);
                debug!("slave {slave} is left out: {other}");
                if worst.as_ref().is_none_or(|worst| weight(&other) >= weight(worst)) {
                    worst = Some(other);
                }
            }
            // One that is full is well; it only has no place now.
            if !refused {
                self.avoid.add(slave, Instant::now());
            }
        }
        Err(worst.unwrap_or_else(|| Failure::bad_server("the redirect names no address that can be connected to")))
    }

    fn open_at(&mut self, addr: SocketAddr, route: &Route) -> Result<Open, Trouble> {
        let mut connection = greet::dial(addr, &self.interrupt)?;
        let (welcome, answer) = greet::show_ticket(&mut connection, &route.ticket, self.mark, &mut queue_notice(&self.notices))?;
        match (welcome.role, answer) {
            (_, Answer::Redirect { .. } | Answer::AskMaster(_)) => Err(Trouble::Bad("it redirects in a circle".to_owned())),
            _ if welcome.cluster != route.cluster => Err(Trouble::Bad("it is of another cluster".to_owned())),
            (ServerRole::Slave, Answer::Opened { slave, mark }) => {
                self.enter_cluster(welcome.cluster, mark);
                Ok(opened(connection, addr, slave, welcome))
            }
            (role, Answer::Opened { .. }) => Err(Trouble::Bad(format!("a slave was expected there, not a {role:?}"))),
        }
    }
}

fn opened(connection: Connection, addr: SocketAddr, slave: SlaveId, welcome: Welcome) -> Open {
    Open { connection, addr, slave, role: welcome.role }
}

/// Tells the user once where a server lets the session wait for its turn.
fn queue_notice(notices: &Notices) -> impl FnMut(WaitReason) + use<> {
    let (notices, mut seen) = (notices.clone(), 0_u32);
    move |reason| {
        if reason == WaitReason::Queue {
            seen = seen.saturating_add(1);
            // The first comes at once, the second after a second.
            if seen == 2 {
                notices.say("waiting for a free place");
            }
        }
    }
}

/// Whether the same try may well succeed a moment later.
fn is_temporary(code: ErrorCode) -> bool {
    use ErrorCode::{Busy, Draining, NoSlave, TimedOut, Unreachable};
    matches!(code, Unreachable | NoSlave | Busy | Draining | TimedOut)
}

/// Which of several slaves' failures tells the user most.
fn weight(failure: &Failure) -> u8 {
    match failure.code {
        ErrorCode::Unreachable => 0,
        ErrorCode::BadServer => 1,
        _ => 2,
    }
}

fn circle(place: &str) -> Failure {
    Failure::bad_server(format!("{place} redirects in a circle"))
}
