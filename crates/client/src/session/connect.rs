//! Finding a server: the named host, its master and the slaves that the master names, with retries.

use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;
use relais_net::Host;
use relais_proto::{ErrorCode, Login, Lsn, Reply, Request, ServerRole, limits};
use relais_secret::SecretError;
use relais_transfer::{Failover, Fault};
use rustyline::error::ReadlineError;
use rustyline::{Behavior, DefaultEditor};

use super::handshake::{Timeouts, into_failure};
use super::state::{OpenSession, Session, authority_of};
use crate::error::plain;
use crate::notices::Notices;
use crate::route::Route;
use crate::saved_state::SavedState;
use crate::{Failure, Result};

/// Timeouts for a server without an alternative.
pub(super) const FULL_TIMEOUTS: Timeouts =
    Timeouts { connect: limits::CONNECT_TIME, silence: limits::SILENCE };
/// Timeouts for a server with alternatives.
///
/// A hanging host must not use up the retry time. A server that makes a client wait says so every
/// second.
pub(super) const SHORT_TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(2), silence: Duration::from_millis(2500) };
/// How long an unreachable master is tried last.
const AWAY_TIME: Duration = Duration::from_secs(5);

/// The result of a login.
pub(super) enum LoginOutcome {
    Session(Box<OpenSession>),
    Redirected(Route),
    AskMaster(String),
}

impl Session {
    /// Opens a session with any server and retries until `--retry` is over.
    ///
    /// # Errors
    /// The failure of the last try, or the user interrupted.
    pub(super) fn connect_with_retry(&mut self) -> Result<OpenSession> {
        let mut failover = Failover::connecting(self.settings.retry, Instant::now());
        loop {
            let result = self.try_servers();
            if self.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
            let failure = match result {
                Ok(open) => return Ok(open),
                Err(failure) => failure,
            };
            let Some(pause) = failover.next_round(failure.code, Instant::now()) else {
                return Err(failure);
            };
            debug!("retrying: {failure}");
            if self.interrupt.pause(pause) {
                return Err(Failure::interrupted());
            }
        }
    }

