//! Finding a server: the named host, its master, the slaves that the master names, and again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_proto::{ErrorCode, Login, Lsn, ServerRole, WaitReason, limits};
use relais_secret::SecretError;

use super::ask;
use super::greet::{self, Answer, Patience, Trouble};
use super::{Host, Open, Route, Session, authority_of};
use crate::Failure;
use crate::error::plain;
use crate::memory::Memory;
use crate::notices::Notices;

/// Pause before the first further try; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// How long a server may take where there is no other to try.
pub(super) const FULL: Patience =
    Patience { connect: limits::CONNECT_TIME, silence: limits::SILENCE };
/// How long a server may take where there are others: a host that hangs must not use up the time to go on in. Who makes a
/// client wait says so every second.
pub(super) const BRIEF: Patience =
    Patience { connect: Duration::from_secs(2), silence: Duration::from_millis(2500) };
/// How long a master that could not be reached is asked last.
const AWAY_TIME: Duration = Duration::from_secs(5);

/// What a login came to.
pub(super) enum Entered {
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
        // A master that was away a moment ago is not waited for again before the slaves that it named were tried.
        let followed = if self.master_is_away() { self.route.clone() } else { None };
        if let Some(route) = &followed
            && let Ok(open) = self.follow(route)
        {
            return Ok(open);
        }
        match self.enter() {
            Ok(Entered::Session(open)) => Ok(*open),
            Ok(Entered::Redirected(route)) => {
                self.master_away = None;
                let result = self.follow(&route);
                self.take_route(route);
                result
            }
            Ok(Entered::AskMaster(address)) => Err(circle(&address)),
            Err(failure) if failure.code == ErrorCode::Unreachable => {
                self.note_master_away();
                // The master is away; the slaves it named last may still be there.
                match self.known_route() {
                    Some(route) if followed.is_none() => self.follow(&route).map_err(|_| failure),
                    _ => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// The slaves that the master named last, perhaps to an earlier run of this client.
    fn known_route(&mut self) -> Option<Route> {
        if self.route.is_none()
            && let Some(route) = self.memory.as_mut().and_then(Memory::route)
        {
            let master = self.master.as_ref().unwrap_or(&self.settings.host);
            self.notices.say(&format!(
                "the master at {master} cannot be reached; going on with the slaves it named before"
            ));
            self.told.begin();
            self.enter_cluster(route.cluster, route.authority, Lsn::default());
            self.route = Some(route);
        }
        self.route.clone()
    }

    /// The master's newest answer.
    pub(super) fn take_route(&mut self, route: Route) {
        if let Some(memory) = &mut self.memory {
            memory.learn(&route);
        }
        self.route = Some(route);
    }

    /// The master could not be reached just now.
    pub(super) fn note_master_away(&mut self) {
        self.master_away = Some(Instant::now());
    }

    /// Whether the master could not be reached a moment ago.
    pub(super) fn master_is_away(&self) -> bool {
        self.master_away.is_some_and(|since| since.elapsed() < AWAY_TIME)
    }

    /// Logs in where the user said, or at the master that a slave there named. A password that was typed wrong is asked for again.
    pub(super) fn enter(&mut self) -> Result<Entered, Failure> {
        let mut tries = 1;
        loop {
            self.ask_password()?;
            let mut result = self.enter_once();
            if let Err(failure) = &result
                && failure.code == ErrorCode::LoginNeeded
                && self.settings.user.is_empty()
            {
                match ask::user(&self.settings.host, &self.notices)? {
                    Some(user) => {
                        self.set_user(user);
                        continue;
                    }
                    None => result = Err(without_user(failure)),
                }
            }
            let Some(failure) = result
                .as_ref()
                .err()
                .filter(|failure| failure.code == ErrorCode::LoginRefused && self.typed)
            else {
                return result;
            };
            self.settings.password = None;
            if tries == limits::LOGIN_TRIES {
                return result;
            }
            self.notices.say(&failure.to_string());
            tries += 1;
        }
    }

    /// Logs in as this user from now on.
    fn set_user(&mut self, user: String) {
        if let Some(memory) = &mut self.memory {
            memory.set_user(&user);
        }
        self.settings.user = user;
    }

    /// Asks for the password of a user who has given none.
    fn ask_password(&mut self) -> Result<(), Failure> {
        if self.settings.user.is_empty() || self.settings.password.is_some() {
            return Ok(());
        }
        // Without anybody to log in at, the ticket of before may do.
        let addr = self.find_somebody()?;
        // Nobody types one that is not sent then.
        self.check_line(addr)?;
        let prompt = format!("Password of {} at {}: ", self.settings.user, self.settings.host);
        let password = relais_secret::ask(&prompt).map_err(|e| match e {
            SecretError::NotGiven => Failure::interrupted(),
            e => Failure::new(ErrorCode::LoginNeeded, e.to_string()),
        })?;
        self.settings.password = Some(password);
        self.typed = true;
        Ok(())
    }

    /// Whether a password may go over the line to this address.
    fn check_line(&mut self, addr: SocketAddr) -> Result<(), Failure> {
        if self.settings.security.insecure
            || self.is_encrypted(addr)
            || addr.ip().to_canonical().is_loopback()
        {
            return Ok(());
        }
        let message = format!(
            "the line to {addr} is not encrypted, and no password goes over it; --insecure sends it all the same"
        );
        Err(Failure::new(ErrorCode::LoginNeeded, message))
    }

    /// Where some server is to log in at.
    fn find_somebody(&mut self) -> Result<SocketAddr, Failure> {
        let mut why = "the name has no address".to_owned();
        let hosts: Vec<Host> = self.master.iter().chain([&self.settings.host]).cloned().collect();
        for host in hosts {
            match host.addresses() {
                Err(e) => why = plain(&e),
                Ok(addrs) => {
                    for addr in addrs {
                        match self.dial(addr, Some(&host.name), BRIEF) {
                            Ok(_) => return Ok(addr),
                            Err(Trouble::Stopped(failure)) => return Err(failure),
                            Err(trouble) => why = trouble.into_failure(addr).message,
                        }
                    }
                }
            }
        }
        Err(Failure::new(
            ErrorCode::Unreachable,
            format!("{} cannot be reached: {why}", self.settings.host),
        ))
    }

    fn enter_once(&mut self) -> Result<Entered, Failure> {
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
        if self.settings.password.is_some() {
            let message = format!(
                "{host} is a slave, and a password is given to its master alone: connect to {address}"
            );
            return Err(Failure::new(ErrorCode::LoginNeeded, message));
        }
        let master: Host = address
            .parse()
            .map_err(|e| Failure::bad_server(format!("{host} names a bad master: {e}")))?;
        match self.knock(&master)? {
            Entered::Redirected(route) => {
                self.master = Some(master);
                Ok(Entered::Redirected(route))
            }
            Entered::AskMaster(_) => Err(circle(&master.to_string())),
            Entered::Session(_) => Err(Failure::bad_server(format!(
                "{host} names {master} as its master, which is none"
            ))),
        }
    }

    /// Logs in at the first address of `host` that answers.
    fn knock(&mut self, host: &Host) -> Result<Entered, Failure> {
        let unreachable = |why: String| {
            Failure::new(ErrorCode::Unreachable, format!("{host} cannot be reached: {why}"))
        };
        let addrs = host.addresses().map_err(|e| unreachable(plain(&e)))?;
        let mut failure = unreachable("the name has no address".to_owned());
        // Without the master there are still the slaves that it named.
        let patience = if self.route.is_some() || addrs.len() > 1 { BRIEF } else { FULL };
        for addr in addrs {
            let trouble = match self.log_in(addr, &host.name, patience) {
                Ok(entered) => return Ok(entered),
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Refused(refusal) => return Err(refusal.into()),
                Trouble::Gone(why) if failure.code == ErrorCode::Unreachable => {
                    failure = unreachable(why)
                }
                Trouble::Gone(_) => {}
                Trouble::Stopped(stopped) if stopped.code == ErrorCode::NotTrusted => {
                    return Err(stopped);
                }
                Trouble::Bad(_) | Trouble::Stopped(_) | Trouble::Elsewhere(_) => {
                    failure = trouble.into_failure(addr)
                }
            }
            if self.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
        }
        Err(failure)
    }

    fn log_in(
        &mut self,
        addr: SocketAddr,
        name: &str,
        patience: Patience,
    ) -> Result<Entered, Trouble> {
        match self.log_in_once(addr, name, patience) {
            Err(Trouble::Refused(refusal))
                if refusal.code == ErrorCode::TlsNeeded && self.encrypt_from_now() =>
            {
                self.log_in_once(addr, name, patience)
            }
            other => other,
        }
    }

    fn log_in_once(
        &mut self,
        addr: SocketAddr,
        name: &str,
        patience: Patience,
    ) -> Result<Entered, Trouble> {
        let mut connection = self.dial(addr, Some(name), patience)?;
        if self.settings.password.is_some() {
            self.check_line(addr).map_err(Trouble::Stopped)?;
            self.may_tell_password(&connection).map_err(Trouble::Stopped)?;
        }
        self.told.greet(&mut connection, &self.notices);
        let login = Login {
            user: self.settings.user.clone(),
            password: self.settings.password.clone().unwrap_or_default(),
            mark: self.told.mark(),
            avoid: self.avoid.ids(Instant::now()),
            prefer: self.preferred(),
        };
        let (welcome, answer) =
            greet::log_in(&mut connection, &login, &mut queue_notice(&self.notices))?;
        let authority = authority_of(&connection);
        match (welcome.role, answer) {
            (ServerRole::Master, Answer::Redirect { ticket, mark, slaves }) => {
                self.enter_at_the_source(welcome.cluster, authority, mark);
                let cluster = welcome.cluster;
                Ok(Entered::Redirected(Route { cluster, authority, ticket, slaves }))
            }
            (ServerRole::Standalone, Answer::Opened { slave, mark }) => {
                self.enter_at_the_source(welcome.cluster, authority, mark);
                // What an earlier run has seen is told with the first request: only now it is known whose server this is.
                Ok(Entered::Session(Box::new(self.opened_at(
                    connection,
                    slave,
                    welcome,
                    login.mark.max(mark),
                ))))
            }
            (ServerRole::Slave, Answer::AskMaster(address)) => Ok(Entered::AskMaster(address)),
            (role, _) => {
                Err(Trouble::Bad(format!("its answer to a login does not fit its role ({role:?})")))
            }
        }
    }
}

/// The failure of a login without a user, with the option that names one.
fn without_user(failure: &Failure) -> Failure {
    Failure::new(failure.code, format!("{failure}; name a user with -u USER"))
}

/// Tells the user once where a server lets the session wait for its turn.
pub(super) fn queue_notice(notices: &Notices) -> impl FnMut(WaitReason) + use<> {
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
    use ErrorCode::{Behind, Busy, Draining, NoSlave, TimedOut, Unreachable};
    matches!(code, Unreachable | NoSlave | Busy | Draining | TimedOut | Behind)
}

fn circle(place: &str) -> Failure {
    Failure::bad_server(format!("{place} redirects in a circle"))
}