    /// Tries each known server once.
    fn try_servers(&mut self) -> Result<OpenSession> {
        // A master that was unreachable a moment ago is tried after the slaves that it named.
        let tried = if self.master_is_away() { self.route.clone() } else { None };
        if let Some(route) = &tried
            && let Ok(open) = self.connect_to_slave(route, None)
        {
            return Ok(open);
        }
        match self.log_in() {
            Ok(LoginOutcome::Session(open)) => Ok(*open),
            Ok(LoginOutcome::Redirected(route)) => {
                self.master_away = None;
                let result = self.connect_to_slave(&route, None);
                self.set_route(route);
                result
            }
            Ok(LoginOutcome::AskMaster(address)) => Err(redirect_loop(&address)),
            Err(failure) if failure.code == ErrorCode::Unreachable => {
                self.master_away = Some(Instant::now());
                // The master is unreachable; the slaves that it named last may still answer.
                match self.known_route() {
                    Some(route) if tried.is_none() => {
                        self.connect_to_slave(&route, None).map_err(|_| failure)
                    }
                    _ => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// Returns the slaves that the master named last, perhaps to an earlier run of this client.
    fn known_route(&mut self) -> Option<Route> {
        if self.route.is_none()
            && let Some(route) = self.saved.as_mut().and_then(SavedState::route)
        {
            let master = self.master.as_ref().unwrap_or(&self.settings.host);
            say!(
                self.notices,
                "the master at {master} cannot be reached; \
                 continuing with the slaves that it named before"
            );
            self.observed.reset();
            self.enter_cluster(route.cluster, route.authority, Lsn::default());
            self.route = Some(route);
        }
        self.route.clone()
    }

    /// Stores the newest redirect of the master.
    pub(super) fn set_route(&mut self, route: Route) {
        if let Some(saved) = &mut self.saved {
            saved.set_route(&route);
        }
        self.route = Some(route);
    }

    /// Whether the master could not be reached during the last [`AWAY_TIME`].
    pub(super) fn master_is_away(&self) -> bool {
        self.master_away.is_some_and(|since| since.elapsed() < AWAY_TIME)
    }

    /// Logs in at the named host, or at the master that a slave there names.
    ///
    /// If a typed password is wrong, the client asks for it again.
    pub(super) fn log_in(&mut self) -> Result<LoginOutcome> {
        let mut tries = 1;
        loop {
            let failure = match self.log_in_once() {
                Ok(entered) => {
                    self.has_logged_in |= !matches!(entered, LoginOutcome::AskMaster(_));
                    return Ok(entered);
                }
                Err(failure) => self.explain_login(failure, tries),
            };
            match failure.code {
                ErrorCode::LoginNeeded if self.settings.user.is_empty() => {
                    let Some(user) = ask_user(&self.settings.host, &self.notices)? else {
                        return Err(failure.and("name a user with -u USER"));
                    };
                    if let Some(saved) = &mut self.saved {
                        saved.set_user(&user);
                    }
                    self.settings.user = user;
                }
                ErrorCode::LoginRefused if self.typed => {
                    self.settings.password = None;
                    if tries == limits::LOGIN_TRIES {
                        return Err(failure);
                    }
                    self.notices.say(&failure.to_string());
                    tries += 1;
                }
                _ => return Err(failure),
            }
        }
    }

    /// Says what a refusal means after an accepted login of the same user and password.
    fn explain_login(&self, failure: Failure, tries: u32) -> Failure {
        if failure.code != ErrorCode::LoginRefused || !self.has_logged_in || tries > 1 {
            return failure;
        }
        failure!(
            LoginRefused,
            "the login has ended: the account was removed, or has another password"
        )
    }

    /// Asks for the password.
    fn ask_password(&mut self) -> Result<()> {
        let prompt = format!("Password of {} at {}: ", self.settings.user, self.settings.host);
        let password = relais_secret::ask(&prompt).map_err(|e| match e {
            SecretError::NotGiven => Failure::interrupted(),
            e => failure!(LoginNeeded, "{e}"),
        })?;
        self.settings.password = Some(password);
        self.typed = true;
        Ok(())
    }

    /// Checks that a password may be sent over the connection to this address.
    fn check_password_transport(&mut self, addr: SocketAddr) -> Result<()> {
        if self.settings.insecure
            || self.is_encrypted(addr)
            || addr.ip().to_canonical().is_loopback()
        {
            return Ok(());
        }
        fail!(
            LoginNeeded,
            "the connection to {addr} is not encrypted, so no password is sent; --insecure sends it"
        )
    }

    fn log_in_once(&mut self) -> Result<LoginOutcome> {
        if let Some(master) = self.master.clone() {
            match self.log_in_at_host(&master) {
                Err(failure) if failure.code == ErrorCode::Unreachable => {}
                other => return other,
            }
        }
        let host = self.settings.host.clone();
        let address = match self.log_in_at_host(&host)? {
            LoginOutcome::AskMaster(address) => address,
            entered => return Ok(entered),
        };
        if self.settings.password.is_some() {
            fail!(
                LoginNeeded,
                "{host} is a slave, and only its master accepts passwords: connect to {address}"
            );
        }
        let master: Host =
            address.parse().map_err(|e| failure!(BadServer, "{host} names a bad master: {e}"))?;
        match self.log_in_at_host(&master)? {
            LoginOutcome::Redirected(route) => {
                self.master = Some(master);
                Ok(LoginOutcome::Redirected(route))
            }
            LoginOutcome::AskMaster(_) => Err(redirect_loop(&master.to_string())),
            LoginOutcome::Session(_) => Err(failure!(
                BadServer,
                "{host} names {master} as its master, but it is not a master"
            )),
        }
    }

    /// Logs in at the first address of `host` that answers.
    fn log_in_at_host(&mut self, host: &Host) -> Result<LoginOutcome> {
        let unreachable = |why: String| failure!(Unreachable, "{host} cannot be reached: {why}");
        let addrs = host.addresses().map_err(|e| unreachable(plain(&e)))?;
        let mut failure = unreachable("the name has no address".to_owned());
        // If the master fails, the slaves that it named are still there.
        let timeouts =
            if self.route.is_some() || addrs.len() > 1 { SHORT_TIMEOUTS } else { FULL_TIMEOUTS };
        for addr in addrs {
            let attempt =
                |session: &mut Self| session.log_in_at_address(addr, &host.name, timeouts);
            let fault = match self.encrypting(attempt) {
                Ok(entered) => return Ok(entered),
                Err(fault) => fault,
            };
            match fault {
                Fault::Refused(refusal) => return Err(refusal.into()),
                Fault::Fatal(error) => return Err(error.into()),
                Fault::Lost(why) if failure.code == ErrorCode::Unreachable => {
                    failure = unreachable(why)
                }
                Fault::Lost(_) => {}
                fault => failure = into_failure(fault, addr),
            }
            if self.interrupt.is_raised() {
                return Err(Failure::interrupted());
            }
        }
        Err(failure)
    }

    /// Repeats an attempt with encryption, if the server demands it.
    pub(super) fn encrypting<T>(
        &mut self,
        attempt: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        match attempt(self) {
            Err(Fault::Refused(refusal))
                if refusal.code == ErrorCode::TlsNeeded && self.encrypt_from_now() =>
            {
                attempt(self)
            }
            other => other,
        }
    }

    fn log_in_at_address(
        &mut self,
        addr: SocketAddr,
        name: &str,
        timeouts: Timeouts,
    ) -> Result<LoginOutcome, Fault> {
        let mut connection = self.dial(addr, Some(name), timeouts)?;
        if self.settings.password.is_some() || !self.settings.user.is_empty() {
            // The check comes first, so that the user does not type a password that is not sent.
            self.check_password_transport(addr)?;
            if self.settings.password.is_none() {
                // A server closes a connection on which a user types for long.
                drop(connection);
                self.ask_password()?;
                connection = self.dial(addr, Some(name), timeouts)?;
            }
            self.check_authority_saved(&connection)?;
        }
        let login = Login {
            user: self.settings.user.clone(),
            password: self.settings.password.clone().unwrap_or_default(),
            lsn: self.observed.lsn(),
            avoid: self.avoid.ids(Instant::now()),
            prefer: self.preferred(),
        };
        let shown = login.lsn;
        let (welcome, answer) = self.introduce(&mut connection, Request::Login(login))?;
        let authority = authority_of(&connection);
        match (welcome.role, answer) {
            (ServerRole::Master, Reply::Redirect { ticket, lsn, slaves }) => {
                if !self.enter_authoritative(welcome.cluster, authority, lsn, shown) {
                    return self.log_in_at_address(addr, name, timeouts);
                }
                let cluster = welcome.cluster;
                Ok(LoginOutcome::Redirected(Route { cluster, authority, ticket, slaves }))
            }
            (ServerRole::Standalone, Reply::Opened { slave, lsn, .. }) => {
                if !self.enter_authoritative(welcome.cluster, authority, lsn, shown) {
                    return self.log_in_at_address(addr, name, timeouts);
                }
                // The first request tells the server the LSN of earlier runs: the cluster is known
                // only now.
                Ok(LoginOutcome::Session(Box::new(self.wrap_session(
                    connection,
                    slave,
                    welcome,
                    shown.max(lsn),
                ))))
            }
            (ServerRole::Slave, Reply::AskMaster(address)) => Ok(LoginOutcome::AskMaster(address)),
            (role, _) => Err(Fault::Violation(format!(
                "its reply to a login does not fit its role ({role:?})"
            ))),
        }
    }
}

/// Asks for the user name at the process's terminal; returns none without a terminal.
///
/// # Errors
/// The user pressed Ctrl-C or Ctrl-D, or the terminal cannot be used.
fn ask_user(host: &Host, notices: &Notices) -> Result<Option<String>> {
    if File::open("/dev/tty").is_err() {
        return Ok(None);
    }
    say!(notices, "{host} has accounts; log in as one of its users");
    let failed = |error: ReadlineError| match error {
        ReadlineError::Interrupted | ReadlineError::Eof => Failure::interrupted(),
        other => failure!(LoginNeeded, "no user name was read: {other}"),
    };
    let config = rustyline::Config::builder().behavior(Behavior::PreferTerm).build();
    let mut editor = DefaultEditor::with_config(config).map_err(failed)?;
    loop {
        let typed = editor.readline("User: ").map_err(failed)?;
        let name = typed.trim();
        if name.len() > limits::USER || name.contains(char::is_control) {
            notices.say("that name is too long or holds a control character");
        } else if !name.is_empty() {
            return Ok(Some(name.to_owned()));
        }
    }
}

fn redirect_loop(place: &str) -> Failure {
    failure!(BadServer, "{place} redirects in a circle")
}
